"""Backfilling funding rates in this process, through the assets that Dagster's runs use. Options and printing
are in backfill.py, what a run does in collection/funding.py.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from pipeline_assets.cli.backfill_runs import chunks
from pipeline_assets.cli.day_runs import execute_days, executing
from pipeline_assets.collection.run_names import FUNDING_BACKFILL_JOB
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from dagster import ExecuteInProcessResult

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

    def add(self, executed: "ExecuteInProcessResult") -> None:
        """Count a run."""
        from dagster import AssetCheckSeverity

        from pipeline_assets.assets import layer

        self.runs.append(executed.run_id)
        metadata = executed.asset_materializations_for_node(layer.FUNDING)[0].metadata
        self.counts.update({name: int(str(metadata[key].value)) for name, key in _COUNTED.items()})
        # The run's own evaluation, which sums up those of its days, is the last one.
        last = executed.get_asset_check_evaluations()[-1]
        if not last.passed and last.severity is AssetCheckSeverity.ERROR:
            self.problems.append(str(last.description))

    def to_dict(self) -> dict[str, Any]:
        """The result for a program."""
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
) -> FundingBackfill:
    """Complete the funding rates of the days from `start` to before `end`, a Dagster run for 31 days.

    A month that is over is completed as a whole. May be repeated, also beside hourly runs; after a kill,
    the repeated call goes on where it was.

    Raises:
        BackfillError: a run failed. Stored rates stay.
        StoppedError: a signal came.
    """
    from pipeline_assets.assets import layer
    from pipeline_assets.market.partition_keys import DAYS_PER_RUN

    result = FundingBackfill(start, end)
    config = {"symbols": list(symbols) if symbols else None, "refresh": refresh}
    with executing(settings, FUNDING_BACKFILL_JOB, progress) as execute:
        for days in chunks(start, end, DAYS_PER_RUN):
            result.add(execute_days(execute, days, layer.FUNDING, config))
    return result
