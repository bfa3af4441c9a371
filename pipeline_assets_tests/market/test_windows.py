from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import (
    Window,
    day_window,
    days_of,
    ingest_window,
    newest_closed,
    object_window,
)

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
intervals = st.sampled_from(Interval)
YEARS = timedelta(days=365) // timedelta(microseconds=1)
moments = st.integers(0, 200 * YEARS).map(
    lambda value: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
)
settles = st.integers(0, 60_000).map(lambda value: timedelta(milliseconds=value))


@st.composite
def open_times(draw, interval=None):
    held = interval or draw(intervals)
    return held, held.floor(draw(moments))


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2026, 1, 1), datetime(2026, 1, 2)),  # noqa: DTZ001
        (datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_invalid_window_is_refused(start, end):
    """A window without a time zone or without length is refused."""
    with pytest.raises(ValueError, match="window"):
        Window(start, end)


@given(intervals, moments)
def test_day_holds_counted_open_times(interval, moment):
    """A day holds as many open times as can be counted."""
    window = day_window(moment.date())
    counted, at = 0, window.start
    while at < window.end:
        counted, at = counted + 1, at + interval.span
    assert window.candles(interval) == counted


@given(moments, st.integers(1, 5 * 24 * 3600))
def test_window_days_are_its_moments_days(start, seconds):
    """The days of a window are those of its moments."""
    end = start + timedelta(seconds=seconds)
    inside = [start + timedelta(hours=n) for n in range(5 * 24 + 1)]
    touched = {at.date() for at in [*inside, end - timedelta(microseconds=1)] if at < end}
    days = list(days_of(Window(start, end)))
    assert days == sorted(touched)


@given(intervals, moments, settles)
def test_newest_closed_candle_has_settled(interval, now, settle):
    """The newest closed candle has settled, and the next has not."""
    newest = newest_closed(interval, now, settle)
    millisecond = timedelta(milliseconds=1)
    close_time = newest + interval.span - millisecond
    assert interval.floor(newest) == newest
    assert now >= close_time + settle
    assert now < close_time + interval.span + settle


def test_candle_closes_when_settle_time_ends():
    """A candle is closed from the millisecond in which its settle time ends."""
    settled = datetime(2026, 10, 25, 12, 1, 1, 999_000, tzinfo=UTC)
    settle = timedelta(seconds=2)
    newest = datetime(2026, 10, 25, 12, 0, tzinfo=UTC)
    assert newest_closed(Interval.ONE_MINUTE, settled, settle) == newest
    before = settled - timedelta(milliseconds=1)
    assert newest_closed(Interval.ONE_MINUTE, before, settle) == newest - MINUTE


@given(open_times(), st.booleans())
def test_each_open_time_has_one_object(held, finished):
    """Every open time belongs to one object, together with its neighbours there."""
    interval, moment = held
    window = object_window(interval, moment, finished=finished)
    assert window.start <= moment < window.end
    assert window.start.date() == moment.date()
    last = window.end - interval.span
    assert object_window(interval, window.start, finished=finished) == window
    assert object_window(interval, last, finished=finished) == window


@given(open_times())
def test_open_day_object_costs_one_weight(held):
    """An object of an open day is one request of weight one."""
    interval, moment = held
    assert object_window(interval, moment, finished=False).candles(interval) <= 99


@given(open_times(), st.none() | st.integers(0, 3000))
def test_ingest_reads_whole_objects(held, behind):
    """An ingest run reads whole objects of one day up to the newest candle."""
    interval, newest = held
    stored = None if behind is None else newest - behind * interval.span
    window = ingest_window(interval, newest, stored)
    assert window.end == newest + interval.span
    assert window.start.date() == newest.date()
    assert object_window(interval, window.start, finished=False).start == window.start


@given(open_times(), st.none() | st.integers(0, 3000))
def test_ingest_reads_unstored_open_day(held, behind):
    """An ingest run reads all of the open day that is not stored."""
    interval, newest = held
    day_start = datetime.combine(newest.date(), datetime.min.time(), tzinfo=UTC)
    stored = None if behind is None else newest - behind * interval.span
    window = ingest_window(interval, newest, stored)
    missing = day_start if stored is None else max(stored + interval.span, day_start)
    assert window.start <= min(missing, newest)


@given(open_times(Interval.ONE_MINUTE))
def test_last_hour_is_read_once_more(held):
    """The hour that has just ended is read once more, in the same request."""
    _, newest = held
    window = ingest_window(Interval.ONE_MINUTE, newest, newest - MINUTE)
    in_the_last_hour = newest - 2 * MINUTE
    if in_the_last_hour.date() == newest.date():
        assert window.start <= in_the_last_hour
    assert window.candles(Interval.ONE_MINUTE) <= 99


def test_mid_hour_rereads_its_hour():
    """A minute in the middle of an hour reads only that hour again."""
    newest = datetime(2026, 10, 25, 12, 30, tzinfo=UTC)
    window = ingest_window(Interval.ONE_MINUTE, newest, newest - MINUTE)
    assert window == Window(newest.replace(minute=0), newest + MINUTE)


def test_first_minute_stays_in_its_day():
    """The first minute of a day does not reach into the day before."""
    midnight = datetime(2026, 10, 25, tzinfo=UTC)
    stored = midnight - MINUTE
    assert ingest_window(Interval.ONE_MINUTE, midnight, stored) == Window(
        midnight, midnight + MINUTE
    )


def test_new_symbol_reads_whole_open_day():
    """A symbol without any stored candle reads its whole open day."""
    newest = datetime(2026, 10, 25, 17, 5, tzinfo=UTC)
    window = ingest_window(Interval.ONE_MINUTE, newest, None)
    assert window.start == day_window(date(2026, 10, 25)).start
