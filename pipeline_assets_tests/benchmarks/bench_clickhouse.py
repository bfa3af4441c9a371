"""The work of the slots in Redis and in ClickHouse, both over a socket.

The product writes a minute of 500 symbols by the rules of their slots, reads the newest fifteen of one symbol
and of all, lets slots expire, and restarts. docs/decisions/clickhouse.md has the figures and the decision.

`BENCH_CLICKHOUSE` is the command of a ClickHouse server (`/usr/sbin/clickhouse-server`, or
`/usr/bin/clickhouse server`), and `BENCH_CHDB` a Python that has chDB. Without them the lines say that
ClickHouse was not measured. The stores take turns, so that a busy machine slows them alike.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from pipeline_assets.resources.slots import SLOTS
from pipeline_assets_tests.benchmarks.bench_slots import NOON, candles
from pipeline_assets_tests.benchmarks.harness import median, report
from pipeline_assets_tests.benchmarks.slot_stores import Store, stores

if TYPE_CHECKING:
    import polars as pl

NOT_MEASURED = "ClickHouse, not measured: BENCH_CLICKHOUSE and BENCH_CHDB name no server"
MINUTES, CORRECTIONS, INSERTS, READS = 30, 15, 15, 300
# Expired candles that a server still holds after so many seconds are counted, and not waited for.
HELD_SECONDS = 20
IDLE_SECONDS = 30.0


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time of a process so far."""
    times = process.cpu_times()
    return times.user + times.system


@dataclass
class Taken:
    """Milliseconds of each turn: by the clock, and of CPU on both sides of the socket."""

    wall: list[float] = field(default_factory=list)
    client_cpu: list[float] = field(default_factory=list)
    server_cpu: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        cpu = {"client_cpu": self.client_cpu, "server_cpu": self.server_cpu}
        # The kernel counts a server's CPU in ticks of 10 ms: only a mean over all turns says something.
        means = {name: sum(values) / len(values) for name, values in cpu.items()}
        return {"median": median(self.wall), "lowest": min(self.wall), **means}


def in_turns(
    compared: Sequence[Store], turns: int, run: Callable[[Store, int], object]
) -> dict[str, dict[str, float]]:
    """Run one operation `turns` times, each turn in one store after the other; return figures by store."""
    taken = {store.name: Taken() for store in compared}
    for turn in range(turns):
        for store in compared:
            server = psutil.Process(store.pid())
            server_began, client_began = cpu_seconds(server), time.process_time()
            began = time.perf_counter()
            run(store, turn)
            wall, client = time.perf_counter() - began, time.process_time() - client_began
            spent = cpu_seconds(server) - server_began
            each = taken[store.name]
            each.wall.append(1000 * wall)
            each.client_cpu.append(1000 * client)
            each.server_cpu.append(1000 * spent)
    return {name: each.figures() for name, each in taken.items()}


def line(what: str, unit: str, target: float, found: dict[str, dict[str, Any]], key: str) -> bool:
    """Report one measurement: the figure is that of Redis, and `stores` has those of all stores."""
    redis, *others = (each[key] for each in found.values())
    against = list(found)[1] if others else NOT_MEASURED
    ratio = redis / others[0] if others and others[0] else None
    return report(what, redis, unit, target, ratio=ratio, against=against, stores=found)


def restarted(store: Store, symbols: list[str]) -> dict[str, float]:
    """Kill and start the server; return the time until slots can be read, and how many candles are left."""
    store.kill()
    began = time.perf_counter()
    store.start()
    store.read(symbols[:1])
    taken = 1000 * (time.perf_counter() - began)
    return {"readable_ms": taken, "candles_left": store.read(symbols).height}


def expired(store: Store, written: "pl.DataFrame", symbols: list[str]) -> dict[str, float | None]:
    """Time from the end of the slots' life until no reader gets them, and until the server holds none."""
    ends = store.write_expiring(written)
    while store.read(symbols).height:
        time.sleep(0.005)
    readable = 1000 * (time.time() - ends)
    while (held := store.stored()) and time.time() < ends + HELD_SECONDS:
        time.sleep(0.05)
    return {
        "readable_ms": max(0.0, readable),
        "held_ms": None if held else 1000 * (time.time() - ends),
    }


def resident(compared: Sequence[Store]) -> dict[str, dict[str, float]]:
    """Return the resident memory of each server, in MB."""
    return {
        store.name: {"rss": psutil.Process(store.pid()).memory_info().rss / 1e6}
        for store in compared
    }


