"""Each incident is alerted once, and its end once."""

from datetime import UTC, datetime, timedelta

from pipeline_assets.services.incidents import Incidents, Problem

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
DEAD = Problem("service_failed", "Service s3 fails.", settle=60.0, details={"service": "s3"})


def sent(incidents: Incidents) -> list[tuple[str, str]]:
    """Send what is due; returns kind and text."""
    found = []
    for key, alert in incidents.due():
        incidents.sent(key)
        found.append((alert["alert"], alert["text"]))
    return found


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_problem_and_end_alert_once() -> None:
    """A problem and its end are alerted once each."""
    incidents = Incidents()
    incidents.observe({"s3": DEAD}, NOON)
    assert sent(incidents) == [("service_failed", "Service s3 fails.")]
    incidents.observe({"s3": DEAD}, after(5))
    assert sent(incidents) == []
    incidents.observe({}, after(10))
    incidents.observe({}, after(69))
    assert sent(incidents) == []
    incidents.observe({}, after(70))
    told = "Recovered after 10 s. The problem was: Service s3 fails."
    assert sent(incidents) == [("recovered", told)]
    assert (sent(incidents), incidents.to_list()) == ([], [])


def test_unsettled_relapse_is_same_incident() -> None:
    """A service that fails again before it has settled is the same incident."""
    incidents = Incidents()
    for second in (0, 30, 60, 90):
        incidents.observe({"s3": DEAD}, after(second))
        incidents.observe({}, after(second + 5))
    assert len(sent(incidents)) == 1
    incidents.observe({}, after(200))
    assert [kind for kind, _ in sent(incidents)] == ["recovered"]
    incidents.observe({"s3": DEAD}, after(300))
    assert [kind for kind, _ in sent(incidents)] == ["service_failed"]


def test_relapse_during_webhook_outage_is_one() -> None:
    """An incident that returns while the webhook is down stays one incident.

    Whether its begin or its end was not taken: the receiver sees one begin and one end.
    """
    for taken_at_once in (False, True):
        incidents = Incidents()
        incidents.observe({"s3": DEAD}, NOON)
        told = sent(incidents) if taken_at_once else []
        incidents.observe({}, after(5))
        incidents.observe({}, after(100))
        incidents.observe({"s3": DEAD}, after(1800))
        told += sent(incidents)
        incidents.observe({}, after(1805))
        incidents.observe({}, after(2000))
        told += sent(incidents)
        assert [kind for kind, _ in told] == ["service_failed", "recovered"]


def test_refused_alert_stays_due() -> None:
    """An alert that was not taken stays due.

    This holds even if the problem ends before: then the alert of its end follows.
    """
    incidents = Incidents()
    incidents.observe({"s3": DEAD}, NOON)
    assert len(incidents.due()) == 1
    incidents.observe({}, after(5))
    incidents.observe({}, after(100))
    assert [kind for kind, _ in sent(incidents)] == ["service_failed"]
    assert [kind for kind, _ in sent(incidents)] == ["recovered"]


def test_restart_repeats_no_alert() -> None:
    """No alert is sent twice after a restart."""
    before = Incidents()
    before.observe({"s3": DEAD}, NOON)
    sent(before)
    incidents = Incidents(before.to_list())
    incidents.observe({"s3": DEAD}, after(5))
    assert sent(incidents) == []
    incidents.observe({}, after(10))
    incidents.observe({}, after(80))
    assert [kind for kind, _ in sent(incidents)] == ["recovered"]
