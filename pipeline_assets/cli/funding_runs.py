"""Backfilling funding rates in this process, through the assets that Dagster's runs use. Options and printing
are in backfill.py, what a run does in collection/funding.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from pipeline_assets.cli.backfill_runs import chunks
from pipeline_assets.cli.day_runs import execute_days, executing
from pipeline_assets.collection.run_names import FUNDING_BACKFILL_JOB
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from dagster import ExecuteInProcessResult

    from pipeline_assets.collection.progress import Progress


@dataclass
class FundingBackfill:
    """The result of a backfill of funding rates.

    `missing` counts the settlements of which the exchange has no rate. `problems` has an entry for each
    symbol that could not be fetched: the command may be repeated.
    """

    start: date
    end: date
    runs: list[str] = field(default_factory=list)
    rates: int = 0
    objects_changed: int = 0
    requests: int = 0
    stored_before: int = 0
    missing: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, executed: "ExecuteInProcessResult") -> None:
        """Count a run."""
        from dagster import AssetCheckSeverity

        from pipeline_assets.assets import layer

        metadata = executed.asset_materializations_for_node(layer.FUNDING)[0].metadata

        def value(key: str) -> int:
            return int(str(metadata[key].value))

        self.runs.append(executed.run_id)
        self.rates += value("rates stored")
        self.objects_changed += value("objects changed")
        self.requests += value("funding requests")
        self.stored_before += value("symbol-months stored before")
        self.missing += value("missing rates")
        # The run's own evaluation, which sums up those of its days, is the last one.
        last = executed.get_asset_check_evaluations()[-1]
        if not last.passed and last.severity is AssetCheckSeverity.ERROR:
            self.problems.append(str(last.description))


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
