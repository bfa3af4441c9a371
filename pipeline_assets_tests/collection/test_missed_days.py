"""Which days have no ledger though they are finished, and in which order days are repaired."""

from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.collection.missed_days import (
    newest_finished_day,
    newest_first,
    unjudged_days,
)
from pipeline_assets.market.intervals import Interval

FIRST = date(2026, 10, 1)
MINUTE, QUARTER, HOUR = Interval


def days_between(first: date, last: date) -> set[date]:
    return {first + timedelta(days=n) for n in range((last - first).days + 1)}


def test_yesterday_belongs_to_nightly_run() -> None:
    """Until half past one, yesterday is left to the nightly run."""
    midnight = datetime(2026, 11, 20, tzinfo=UTC)
    assert newest_finished_day(midnight + timedelta(minutes=89)) == date(2026, 11, 18)
    assert newest_finished_day(midnight + timedelta(minutes=90)) == date(2026, 11, 19)


@given(st.sets(st.integers(-5, 50)), st.integers(0, 45), st.integers(1, 60))
def test_repeated_requests_cover_days_once(judged, last, most) -> None:
    """Requests repeated until nothing is left cover every day once."""
    held = {FIRST + timedelta(days=n) for n in judged}
    newest = FIRST + timedelta(days=last)
    before = set(held)
    ends = []
    while found := unjudged_days(FIRST, newest, held, most):
        days = days_between(*found)
        assert FIRST <= found[0] <= found[1] <= newest
        assert len(days) <= most
        assert not days & held
        held |= days
        ends.append(found[1])
    assert ends == sorted(ends, reverse=True)
    assert held == before | days_between(FIRST, newest)


def test_newest_days_come_first() -> None:
    """Newest days come first, and the minutes come first within a day."""
    days = [FIRST, FIRST + timedelta(days=1)]
    due = [(interval, day) for day in days for interval in (HOUR, MINUTE, QUARTER)]
    assert newest_first(due) == [(interval, day) for day in days[::-1] for interval in Interval]
