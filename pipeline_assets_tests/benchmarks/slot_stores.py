"""The stores that bench_clickhouse compares, behind one interface. The SQL is in clickhouse_store.py."""

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline_assets.resources.slots import CandleSlots, slot_key, state_key
from pipeline_assets_tests.benchmarks.clickhouse_store import (
    KEEP_SECONDS,
    ClickHouseServer,
    ClickHouseSlots,
    chdb_server,
    clickhouse_server,
    slot_rows,
)
from pipeline_assets_tests.fixtures.redis import RedisServer

if TYPE_CHECKING:
    import polars as pl


class Store(Protocol):
    """The slots in one store, with its server."""

    name: str

    def start(self) -> None:
        """Start the server again; return when it answers."""

    def kill(self) -> None:
        """End the server without warning."""

    def pid(self) -> int: ...

    def write(self, candles: "pl.DataFrame") -> None:
        """Write by the rules of the slots."""

    def insert(self, candles: "pl.DataFrame") -> None:
        """Write candles that are newer than what the slots hold, without comparing them."""

    def read(self, symbols: list[str]) -> "pl.DataFrame":
        """Return what the slots of one symbol or of all hold, sorted by symbol and open time."""

    def marked(self) -> int:
        """Return how many symbols' indicator states are marked."""

    def write_expiring(self, candles: "pl.DataFrame") -> float:
        """Replace all by candles that expire soon; return when (seconds since the epoch)."""

    def stored(self) -> int:
        """Return how much the server holds, readable or not."""

    def marks_lost(self, late: "pl.DataFrame", newer: "pl.DataFrame") -> int:
        """Write a late candle while another writer writes a newer one; return the marks that are missing.

        The order is the worst one: the other writer comes after the last moment at which the writer of the
        late candle can notice.
        """


class RedisStore:
    """The product's own slots on the embedded server, through redis-py with hiredis."""

    def __init__(self, directory: Path) -> None:
        self._server = RedisServer(directory)
        self._server.start()
        self._client = self._server.client()
        self._slots = CandleSlots(self._server.settings(retry_seconds=30))
        self.name = f"Valkey {self._client.info('server')['valkey_version']}"
        self.start, self.kill = self._server.start, self._server.kill
        self.read = self._slots.read

    def pid(self) -> int:
        assert self._server.process is not None
        return self._server.process.pid

    def write(self, candles: "pl.DataFrame") -> None:
        self._slots.write(candles)

    def insert(self, candles: "pl.DataFrame") -> None:
        import polars as pl

        rows = slot_rows(candles).select(
            "symbol", "slot", value=pl.struct(pl.exclude("symbol", "slot")).struct.json_encode()
        )
        pipeline = self._client.pipeline(transaction=False)
        for symbol, slot, value in rows.iter_rows():
            pipeline.hset(slot_key(symbol), slot, value)
        pipeline.execute()

    def marked(self) -> int:
        return len(self._client.keys(state_key("*").replace("{*}", "*")))

    def write_expiring(self, candles: "pl.DataFrame") -> float:
        self._client.flushall()
        self.write(candles)
        expires = int(1000 * time.time()) + 300
        pipeline = self._client.pipeline(transaction=False)
        for symbol in candles["symbol"].unique():
            pipeline.pexpireat(slot_key(symbol), expires)
        pipeline.execute()
        return expires / 1000

    def stored(self) -> int:
        return int(self._client.dbsize())

    def marks_lost(self, late: "pl.DataFrame", newer: "pl.DataFrame") -> int:
        # The script compares and writes in one step: another writer comes before it or after it.
        before = self.marked()
        self.write(newer)
        self.write(late)
        return before + late["symbol"].n_unique() - self.marked()


class ClickHouseStore:
    """The slots in ClickHouse, as far as SQL keeps their rules."""

    def __init__(self, product: str, server: ClickHouseServer) -> None:
        self._server = server
        server.start()
        self._slots = ClickHouseSlots(server)
        self.name = f"{product} {server.send('SELECT version()').decode().strip()}"
        self.start, self.kill = server.start, server.kill
        self.write, self.read = self._slots.write, self._slots.read
        self.marked, self.stored = self._slots.marked, self._slots.stored

    def pid(self) -> int:
        assert self._server.process is not None
        return self._server.process.pid

    def insert(self, candles: "pl.DataFrame") -> None:
        self._slots.insert(slot_rows(candles))

    def write_expiring(self, candles: "pl.DataFrame") -> float:
        self._slots.clear()
        expires = int(time.time()) + 2
        self._slots.insert(slot_rows(candles), written=expires - KEEP_SECONDS)
        return float(expires)

    def marks_lost(self, late: "pl.DataFrame", newer: "pl.DataFrame") -> int:
        before = self.marked()
        plan = self._slots.plan(late)
        self.write(newer)
        self._slots.apply(plan)
        return before + late["symbol"].n_unique() - self.marked()


def stores(directory: Path, ends: ExitStack) -> list[Store]:
    """Return Redis, and what BENCH_CLICKHOUSE and BENCH_CHDB name, started. `ends` kills their servers."""
    found: list[Store] = [RedisStore(directory / "redis")]
    ends.callback(found[0].kill)
    for variable, product, make in (
        ("BENCH_CLICKHOUSE", "ClickHouse", clickhouse_server),
        ("BENCH_CHDB", "chDB: ClickHouse", chdb_server),
    ):
        if command := os.environ.get(variable):
            server = make(command, directory / variable)
            ends.callback(server.kill)
            found.append(ClickHouseStore(product, server))
    return found
