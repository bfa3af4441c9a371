"""The sensor that shows how fresh each interval is, as the check `fresh` on its candle objects.
collection/freshness.py judges freshness and chooses the reports to repeat.
"""

import json

from dagster import (
    DefaultSensorStatus,
    ResourceParam,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from pipeline_assets.assets.check_results import freshness_evaluation
from pipeline_assets.collection.freshness import due_reports, judge_all
from pipeline_assets.resources.document_versions import cursor_content
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings


def freshness_sensor() -> SensorDefinition:
    """Build the sensor that judges every interval twice a minute and reports what changed."""

    @sensor(
        name="freshness",
        minimum_interval_seconds=30,
        # On under both schedulers, Airflow and Dagster: it launches nothing, and sees when neither does.
        default_status=DefaultSensorStatus.RUNNING,
        description="Judges how fresh each interval is and shows it as the check `fresh`.",
    )
    def freshness(
        context: SensorEvaluationContext,
        store: ResourceParam[ObjectStore],
        exchange: ResourceParam[Exchange],
        settings: ResourceParam[Settings],
    ) -> SensorResult:
        verdicts = judge_all(store, settings, exchange.server_time())
        reported = cursor_content(context.cursor, "freshness")
        due, remembered = due_reports(verdicts, reported)
        return SensorResult(
            asset_events=[freshness_evaluation(each, verdicts[each]) for each in due],
            cursor=json.dumps(remembered),
            skip_reason=None if due else "Nothing changed.",
        )

    return freshness
