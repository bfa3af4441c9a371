"""The log of a program that waits for another system."""

import pytest

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.services.gateway.client import GatewayCallError
from pipeline_assets.services.outage import Outage

AWAY = GatewayCallError(
    "UNAVAILABLE", "", "The gateway at h:1 does not answer (refused). Start it."
)


def test_state_is_logged_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    """A failure each five seconds: the whole error, short lines at most each five minutes, and the end."""
    now = 100
    outage = Outage("The trader", lambda: now)
    lines: dict[int, str] = {}
    for second in range(0, 1000, 5):
        now = 100 + second
        outage.failed(AWAY)
        for record in caplog.records:
            lines[second] = record.getMessage()
        caplog.clear()
    assert list(lines) == [0, 10, 30, 70, 150, 310, 610, 910]
    assert str(AWAY) in lines[0]
    assert lines[70] == "The trader waits, 70 s by now: The gateway at h:1 does not answer"
    outage.over()
    outage.over()
    assert caplog.messages == ["The trader goes on after a wait of 995 s."]


def test_other_state_is_logged_wholly(caplog: pytest.LogCaptureFixture) -> None:
    """Another status or system, and the same one after the end, are news; another text alone is not."""
    outage = Outage("The trader", lambda: 0.0)
    denied = GatewayCallError("UNAUTHENTICATED", "", "The token is wrong.")
    kafka = OutsideSystemError("Kafka does not answer.")
    for error in (AWAY, GatewayCallError("UNAVAILABLE", "", "reset"), denied, denied, kafka):
        outage.failed(error)
    assert [each.rpartition(": ")[2] for each in caplog.messages] == [
        *map(str, (AWAY, denied, kafka))
    ]
    outage.over()
    caplog.clear()
    outage.failed(kafka)
    assert str(kafka) in caplog.text
