"""The sensor that sends an alert by the webhook when an interval has become stale. freshness.py shows the
same in Dagster, and goes on while the webhook is down.
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

from pipeline_assets.collection.freshness import judge_all, stale_alert
from pipeline_assets.resources.alerts import Alerts
from pipeline_assets.resources.document_versions import cursor_content
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings


def stale_alert_sensor() -> SensorDefinition:
    """Build the sensor that tells the webhook once when an interval becomes stale.

    Its evaluation fails when the webhook does not take an alert, and the next one sends it again: the
    alerts that were sent are remembered only once all that were due are sent.

    It is off by default: the watchdog (`pipeline-assets watch`) sends the same alerts and goes on while
    Dagster does not work. Switch this on to do without the watchdog.
    """

    @sensor(
        name="stale_alerts",
        minimum_interval_seconds=30,
        default_status=DefaultSensorStatus.STOPPED,
        description=(
            "Tells the webhook of PIPELINE_ALERTS__WEBHOOK_URL once when an interval becomes stale; "
            "for who does without `pipeline-assets watch`, which tells it too."
        ),
    )
    def stale_alerts(
        context: SensorEvaluationContext,
        store: ResourceParam[ObjectStore],
        exchange: ResourceParam[Exchange],
        settings: ResourceParam[Settings],
        alerts: ResourceParam[Alerts],
    ) -> SensorResult:
        verdicts = judge_all(store, settings, exchange.server_time())
        was_fresh: dict[str, bool] = cursor_content(context.cursor, "stale_alerts")
        stale = [
            interval
            for interval, verdict in verdicts.items()
            if verdict.stale(seen=was_fresh.get(interval, False))
        ]
        for interval in stale:
            text, details = stale_alert(interval, verdicts[interval])
            alerts.send({"text": text, "alert": "asset_stale", **details})
        return SensorResult(
            cursor=json.dumps({interval: verdict.fresh for interval, verdict in verdicts.items()}),
            skip_reason=f"{len(stale)} alerts sent." if stale else "No interval has become stale.",
        )

    return stale_alerts