def idling(compared: Sequence[Store], seconds: float) -> dict[str, dict[str, float]]:
    """Return the CPU that each server spends without a client, in milliseconds a minute."""
    processes = {store.name: psutil.Process(store.pid()) for store in compared}
    before = {name: cpu_seconds(process) for name, process in processes.items()}
    time.sleep(seconds)
    a_minute = 60_000 / seconds
    return {
        name: {"cpu": a_minute * (cpu_seconds(process) - before[name])}
        for name, process in processes.items()
    }


def measure(
    compared: Sequence[Store], every: "pl.DataFrame", reads: int, idle_seconds: float
) -> list[bool]:
    """Print all lines of `compared`, Redis first; return whether Redis met the targets.

    Args:
        compared: the stores, empty.
        every: 61 minutes of each symbol.
        reads: how often one symbol is read: ten times as often as all are.
        idle_seconds: how long the servers idle.
    """
    import polars as pl

    symbols = every["symbol"].unique(maintain_order=True).to_list()
    count = f"{len(symbols)} symbols"

    def minutes(first: int, end: int) -> pl.DataFrame:
        opened = pl.col("open_time")
        begin = NOON + timedelta(minutes=first)
        return every.filter(opened >= begin, opened < NOON + timedelta(minutes=end))

    idle = resident(compared)
    for store in compared:
        store.write(minutes(0, SLOTS))
    windows = [minutes(first, first + SLOTS) for first in range(1, MINUTES + 1)]
    written = in_turns(compared, MINUTES, lambda store, turn: store.write(windows[turn]))
    newest = pl.col("open_time") == pl.col("open_time").max()
    corrected = [
        windows[-1].with_columns(pl.when(newest).then(pl.col("close") + turn).otherwise("close"))
        for turn in range(1, CORRECTIONS + 1)
    ]
    marking = in_turns(compared, CORRECTIONS, lambda store, turn: store.write(corrected[turn]))
    one = in_turns(compared, reads, lambda store, turn: store.read([symbols[turn % len(symbols)]]))
    everything = in_turns(compared, reads // 10, lambda store, _: store.read(symbols))
    check(compared, corrected[-1], minutes(0, SLOTS))
    new = [minutes(MINUTES + SLOTS + turn, MINUTES + SLOTS + turn + 1) for turn in range(INSERTS)]
    inserted = in_turns(compared, INSERTS, lambda store, turn: store.insert(new[turn]))
    filled = resident(compared)
    resting = idling(compared, idle_seconds)
    restarts = {store.name: restarted(store, symbols) for store in compared}
    expiries = {store.name: expired(store, windows[-1], symbols) for store in compared}
    of_one = every.head(SLOTS).with_columns(symbol=pl.lit("LATEUSDT"))
    lost = {}
    for store in compared:
        store.write(of_one.head(SLOTS - 2))
        lost[store.name] = {"marks": store.marks_lost(of_one[-2:-1], of_one[-1:])}
    by_median = partial(line, unit="ms", key="median")
    return [
        by_median(
            f"{count}, a minute written by the rules of the slots", target=100, found=written
        ),
        by_median(f"{count}, a corrected candle each, states marked", target=100, found=marking),
        by_median(f"{count}, new candles alone, not compared", target=100, found=inserted),
        by_median("fifteen candles of one symbol", target=5, found=one),
        by_median(f"fifteen candles of {count}", target=120, found=everything),
        line("slots expired, until no reader gets them", "ms", 100, expiries, "readable_ms"),
        line("server killed and started, to the first slots", "ms", 2000, restarts, "readable_ms"),
        line("resident memory, empty", "MB", 50, idle, "rss"),
        line(f"resident memory after the writes of {count}", "MB", 100, filled, "rss"),
        line("CPU of an idle server, a minute", "ms", 500, resting, "cpu"),
        line("marks that two writers at once lose", "marks", 0, lost, "marks"),
    ]


def check(compared: Sequence[Store], newest: "pl.DataFrame", older: "pl.DataFrame") -> None:
    """Fail if older candles replace newer ones, or a store holds anything but the newest."""
    symbols = newest["symbol"].unique().to_list()
    for store in compared:
        store.write(older)
        held = store.read(symbols)
        assert held.equals(newest.sort("symbol", "open_time")), store.name
        assert store.marked() == len(symbols), store.name


def main() -> int:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as ends:
        compared = stores(Path(directory), ends)
        return 0 if all(measure(compared, candles(), READS, IDLE_SECONDS)) else 1


if __name__ == "__main__":
    sys.exit(main())
