"""Dagster's storage in files and in PostgreSQL: connections and the server's CPU time a run, and latency.

`python -m pipeline_assets_tests.benchmarks.bench_storage [SYMBOLS [RUNS]]`. 1m ingest runs on a warm worker,
one after the other and without sensors, with each storage. One line of JSON. The server's CPU time includes
the queries of the daemon and the web server while a run goes on.
"""

import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psutil
from pydantic import SecretStr

from pipeline_assets_tests.benchmarks.harness import median, report
from pipeline_assets_tests.benchmarks.product import Timings, running_product
from pipeline_assets_tests.fixtures.postgres import PostgresServer, running_postgres

SYMBOLS, RUNS, WARM_UP = 100, 12, 3
JOB, SLOTS_STEP = "tick_1m", "candle_slots_1m"
MOST_CONNECTIONS, MOST_CPU = 5, 0.2


@dataclass
class Used:
    """PostgreSQL's counts: by run connections opened and CPU seconds; and all connections at the end."""

    opened_by_stack: int = 0
    held: int = 0
    connections: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


class Meter:
    """Reads what a server has counted since its start."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server

    def read(self) -> tuple[int, float]:
        """Return connections opened to Dagster's database, and CPU seconds of all processes."""
        assert self.server.process is not None
        counted = "SELECT sum(sessions) FROM pg_stat_database WHERE datname = 'postgres'"
        [(sessions,)] = self.server.execute(counted, database="template1")
        parent = psutil.Process(self.server.process.pid)
        own, used = parent.cpu_times(), 0.0
        for each in parent.children():
            # A connection of the meter's own ends just now, and its process.
            with suppress(psutil.NoSuchProcess):
                times = each.cpu_times()
                used += times.user + times.system
        ended = own.children_user + own.children_system
        return int(sessions or 0), own.user + own.system + ended + used


def measured(
    symbols: int, runs: int, url: SecretStr | None, meter: Meter | None
) -> tuple[list[Timings], Used]:
    """Return the timings of the runs after the first ones, and what PostgreSQL counted of each."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today + timedelta(minutes=20, seconds=5)
    found, used = [], Used()
    with running_product(symbols, first, sensors=False, storage_url=url) as product:
        product.stop_sensors()
        for number in range(runs + WARM_UP):
            product.set_clock(first + timedelta(minutes=number))
            before = meter.read() if meter else (0, 0.0)
            found.append(product.measured_run(JOB, first.date()))
            after = meter.read() if meter else (0, 0.0)
            used.connections.append(after[0] - before[0])
            used.cpu.append(after[1] - before[1])
        if meter:
            held = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'postgres'"
            [(used.held,)] = meter.server.execute(held, database="template1")
            used.opened_by_stack = meter.read()[0]
    used.connections, used.cpu = used.connections[WARM_UP:], used.cpu[WARM_UP:]
    return found[WARM_UP:], used


def main() -> int:
    symbols, runs = (*map(int, sys.argv[1:3]), *(SYMBOLS, RUNS)[len(sys.argv[1:3]) :])
    files, _ = measured(symbols, runs, None, None)
    with running_postgres("benchmark") as server:
        database, used = measured(symbols, runs, server.url(), Meter(server))
    start = {
        name: median([run.first_step for run in found])
        for name, found in (("files", files), ("postgres", database))
    }
    met = report(
        f"storage_{symbols}",
        median(used.cpu),
        "CPU s of PostgreSQL a run",
        MOST_CPU,
        ratio=start["postgres"] / start["files"],
        against="seconds from launchRun to the first step, with Dagster's storage in files",
        met=median(used.cpu) <= MOST_CPU and max(used.connections) <= MOST_CONNECTIONS,
        runs=runs,
        connections_a_run=median(used.connections),
        connections_worst=max(used.connections),
        connections_of_the_stack=used.opened_by_stack,
        connections_held=used.held,
        cpu_worst=max(used.cpu),
        first_step=start,
        slots={
            "files": median([run.steps[SLOTS_STEP][1] for run in files]),
            "postgres": median([run.steps[SLOTS_STEP][1] for run in database]),
        },
        run_cpu={
            "files": median([run.usage.cpu for run in files]),
            "postgres": median([run.usage.cpu for run in database]),
        },
        daemon_cpu={
            "files": median([run.others_cpu["daemon"] for run in files]),
            "postgres": median([run.others_cpu["daemon"] for run in database]),
        },
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
