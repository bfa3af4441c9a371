"""Alerts as the webhook gets these: the text in Slack's format, all else as it is."""

from pipeline_assets.resources.alerts import Alerts
from pipeline_assets.settings import AlertsSettings
from pipeline_assets_tests.fixtures.webhook import Webhook

NAME = "<!channel> & <https://example.com|BTC>"


def test_name_calls_nobody(webhook: Webhook) -> None:
    """A strategy's name is shown as it is written; programs get it unchanged."""
    alerts = Alerts(AlertsSettings(webhook_url=webhook.url))
    alerts.send({"text": f"{NAME}: 2 of 3", "strategy": NAME})
    shown = "&lt;!channel&gt; &amp; &lt;https://example.com|BTC&gt;: 2 of 3"
    assert webhook.received == [{"text": shown, "strategy": NAME}]
