"""The slots of candles in ClickHouse, for bench_clickhouse: the server, and the rules of the slots as SQL.

The measurements are in bench_clickhouse.py. Nothing here imports a ClickHouse client: the server's HTTP
interface takes SQL in the address and rows in the body, and returns rows as `RowBinary`.
"""

import http.client
import shlex
import subprocess
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline_assets.market.candles import CANDLE_COLUMNS, TIME_COLUMNS, candle_schema
from pipeline_assets.resources.slots import SLOTS, SPAN
from pipeline_assets_tests.fixtures.redis import die_with_the_tests, free_port

if TYPE_CHECKING:
    import polars as pl

START_SECONDS = 60
SYMBOL_BYTES = 32
KEEP_SECONDS = 1800
INTEGERS = (*TIME_COLUMNS, "trades")
# ReplacingMergeTree keeps the row of the greatest version in each key, and of two with the same version
# the one inserted later: a slot's open time never decreases, for readers that say FINAL.
SLOTS_TABLE = f"""
CREATE TABLE slots (
    symbol FixedString({SYMBOL_BYTES}), slot UInt8,
    {", ".join(f"{c} {'UInt64' if c in INTEGERS else 'Float64'}" for c in CANDLE_COLUMNS[1:])},
    written DateTime DEFAULT now()
) ENGINE = ReplacingMergeTree(open_time) ORDER BY (symbol, slot)
"""
# A row's time to live, not a key's. A merge removes the row, some time later: readers filter as well.
TTL = f" TTL written + INTERVAL {KEEP_SECONDS} SECOND"
ALIVE = f"written > now() - {KEEP_SECONDS}"
# Settings of a table follow its TTL. One symbol's fifteen rows are a small part of a default granule.
GRANULES = " SETTINGS index_granularity = 128"
MARKS_TABLE = f"""
CREATE TABLE marks (symbol FixedString({SYMBOL_BYTES}), changed UInt64)
ENGINE = MergeTree ORDER BY symbol
"""
ROW_COLUMNS = ("symbol", "slot", *CANDLE_COLUMNS[1:])
FIELDS = [(column, "<u8" if column in INTEGERS else "<f8") for column in CANDLE_COLUMNS[1:]]
CANDLE = np.dtype([("symbol", f"S{SYMBOL_BYTES}"), *FIELDS])
ROW = np.dtype([("symbol", f"S{SYMBOL_BYTES}"), ("slot", "u1"), *FIELDS])
ROW_WRITTEN = np.dtype([*ROW.descr, ("written", "<u4")])
MARK = np.dtype([("symbol", f"S{SYMBOL_BYTES}"), ("changed", "<u8")])
CONFIG = """<yandex>
<logger><level>warning</level><console>true</console></logger>
<listen_host>127.0.0.1</listen_host><http_port>{port}</http_port>
<path>{directory}/data/</path><tmp_path>{directory}/tmp/</tmp_path>
<mark_cache_size>5368709120</mark_cache_size><keep_alive_timeout>3600</keep_alive_timeout>
<users_config>{directory}/users.xml</users_config>
<default_profile>default</default_profile><default_database>default</default_database>
</yandex>
"""
USERS = """<yandex><profiles><default/></profiles><quotas><default/></quotas>
<users><default><password></password><networks><ip>127.0.0.1</ip></networks>
<profile>default</profile><quota>default</quota></default></users></yandex>
"""


class ClickHouseError(Exception):
    """The server refused a statement, or does not start. The message is the server's."""


