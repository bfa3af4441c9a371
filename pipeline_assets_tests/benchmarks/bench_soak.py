"""Ingest runs back to back on one warm worker: memory, failures, and runs that were executed twice at once.

`python -m pipeline_assets_tests.benchmarks.bench_soak [RUNS [SYMBOLS]]`. The exchange's clock goes one minute
ahead with each run that ends. The next runs wait in Dagster's queue meanwhile, so the worker never rests.
"""

import sys
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from pipeline_assets.cli.dagster_web import DagsterWeb
from pipeline_assets_tests.benchmarks.harness import median, report
from pipeline_assets_tests.benchmarks.product import Launched, Product, running_product

RUNS, SYMBOLS, AHEAD = 500, 20, 3
JOB, FIRST_STEP, SLOTS_STEP = "tick_1m", "raw_candles_1m", "candle_slots_1m"
MINUTE = timedelta(minutes=1)
# A run shows nothing of the memory that it leaves behind, but fifty do.
EVERY = 50
MOST_MB = 500.0


@dataclass
class Soak:
    """The figures of a soak: by run when it was executed, seconds of its work, and MB of the worker."""

    spans: list[tuple[float, float]] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    repeated: int = 0
    memory: list[float] = field(default_factory=list)

    @property
    def overlapping(self) -> int:
        """How many runs began before the one before them had ended."""
        return sum(ended > began for (_, ended), (began, _) in pairwise(sorted(self.spans)))


def soak(product: Product, first: datetime, runs: int) -> Soak:
    """Launch so many runs that some always wait for the worker."""
    found, web, waiting = Soak(), DagsterWeb(product.settings.dagster), deque[Launched]()
    for number in range(runs + AHEAD):
        if number < runs:
            waiting.append(product.launch(JOB, first.date()))
        if number < AHEAD:
            continue
        note(found, product, web, waiting.popleft())
        ended = number - AHEAD + 1
        product.set_clock(first + ended * MINUTE)
        if ended % EVERY == 0 or ended == runs:
            found.memory.append(product.worker_memory()[0])
            print(f"{ended} runs, worker {found.memory[-1]:.0f} MB", file=sys.stderr, flush=True)
    return found


def note(found: Soak, product: Product, web: DagsterWeb, launched: Launched) -> None:
    """Wait for a run, and add it to the figures."""
    try:
        timings = product.wait(launched)
    except RuntimeError as error:
        found.failures.append(str(error))
        return
    found.spans.append((launched.at + timings.started, launched.at + timings.ended))
    found.work.append(timings.steps[SLOTS_STEP][1] - timings.first_step)
    events, _ = web.events(launched.run_id, None)
    began = [each for each in events if each["__typename"] == "ExecutionStepStartEvent"]
    found.repeated += sum(each["stepKey"] == FIRST_STEP for each in began) != 1


def main() -> int:
    runs, symbols = (*map(int, sys.argv[1:3]), *(RUNS, SYMBOLS)[len(sys.argv[1:3]) :])
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today + timedelta(minutes=20, seconds=5)
    with running_product(symbols, first) as product:
        product.wait(product.launch(JOB, first.date()))
        before = product.worker_memory()[0]
        found = soak(product, first, runs)
    for failure in found.failures:
        print(failure, file=sys.stderr)
    twice = found.overlapping + found.repeated
    met = report(
        f"soak_{runs}_{symbols}",
        max(found.memory),
        "MB of the worker at most",
        MOST_MB,
        ratio=found.memory[-1] / before,
        against="the worker after its first run",
        met=max(found.memory) <= MOST_MB and not found.failures and not twice,
        runs=len(found.spans),
        failures=len(found.failures),
        at_once=found.overlapping,
        repeated=found.repeated,
        memory=[before, *found.memory],
        seconds_first_step_to_slots=median(found.work),
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
