"""The sensor that reports decisions, orders, fills and positions: Dagster's side of a look at the records of
trading. The look is trading/record_news.py.
"""

from datetime import timedelta

import dagster as dg

from pipeline_assets.assets.trading import record_events, record_summary
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

NAME = "trading_records"
# A candidate on its way to a decision, beyond the age up to which candidates are published.
_ON_THE_WAY = timedelta(hours=1)


def trading_record_sensor() -> dg.SensorDefinition:
    """Build the sensor that merges new records into the days' objects and reports what changed."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=60,
        # On under both schedulers, Airflow and Dagster: it follows the lake and launches nothing.
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Reads the new documents of trader and gateway on S3, merges their rows into the Parquet objects "
            "`decisions/`, `intents/`, `orders/` and `fills/`, and reports what changed on the assets of "
            "these names and on `positions`. Without its cursor it reads every document again."
        ),
    )
    def trading_records(
        context: dg.SensorEvaluationContext,
        settings: dg.ResourceParam[Settings],
        store: dg.ResourceParam[ObjectStore],
    ) -> dg.SensorResult:
        from pipeline_assets.trading.record_cursor import RecordCursor
        from pipeline_assets.trading.record_news import look

        lateness = timedelta(minutes=settings.candidates.publish_minutes) + _ON_THE_WAY
        news = look(store, RecordCursor.from_text(context.cursor), lateness)
        return dg.SensorResult(
            asset_events=list(record_events(news, store)),
            cursor=news.cursor.to_text(),
            skip_reason=record_summary(news),
        )

    return trading_records
