"""The webhook hears of an interval that becomes stale: once, without secrets, and in the end."""

import pytest
from dagster import DefaultSensorStatus, SensorResult, build_sensor_context
from pydantic import SecretStr

from pipeline_assets.definitions import build_definitions
from pipeline_assets.resources.alerts import AlertError
from pipeline_assets.settings import AlertsSettings
from pipeline_assets_tests.fixtures.platform import Platform
from pipeline_assets_tests.fixtures.webhook import Webhook


class Sensor:
    """A sensor of the definitions, evaluated tick by tick with its last cursor."""

    def __init__(self, platform: Platform, webhook: Webhook, name: str = "stale_alerts") -> None:
        alerts = AlertsSettings(webhook_url=SecretStr(webhook.url))
        settings = platform.settings.model_copy(update={"alerts": alerts})
        self.definitions = build_definitions(settings)
        self.name = name
        self.platform = platform
        self.cursor: str | None = None

    def evaluate(self) -> SensorResult:
        sensor = self.definitions.resolve_sensor_def(self.name)
        wanted = {name: self.definitions.resources[name] for name in sensor.required_resource_keys}
        context = build_sensor_context(
            instance=self.platform.instance, cursor=self.cursor, resources=wanted
        )
        result = sensor(context)
        self.cursor = result.cursor
        return result


def test_stale_interval_alerts_once(minutes: Platform, webhook: Webhook) -> None:
    """An interval that becomes stale is alerted once."""
    sensor = Sensor(minutes, webhook)
    minutes.ingest("1m")
    sensor.evaluate()
    # 15m and 1h have never ticked: nothing has become stale.
    assert webhook.received == []
    minutes.exchange.advance(600)
    sensor.evaluate()
    sensor.evaluate()
    (alert,) = webhook.received
    assert (alert["alert"], alert["asset"]) == ("asset_stale", "candle_objects_1m")
    assert "3 of 3 symbols are stale" in alert["text"]
    minutes.ingest("1m")
    sensor.evaluate()
    minutes.exchange.advance(600)
    sensor.evaluate()
    assert len(webhook.received) == 2


def test_refused_alert_is_sent_again(minutes: Platform, webhook: Webhook) -> None:
    """An alert that was not taken is sent again, and the check is reported meanwhile."""
    sensor, freshness = Sensor(minutes, webhook), Sensor(minutes, webhook, "freshness")
    minutes.ingest("1m")
    for each in (sensor, freshness):
        each.evaluate()
    minutes.exchange.advance(600)
    webhook.status = 503
    with pytest.raises(AlertError, match=r"PIPELINE_ALERTS__WEBHOOK_URL .* \(HTTP 503\)") as caught:
        sensor.evaluate()
    assert "T0KEN" not in str(caught.value)
    assert caught.value.__cause__ is None
    (event,) = freshness.evaluate().asset_events
    assert not event.passed
    webhook.status = 200
    sensor.evaluate()
    assert [alert["interval"] for alert in webhook.received] == ["1m"]


def test_sensor_yields_to_watchdog(platform: Platform) -> None:
    """The sensor is off by default, since the watchdog sends the same alerts."""
    alerts = AlertsSettings(webhook_url=SecretStr("http://127.0.0.1:9/hook"))
    definitions = build_definitions(platform.settings.model_copy(update={"alerts": alerts}))
    status = definitions.resolve_sensor_def("stale_alerts").default_status
    assert status is DefaultSensorStatus.STOPPED
