"""Dagster's side of the reports that follow new finished days. Which report is due is decided in
research/report_requests.py.
"""

from dagster import (
    DefaultSensorStatus,
    ResourceParam,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from pipeline_assets.dagster_instance.private import UnresolvedAssetJobDefinition
from pipeline_assets.dagster_instance.unfinished_runs import unfinished_runs
from pipeline_assets.market.strategies import configured_strategies
from pipeline_assets.research.report_requests import next_report
from pipeline_assets.resources.gap_objects import judged_days
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

NAME = "backtest_reports"


def backtest_report_sensor(job: UnresolvedAssetJobDefinition) -> SensorDefinition:
    """Build the sensor that requests the reports, one after the other, so that ingest runs find a place.

    Args:
        job: the job of a report.
    """

    @sensor(
        name=NAME,
        job=job,
        minimum_interval_seconds=60,
        # On under both schedulers: it follows the ledger that either one's finalize run writes.
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            "Requests the report of each strategy of the settings after a day is finalized and its gap "
            "ledger written, or after the strategy's version changed; one run at a time. A run that "
            "failed is not requested again before the next day."
        ),
    )
    def backtest_reports(
        context: SensorEvaluationContext,
        store: ResourceParam[ObjectStore],
        settings: ResourceParam[Settings],
    ) -> RunRequest | SkipReason:
        if unfinished_runs(context.instance, job.name):
            return SkipReason("A report is being made.")
        newest = max(judged_days(store), default=None)
        due = next_report(context.cursor, configured_strategies(settings.strategies), newest)
        if due is None:
            return SkipReason(
                f"Every report is made of the days up to {newest}." if newest else _NO_DAY
            )
        context.update_cursor(due.cursor)
        return RunRequest(run_key=due.key, partition_key=due.strategy)

    return backtest_reports


_NO_DAY = "No gap ledger of a finished day is written yet."
