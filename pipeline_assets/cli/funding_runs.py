"""Backfilling funding rates in runs of limited length. Who executes them is in run_executor.py, what
a run does in collection/funding.py. Options and printing are in backfill.py.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from pipeline_assets.cli.backfill_runs import chunks
from pipeline_assets.cli.run_executor import Say, executor
from pipeline_assets.cli.run_outcomes import Outcome
from pipeline_assets.collection.run_names import FUNDING_BACKFILL_JOB
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from pipeline_assets.collection.progress import Progress


# By its name in the result, what a run reports in its metadata.
_COUNTED = {
    "rates": "rates stored",
    "objects_changed": "objects changed",
    "requests": "funding requests",
    "stored_before": "symbol-months stored before",
    "missing": "missing rates",
}


@dataclass
class FundingBackfill:
    """The result of a backfill of funding rates.

    Attributes:
        start: the first UTC day.
        end: the UTC day before which it stopped.
        counts: rates, objects and requests; `missing` are settlements of which the exchange has no rate.
        runs: the Dagster runs.
        problems: an entry for each run with symbols that could not be fetched: the command may be repeated.
    """

    start: date
    end: date
    counts: Counter[str] = field(default_factory=Counter)
    runs: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count a run."""
        from pipeline_assets.assets import layer

        self.runs.append(outcome.run_id)
        metadata = outcome.metadata[layer.FUNDING]
        self.counts.update({name: int(metadata[key]) for name, key in _COUNTED.items()})
        # The run's own evaluation, which sums up those of its days, is the last one.
        last = outcome.checks[-1]
        if not last.passed and last.is_error:
            self.problems.append(str(last.description))

    def to_dict(self) -> dict[str, Any]:
        """Return the result for a program."""
        days = {"start": self.start, "end": self.end}
        return {**days, **self.counts, "runs": self.runs, "problems": self.problems}


def backfill_funding(
    settings: Settings,
    symbols: Sequence[str] | None,
    start: date,
    end: date,
    progress: "Progress | None" = None,
    *,
    refresh: bool = False,
    say: Say | None = None,
) -> FundingBackfill:
    """Complete the funding rates of the days from `start` to before `end`, a Dagster run for 31 days.

    A month that is over is completed as a whole. May be repeated, also beside hourly runs; after a kill,
    the repeated call goes on where it was.

    Raises:
        BackfillError: a run failed. Stored rates stay.
        StoppedError: a signal came.
        DagsterWebError: Dagster stopped answering. Runs on workers go on.
    """
    from pipeline_assets.assets import layer
    from pipeline_assets.market.partition_keys import DAYS_PER_RUN

    result = FundingBackfill(start, end)
    config = {"symbols": list(symbols) if symbols else None, "refresh": refresh}
    run_config = {"ops": {layer.FUNDING: {"config": config}}}
    with executor(settings, FUNDING_BACKFILL_JOB, progress, say) as execute:
        for first, last in chunks(start, end, DAYS_PER_RUN):
            result.add(execute(first, last, run_config))
    return result
