"""Which partitions a schedule requests, given the time, what is stored, and which runs are under way."""

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta

import pytest

from pipeline_assets.collection.scheduled_days import days_of_outcomes, days_to_finalize, open_day
from pipeline_assets.market.intervals import Interval

MINUTE, QUARTER, HOUR = Interval
YESTERDAY = date(2026, 11, 19)


@pytest.mark.parametrize(
    ("interval", "after_midnight", "day"),
    [
        (MINUTE, timedelta(seconds=59, milliseconds=998), 19),
        # Settled once the run fetches, so it is the first of the new day.
        (MINUTE, timedelta(minutes=1), 20),
        (QUARTER, timedelta(minutes=14), 19),
        (QUARTER, timedelta(minutes=15), 20),
        (HOUR, timedelta(minutes=59), 19),
        (HOUR, timedelta(hours=1), 20),
    ],
)
def test_the_first_candle_of_a_day_opens_it(interval, after_midnight, day) -> None:
    now = datetime(2026, 11, 20, tzinfo=UTC) + after_midnight
    assert open_day(interval, now, timedelta(seconds=2)) == date(2026, 11, day)


def november(*days: int) -> list[date]:
    return [date(2026, 11, day) for day in days]


def test_requests_outcomes_that_are_missing() -> None:
    """Yesterday anyway, and of the month before the days with candidates and without outcomes.

    The day before yesterday once more: finalizing yesterday stored minutes in which its horizons end.
    """
    with_candidates = [date(2026, 9, 30), *november(3, 4, 18, 19, 20)]
    assert days_of_outcomes(YESTERDAY, with_candidates, november(4, 18)) == november(19, 3, 18)
    assert days_of_outcomes(YESTERDAY, [], []) == november(19)


def requested(
    judged: Collection[date], *finalized: Collection[date], under_way: Collection[date] = ()
) -> list[date]:
    return days_to_finalize(YESTERDAY, judged, finalized, under_way)


def test_requests_a_judged_day_that_failed() -> None:
    days = november(16, 18)
    assert requested(november(16, 17, 18), days, days, days) == november(19, 17)


def test_requests_a_day_that_one_interval_is_missing() -> None:
    """On a night without the warehouse all is stored and judged, but two tables are missing."""
    days = november(16, 18)
    assert requested(november(16, 17, 18), november(16, 17, 18), days, days) == november(19, 17)


def test_leaves_history_before_the_first_finalized_day_to_backfills() -> None:
    days = november(1, 2, 3, 5)
    assert requested((), days, days) == november(19)
    assert requested(november(18), [*days, *november(18)]) == november(19)


def test_leaves_days_without_a_ledger_to_the_reconciler() -> None:
    days = november(12, 13)
    assert requested(days, days, days, days) == november(19)


def test_requests_no_more_than_a_month() -> None:
    first = date(2026, 6, 1)
    days = requested([first + timedelta(days=n) for n in range(171)], [first])
    assert days[:2] == [YESTERDAY, date(2026, 10, 19)]
    assert len(days) == 32


def test_leaves_out_days_whose_run_is_under_way() -> None:
    days = november(16)
    judged = november(16, 17, 18)
    assert requested(judged, days, under_way=november(17, 19)) == november(18)
    assert requested(judged, days, under_way=november(17, 18, 19)) == []