class ClickHouseServer:
    """One server process of a ClickHouse that is installed outside this project."""

    def __init__(self, directory: Path, port: int, command: list[str]) -> None:
        self.directory, self.port, self.command = directory, port, command
        self.process: subprocess.Popen[bytes] | None = None
        self._connection: http.client.HTTPConnection | None = None

    def start(self) -> None:
        """Start the server; return when it answers.

        Raises:
            ClickHouseError: the server ended, or did not answer in time.
        """
        log = self.directory / "log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                stdout=output,
                stderr=output,
                preexec_fn=die_with_the_tests,  # noqa: PLW1509  no thread has started
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.send("SELECT 1")
            except OSError:
                time.sleep(0.01)
            else:
                return
        raise ClickHouseError(f"{shlex.join(self.command)} does not start: {log.read_text()}")

    def kill(self) -> None:
        """End the server without warning."""
        self._connection = None
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def send(self, statement: str, rows: bytes = b"") -> bytes:
        """Execute a statement over the open connection; return the body of the reply.

        Raises:
            ClickHouseError: the server refuses the statement.
        """
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, START_SECONDS)
        try:
            place = "/?" + urllib.parse.urlencode({"query": statement})
            self._connection.request("POST", place, rows)
            reply = self._connection.getresponse()
            body = reply.read()
        except (OSError, http.client.HTTPException):
            self._connection = None
            raise
        if reply.status != http.HTTPStatus.OK:
            raise ClickHouseError(f"{statement}: {body.decode(errors='replace')}")
        return body


def clickhouse_server(command: str, directory: Path) -> ClickHouseServer:
    """Return a server that `command` starts: the path of `clickhouse-server`, or `clickhouse server`."""
    port = free_port()
    for name in ("data", "tmp"):
        (directory / name).mkdir(parents=True)
    config = CONFIG.format(port=port, directory=directory)
    (directory / "config.xml").write_text(config, encoding="utf-8")
    (directory / "users.xml").write_text(USERS, encoding="utf-8")
    words = [*shlex.split(command), f"--config-file={directory}/config.xml"]
    return ClickHouseServer(directory, port, words)


def chdb_server(python: str, directory: Path) -> ClickHouseServer:
    """Return chDB's engine in a process of `python`, which has chDB, behind chdb_server.py."""
    port = free_port()
    directory.mkdir(parents=True)
    script = Path(__file__).with_name("chdb_server.py")
    return ClickHouseServer(directory, port, [python, str(script), str(directory), str(port)])


@dataclass(frozen=True)
class Plan:
    """The changes of a write, by what the slots held when they were read."""

    rows: "pl.DataFrame"
    marks: "pl.DataFrame"


def planned(candles: "pl.DataFrame", held: "pl.DataFrame") -> Plan:
    """Return the candles that change a slot, and the marks of indicator states, as write_slots.lua.

    A mark is a symbol and the oldest open time that replaces a candle of the same open time, or comes
    when a newer candle is there.
    """
    import polars as pl

    open_time = pl.col("open_time")
    offered = candles.filter(open_time > open_time.max().over("symbol") - SPAN)
    of_slots = held.select("symbol", slot_of(open_time), open_time.alias("held"))
    newest = held.group_by("symbol").agg(open_time.max().alias("newest"))
    changed = (
        offered.join(held, on=CANDLE_COLUMNS, how="anti")
        .with_columns(slot_of(open_time))
        .join(of_slots, on=["symbol", "slot"], how="left")
        .join(newest, on="symbol", how="left")
        .filter(pl.col("held").is_null() | (pl.col("held") <= open_time))
    )
    marks = (
        changed.filter((pl.col("held") == open_time) | (pl.col("newest") > open_time))
        .group_by("symbol", maintain_order=True)
        .agg(open_time.min().dt.epoch("ms").alias("changed"))
    )
    return Plan(slot_rows(changed), marks)


