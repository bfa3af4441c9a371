"""The gateway's alerts: that of its end by an error is sent before, and a flood of them stays bounded."""

import socket
import sqlite3
import threading
from contextlib import closing

import pytest

from pipeline_assets.resources import alerts as sending
from pipeline_assets.resources.journal import JournalError
from pipeline_assets.resources.retry import RetryPolicy
from pipeline_assets.services.gateway import process as gateway_process
from pipeline_assets.services.gateway.alarm import Alarm
from pipeline_assets.services.gateway.client import GatewayCallError
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.settings import AlertsSettings
from pipeline_assets_tests.fixtures.gateway import order
from pipeline_assets_tests.fixtures.gateway_process import Process, placed
from pipeline_assets_tests.fixtures.webhook import Webhook, receiving


def fail_journal(process: Process, url: str) -> None:
    """Run a gateway that alerts at an address until its journal refuses a record, as a bad disk does."""
    process.settings = process.settings.model_copy(
        update={"alerts": AlertsSettings(webhook_url=url)}
    )
    with process.running() as client:
        placed(client)
        with closing(sqlite3.connect(process.settings.data_dir / "trading/paper.sqlite")) as other:
            other.execute("INSERT INTO journal SELECT max(seq) + 1, x'00', 0 FROM journal")
            other.commit()
        with pytest.raises(GatewayCallError):
            client.call(pb.PlaceOrderRequest(order=order("a-2")), pb.PlaceOrderResponse)


def test_failed_journal_alerts(process: Process, webhook: Webhook) -> None:
    """The alert has arrived when the process ends; the process ends with the error that the alert names."""
    fail_journal(process, webhook.url)
    (failure,) = process.failures
    (alert,) = webhook.received
    assert isinstance(failure, JournalError)
    assert alert["text"] == f"Order gateway: The gateway of account paper ended: {failure}"
    assert alert["service"] == "gateway"


def test_stopped_gateway_alerts_nobody(process: Process, webhook: Webhook) -> None:
    alerts = AlertsSettings(webhook_url=webhook.url)
    process.settings = process.settings.model_copy(update={"alerts": alerts})
    with process.running() as client:
        placed(client)
    assert not process.failures
    assert webhook.received == []


def test_silent_webhook_delays_no_end(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook that never answers: the gateway ends all the same, by the journal's error."""
    monkeypatch.setattr(gateway_process, "LAST_ALERTS_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fail_journal(process, f"http://127.0.0.1:{silent.getsockname()[1]}/T0KEN")
    (failure,) = process.failures
    assert isinstance(failure, JournalError)


def test_flood_of_alerts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred messages while the webhook answers none: few threads wait, and a message comes after that."""
    monkeypatch.setattr(sending, "_RETRIES", RetryPolicy(1, 0.0, 0.0))
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/T0KEN"
        alarm = Alarm(AlertsSettings(webhook_url=url))
        for number in range(100):
            alarm(f"the venue reports order {number}")
        waiting = set(threading.enumerate()) - before
    alarm.finish(20.0)
    assert 0 < len(waiting) <= 20
    with receiving() as hook:
        monkeypatch.setattr(alarm, "_alerts", sending.Alerts(AlertsSettings(webhook_url=hook.url)))
        alarm("the venue reports order 99")
        alarm.finish(20.0)
    assert [each["text"] for each in hook.received] == ["Order gateway: the venue reports order 99"]
