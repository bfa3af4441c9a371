"""The cost of a live minute: a 1m ingest run launched over GraphQL in the whole stack, 500 symbols and 100.

`python -m pipeline_assets_tests.benchmarks.bench_tick`. Seconds are counted from sending launchRun, by
the time stamps of Dagster's events. Each run starts one minute of the exchange's clock after the run
before. The minutes lie late in an hour, so that a run fetches and stores 50 to 60 rows a symbol.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pipeline_assets.resources.slots import CandleSlots
from pipeline_assets_tests.benchmarks.harness import ImportCost, import_dagster, median, report
from pipeline_assets_tests.benchmarks.product import Product, Timings, running_product

SYMBOLS, FEW = 500, 100
REPEATS = 5
MINUTE = timedelta(minutes=1)
SLOTS_STEP = "candle_slots_1m"


def ingest_runs(product: Product, first: datetime, symbols: Sequence[str] | None) -> list[Timings]:
    """Execute an ingest run that is not counted, then one a minute; check the stored candles."""
    found = []
    for number in range(REPEATS + 1):
        now = first + number * MINUTE
        product.set_clock(now)
        found.append(product.measured_run("tick_1m", now.date(), symbols))
        due = now.replace(second=0) - MINUTE
        wanted = symbols or product.stored_symbols()
        held = CandleSlots(product.settings.redis).summary(wanted)
        late = held.filter(held["newest_open_time"] != due)
        if late.height or held["slots"].min() != 15:
            raise RuntimeError(f"The slots do not hold the fifteen minutes until {due}: {late}")
    return found[1:]


def worst_too(values: Sequence[float]) -> dict[str, object]:
    return {"worst": max(values), "runs": list(values)}


def reported(runs: Sequence[Timings], few: Sequence[Timings], bare: ImportCost) -> bool:
    slots = [run.steps[SLOTS_STEP][1] for run in runs]
    ended = [run.ended for run in runs]
    cpu = [run.usage.cpu for run in runs]
    peak = [run.usage.peak_mb for run in runs]
    start = [run.first_step for run in runs]
    above = [run.ended - run.first_step for run in runs]
    above_few = [run.ended - run.first_step for run in few]
    steps = {
        name: median([run.steps[name][1] - run.steps[name][0] for run in runs])
        for name in runs[0].steps
    }
    others = {
        name: round(median([run.others_cpu[name] for run in runs]), 2)
        for name in runs[0].others_cpu
    }
    growth = median(above) / median(above_few)
    met = [
        report(
            f"tick_{SYMBOLS}_slots_written",
            median(slots),
            "s after launchRun",
            5,
            ratio=median(slots) / bare.wall,
            against=ImportCost.NAME,
            **worst_too(slots),
        ),
        report(
            f"tick_{SYMBOLS}_run_ended",
            median(ended),
            "s after launchRun",
            10,
            ratio=median(ended) / bare.wall,
            against=ImportCost.NAME,
            steps={name: round(value, 2) for name, value in steps.items()},
            **worst_too(ended),
        ),
        report(
            f"tick_{SYMBOLS}_cpu",
            median(cpu),
            "CPU s of the run's process",
            8,
            ratio=median(cpu) / bare.cpu,
            against=ImportCost.NAME,
            cpu_of_services_meanwhile=others,
            **worst_too(cpu),
        ),
        report(
            f"tick_{SYMBOLS}_peak_memory",
            max(peak),
            "MB of the run's process",
            500,
            ratio=max(peak) / max(run.usage.peak_mb for run in few),
            against=f"the same with {FEW} symbols",
            runs=peak,
        ),
        report(
            "tick_fixed_start",
            median(start),
            "s from launchRun to the first step",
            2.5,
            ratio=median(start) / bare.wall,
            against=ImportCost.NAME,
            import_dagster_cpu=bare.cpu,
            import_dagster_wall=bare.wall,
            launch_answered=median([run.answered for run in runs]),
            run_started=median([run.started for run in runs]),
            **worst_too(start),
        ),
        report(
            f"tick_growth_{FEW}_to_{SYMBOLS}",
            growth,
            "times, first step to end of run",
            SYMBOLS / FEW,
            ratio=growth,
            against=f"{median(above_few):.2f} s with {FEW} symbols",
            cpu_growth=median(cpu) / median([run.usage.cpu for run in few]),
            above_start=median(above),
        ),
    ]
    return all(met)


def main() -> int:
    bare = import_dagster()
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today + timedelta(minutes=50, seconds=5)
    with running_product(SYMBOLS, first) as product:
        many = ingest_runs(product, first, None)
        few = ingest_runs(product, first + REPEATS * MINUTE, product.stored_symbols()[:FEW])
    return 0 if reported(many, few, bare) else 1


if __name__ == "__main__":
    sys.exit(main())
