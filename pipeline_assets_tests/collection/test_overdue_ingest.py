"""When an ingest run is requested after a time in which nothing ran."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipeline_assets.collection.overdue_ingest import Request, Return, overdue_candle
from pipeline_assets.market.intervals import Interval

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MINUTE, QUARTER, HOUR = Interval


@pytest.mark.parametrize(
    ("interval", "after_noon", "newest"),
    [
        (MINUTE, timedelta(minutes=1, seconds=59), timedelta(minutes=-2)),
        (MINUTE, timedelta(minutes=2), timedelta(minutes=-1)),
        (QUARTER, timedelta(minutes=1), timedelta(minutes=-30)),
        (QUARTER, timedelta(minutes=2), timedelta(minutes=-15)),
        (HOUR, timedelta(minutes=50), timedelta(hours=-1)),
    ],
)
def test_candle_is_overdue_after_two_minutes(interval, after_noon, newest) -> None:
    """A candle is overdue two minutes after its close."""
    due = NOON + newest
    now = NOON + after_noon
    assert overdue_candle(interval, due - interval.span, now, 1) == due
    assert overdue_candle(interval, None, now, 1) == due
    assert overdue_candle(interval, due, now, 1) is None


def test_intervals_are_pending_after_a_pause() -> None:
    """Every interval is pending after a start or a pause, and not in between."""
    first = Return().seen(NOON)
    assert set(first.pending) == set(Interval)
    settled = Return(NOON)
    assert settled.seen(NOON + timedelta(seconds=90)).pending == {}
    assert set(settled.seen(NOON + timedelta(hours=8)).pending) == set(Interval)


def test_requests_are_repeated_with_growing_waits() -> None:
    request, now, waits = Request(), NOON, []
    for _ in range(6):
        assert request.due(now)
        request = request.repeated(now)
        assert request.next_at is not None
        waits.append((request.next_at - now) // timedelta(minutes=1))
        assert not request.due(request.next_at - timedelta(seconds=1))
        now = request.next_at
    assert waits == [2, 4, 8, 15, 15, 15]


def test_overdue_intervals_are_requested() -> None:
    """Only overdue intervals without a run are requested.

    Minutes are up to date, quarters have a run, and hours were never stored.
    """
    now = NOON + timedelta(minutes=20)
    newest = {MINUTE: now - timedelta(minutes=1), QUARTER: NOON - timedelta(hours=8), HOUR: None}
    due, state = Return().seen(now).next_requests(newest, {QUARTER}, now, 1)
    assert due == {HOUR: Request()}
    assert state.pending == {QUARTER: Request(), HOUR: Request().repeated(now)}
    # The quarters' run has ended without a candle, and the hours' waits.
    due, state = state.next_requests(newest, (), now, 1)
    assert due == {QUARTER: Request()}
    newest |= dict.fromkeys((QUARTER, HOUR), NOON)
    due, state = state.next_requests(newest, (), now, 1)
    assert (due, state.pending) == ({}, {})


def test_short_stop_loses_no_candle() -> None:
    """A stop of a minute over the full quarter: its candle is requested once it is overdue."""
    stopped, back = NOON - timedelta(seconds=20), NOON + timedelta(seconds=65)
    newest = dict.fromkeys(Interval, NOON - timedelta(minutes=1)) | {
        QUARTER: NOON - timedelta(minutes=30)
    }
    settled = Return().seen(NOON - timedelta(hours=1), "first")
    before = replace(settled, looked_at=stopped, pending={})
    assert before.seen(back, "first").pending == {}
    due, state = before.seen(back, "second").next_requests(newest, (), back, 1)
    assert QUARTER not in due
    newest[MINUTE] = newest[HOUR] = NOON + timedelta(minutes=1)
    later = back + timedelta(seconds=60)
    due, state = state.seen(later, "second").next_requests(newest, (), later, 1)
    assert list(due) == [QUARTER]


def test_state_is_read_as_written() -> None:
    """The state is read as it was written."""
    pending = {MINUTE: Request().repeated(NOON), HOUR: Request()}
    for state in (Return(), Return(NOON, pending, "a process", NOON)):
        assert Return.from_text(state.to_text()) == state
    assert Return.from_text(None) == Return()