def slot_of(open_time: "pl.Expr") -> "pl.Expr":
    """Return the slot of an open time, as the column `slot`."""
    return (open_time.dt.epoch("s") // 60 % SLOTS).alias("slot")


def slot_rows(candles: "pl.DataFrame") -> "pl.DataFrame":
    """Return rows of the table of slots, times in milliseconds."""
    import polars as pl

    slot = slot_of(pl.col("open_time"))
    return candles.with_columns(slot, pl.col(TIME_COLUMNS).dt.epoch("ms")).select(ROW_COLUMNS)


class ClickHouseSlots:
    """The slots of all symbols in ClickHouse, by the rules of `CandleSlots` as far as SQL keeps them.

    Reading what is held, and the two INSERTs that follow, are three statements. Another writer may come
    between them: ClickHouse neither compares and writes in one step nor has a transaction over tables.
    """

    def __init__(self, server: ClickHouseServer) -> None:
        self.server = server
        self.has_ttl = True
        try:
            server.send(SLOTS_TABLE + TTL + GRANULES)
        except ClickHouseError as error:
            if "Syntax error" not in str(error):
                raise
            self.has_ttl = False
            server.send(SLOTS_TABLE + GRANULES)
        server.send(MARKS_TABLE)

    def write(self, candles: "pl.DataFrame") -> None:
        self.apply(self.plan(candles))

    def plan(self, candles: "pl.DataFrame") -> Plan:
        """Return the changes of a write, by what the slots hold now."""
        return planned(candles, self.read(candles["symbol"].unique().to_list()))

    def apply(self, plan: Plan) -> None:
        """Write a plan. Marks go first: a mark without its candle costs a rebuild, and loses nothing."""
        if plan.marks.height:
            self.server.send("INSERT INTO marks FORMAT RowBinary", encoded(plan.marks, MARK))
        self.insert(plan.rows)

    def insert(self, rows: "pl.DataFrame", written: int | None = None) -> None:
        """Insert rows of `ROW_COLUMNS` without comparing them.

        `written`, in seconds since the epoch, dates their writing back.
        """
        import polars as pl

        dtype = ROW
        if written is not None:
            rows, dtype = rows.with_columns(written=pl.lit(written)), ROW_WRITTEN
        if rows.height:
            columns = ", ".join(dtype.names or ())
            statement = f"INSERT INTO slots ({columns}) FORMAT RowBinary"
            self.server.send(statement, encoded(rows, dtype))

    def read(self, symbols: list[str]) -> "pl.DataFrame":
        """Return the newest candle of each slot, as a candle frame sorted by symbol and open time."""
        # A list of 500 names takes longer to compare than to leave out; the caller asks for all or one.
        one = f"symbol = toFixedString('{symbols[0]}', {SYMBOL_BYTES}) AND "
        where = (one if len(symbols) == 1 else "") + ALIVE
        columns = ", ".join(CANDLE_COLUMNS)
        statement = f"SELECT {columns} FROM slots FINAL WHERE {where} FORMAT RowBinary"
        return decoded(self.server.send(statement)).sort("symbol", "open_time")

    def marked(self) -> int:
        """Return how many symbols' indicator states are marked."""
        return int(self.server.send("SELECT uniqExact(symbol) FROM marks"))

    def clear(self) -> None:
        for table in ("slots", "marks"):
            self.server.send(f"TRUNCATE TABLE {table}")

    def stored(self) -> int:
        """Return how many rows the table holds, those included that no reader gets any more."""
        return int(self.server.send("SELECT count() FROM slots"))


def encoded(rows: "pl.DataFrame", dtype: np.dtype) -> bytes:
    """Return rows as RowBinary: fields of fixed size, one after the other."""
    array = np.empty(rows.height, dtype)
    assert dtype.names is not None
    for column in dtype.names:
        array[column] = rows[column].to_numpy()
    return array.tobytes()


def decoded(rows: bytes) -> "pl.DataFrame":
    """Return RowBinary of the candle columns as a candle frame."""
    import polars as pl

    array = np.frombuffer(rows, CANDLE)
    columns = {name: np.ascontiguousarray(array[name]) for name in CANDLE_COLUMNS[1:]}
    return pl.DataFrame({"symbol": array["symbol"].astype(f"U{SYMBOL_BYTES}"), **columns}).select(
        pl.from_epoch(name, time_unit="ms").cast(dtype)
        if name in TIME_COLUMNS
        else pl.col(name).cast(dtype)
        for name, dtype in candle_schema().items()
    )
