"""The webhook hears of an interval that becomes stale: once, without secrets, and in the end."""

import pytest
from dagster import SensorResult, build_sensor_context
from pydantic import SecretStr

from pipeline_assets.definitions import build_definitions
from pipeline_assets.resources.alerts import AlertError
from pipeline_assets.settings import AlertsSettings
from pipeline_assets_tests.fixtures.platform import Platform
from pipeline_assets_tests.fixtures.webhook import Webhook


class Freshness:
    """The sensor, evaluated tick by tick with the cursor that it left."""

    def __init__(self, platform: Platform, webhook: Webhook | None) -> None:
        url = SecretStr(webhook.url) if webhook else None
        settings = platform.settings.model_copy(update={"alerts": AlertsSettings(webhook_url=url)})
        self.definitions = build_definitions(settings)
        self.platform = platform
        self.cursor: str | None = None

    def evaluate(self) -> SensorResult:
        sensor = self.definitions.resolve_sensor_def("freshness")
        wanted = {
            name: self.definitions.resources[name] for name in ("store", "exchange", "alerts")
        }
        context = build_sensor_context(
            instance=self.platform.instance, cursor=self.cursor, resources=wanted
        )
        result = sensor(context)
        self.cursor = result.cursor
        return result


def test_an_interval_that_becomes_stale_is_told_once(minutes: Platform, webhook: Webhook) -> None:
    freshness = Freshness(minutes, webhook)
    minutes.tick("1m")
    freshness.evaluate()
    # 15m and 1h have never ticked: nothing has become stale.
    assert webhook.received == []
    minutes.exchange.advance(600)
    freshness.evaluate()
    freshness.evaluate()
    (alert,) = webhook.received
    assert (alert["alert"], alert["asset"]) == ("asset_stale", "candle_objects_1m")
    assert "3 of 3 symbols are stale" in alert["text"]
    minutes.tick("1m")
    freshness.evaluate()
    minutes.exchange.advance(600)
    freshness.evaluate()
    assert len(webhook.received) == 2


def test_an_alert_that_was_not_taken_is_sent_again(minutes: Platform, webhook: Webhook) -> None:
    freshness = Freshness(minutes, webhook)
    minutes.tick("1m")
    freshness.evaluate()
    minutes.exchange.advance(600)
    webhook.status = 503
    with pytest.raises(AlertError, match=r"PIPELINE_ALERTS__WEBHOOK_URL .* \(HTTP 503\)") as caught:
        freshness.evaluate()
    assert "T0KEN" not in str(caught.value)
    assert caught.value.__cause__ is None
    webhook.status = 200
    freshness.evaluate()
    assert [alert["interval"] for alert in webhook.received] == ["1m"]


def test_without_a_webhook_staleness_is_still_seen(minutes: Platform) -> None:
    freshness = Freshness(minutes, None)
    minutes.tick("1m")
    freshness.evaluate()
    minutes.exchange.advance(600)
    (event,) = freshness.evaluate().asset_events
    assert not event.passed
