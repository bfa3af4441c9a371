"""Who is told, by the webhook, that an interval has become stale. What shows of it in Dagster is
freshness.py's, which goes on while the webhook is down.
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

from pipeline_assets.assets import layer
from pipeline_assets.collection.freshness import judge
from pipeline_assets.collection.listings import newest_of_collected
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.alerts import Alerts
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings


def stale_alert_sensor() -> SensorDefinition:
    """The sensor that tells the webhook once when an interval becomes stale.

    Its tick fails when the webhook does not take an alert, and the next one sends it again: what was
    told of each interval is remembered only once all that was due is told.

    It is off by default: the watchdog (`pipeline-assets watch`) tells the same and goes on while
    Dagster does not work. Whoever does without the watchdog switches this on.
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
        now = exchange.server_time()
        was_fresh: dict[str, bool] = json.loads(context.cursor) if context.cursor else {}
        is_fresh, told = {}, 0
        for interval in Interval:
            state = newest_of_collected(store, settings, interval, now)
            found = judge(interval, state, now, settings.ingest.upload_minutes)
            is_fresh[interval.value] = found.fresh
            # One that was never fresh has just been set up: its first tick is still to come.
            if not found.fresh and was_fresh.get(interval):
                alerts.send(_alert(interval, found.description))
                told += 1
        return SensorResult(
            cursor=json.dumps(is_fresh),
            skip_reason=f"{told} alerts sent." if told else "No interval has become stale.",
        )

    return stale_alerts


def _alert(interval: Interval, description: str) -> dict[str, str]:
    asset = layer.key(layer.OBJECTS, interval).to_user_string()
    return {
        "text": f"{asset} is stale. {description}",
        "alert": "asset_stale",
        "asset": asset,
        "interval": interval.value,
        "error": description,
    }
