"""The cost of a run's start, with both launchers: a warm worker and a process a run.

`python -m pipeline_assets_tests.benchmarks.bench_launch [SYMBOLS [RUNS]]`. Seconds are counted from sending
launchRun, by the time stamps of Dagster's events. One line of JSON a launcher.

Sensors are stopped. The code server evaluates them too, and the sensor `candidates` first builds the states
of 500 symbols: in the time of each of the first ten runs that takes 2 CPU seconds.
"""

import sys
from datetime import UTC, datetime, timedelta

from pipeline_assets_tests.benchmarks.harness import ImportCost, import_dagster, median, report
from pipeline_assets_tests.benchmarks.product import Timings, running_product

SYMBOLS, RUNS = 500, 30
SLOTS_STEP = "candle_slots_1m"
MINUTE = timedelta(minutes=1)
# Seconds to the first step (p50), to slots (p50, worst), CPU seconds of a run and of the code server.
TARGETS = {"celery": (1.0, 2.5, 4.0, 2.5, 0.3), "process": (4.0, 6.5, 9.0, 6.5, 1.5)}


def measured(launcher: str, symbols: int, runs: int) -> tuple[list[Timings], list[float]]:
    """Return the timings of the runs after a first one, and the worker's memory after each."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today + timedelta(minutes=20, seconds=5)
    found, memory = [], []
    with running_product(symbols, first, launcher=launcher, sensors=False) as product:
        product.stop_sensors()
        for number in range(runs + 1):
            now = first + number * MINUTE
            product.set_clock(now)
            found.append(product.measured_run("tick_1m", now.date()))
            if launcher == "celery":
                memory.append(product.worker_memory()[0])
    return found[1:], memory[1:]


def reported(launcher: str, symbols: int, runs: list[Timings], memory: list[float]) -> bool:
    bare = import_dagster()
    start = [run.first_step for run in runs]
    slots = [run.steps[SLOTS_STEP][1] for run in runs]
    cpu = [run.usage.cpu for run in runs]
    server = [run.others_cpu["code-server"] for run in runs]
    figures = (median(start), median(slots), max(slots), median(cpu), median(server))
    targets = TARGETS[launcher]
    return report(
        f"launch_{launcher}_{symbols}",
        median(start),
        "s from launchRun to the first step",
        targets[0],
        ratio=median(start) / bare.wall,
        against=ImportCost.NAME,
        met=all(figure <= target for figure, target in zip(figures, targets, strict=True)),
        runs=len(runs),
        slots=median(slots),
        slots_worst=max(slots),
        ended=median([run.ended for run in runs]),
        cpu=median(cpu),
        code_server_cpu=median(server),
        daemon_cpu=median([run.others_cpu["daemon"] for run in runs]),
        peak_mb=max(run.usage.peak_mb for run in runs),
        worker_mb_first_and_last=[memory[0], memory[-1]] if memory else None,
        targets=list(targets),
    )


def main() -> int:
    symbols, runs = (*map(int, sys.argv[1:3]), *(SYMBOLS, RUNS)[len(sys.argv[1:3]) :])
    met = [reported(each, symbols, *measured(each, symbols, runs)) for each in TARGETS]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
