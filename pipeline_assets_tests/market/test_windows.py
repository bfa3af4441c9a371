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
    newest_closed,
    object_window,
    tick_window,
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
def test_a_window_without_zone_or_length_is_refused(start, end):
    with pytest.raises(ValueError, match="window"):
        Window(start, end)


@given(intervals, moments)
def test_a_day_holds_as_many_open_times_as_can_be_counted(interval, moment):
    window = day_window(moment.date())
    counted, at = 0, window.start
    while at < window.end:
        counted, at = counted + 1, at + interval.span
    assert window.candles(interval) == counted


@given(moments, st.integers(1, 5 * 24 * 3600))
def test_the_days_of_a_window_are_those_of_its_moments(start, seconds):
    end = start + timedelta(seconds=seconds)
    inside = [start + timedelta(hours=n) for n in range(5 * 24 + 1)]
    touched = {at.date() for at in [*inside, end - timedelta(microseconds=1)] if at < end}
    days = list(days_of(Window(start, end)))
    assert days == sorted(touched)


@given(intervals, moments, settles)
def test_the_newest_closed_candle_is_settled_and_the_next_is_not(interval, now, settle):
    newest = newest_closed(interval, now, settle)
    millisecond = timedelta(milliseconds=1)
    close_time = newest + interval.span - millisecond
    assert interval.floor(newest) == newest
    assert now >= close_time + settle
    assert now < close_time + interval.span + settle


def test_a_candle_is_closed_from_the_very_millisecond_of_its_settling_on():
    settled = datetime(2026, 10, 25, 12, 1, 1, 999_000, tzinfo=UTC)
    settle = timedelta(seconds=2)
    newest = datetime(2026, 10, 25, 12, 0, tzinfo=UTC)
    assert newest_closed(Interval.ONE_MINUTE, settled, settle) == newest
    before = settled - timedelta(milliseconds=1)
    assert newest_closed(Interval.ONE_MINUTE, before, settle) == newest - MINUTE


@given(open_times(), st.booleans())
def test_every_open_time_has_one_object_and_shares_it_with_its_neighbours_in_it(held, finished):
    interval, moment = held
    window = object_window(interval, moment, finished=finished)
    assert window.start <= moment < window.end
    assert window.start.date() == moment.date()
    last = window.end - interval.span
    assert object_window(interval, window.start, finished=finished) == window
    assert object_window(interval, last, finished=finished) == window


@given(open_times())
def test_an_object_of_an_open_day_is_one_request_of_weight_one(held):
    interval, moment = held
    assert object_window(interval, moment, finished=False).candles(interval) <= 99


@given(open_times(), st.none() | st.integers(0, 3000))
def test_a_tick_reads_whole_objects_of_one_day_up_to_the_newest_candle(held, behind):
    interval, newest = held
    stored = None if behind is None else newest - behind * interval.span
    window = tick_window(interval, newest, stored)
    assert window.end == newest + interval.span
    assert window.start.date() == newest.date()
    assert object_window(interval, window.start, finished=False).start == window.start


@given(open_times(), st.none() | st.integers(0, 3000))
def test_a_tick_reads_all_of_the_open_day_that_is_not_stored(held, behind):
    interval, newest = held
    day_start = datetime.combine(newest.date(), datetime.min.time(), tzinfo=UTC)
    stored = None if behind is None else newest - behind * interval.span
    window = tick_window(interval, newest, stored)
    missing = day_start if stored is None else max(stored + interval.span, day_start)
    assert window.start <= min(missing, newest)


@given(open_times(Interval.ONE_MINUTE))
def test_the_hour_just_ended_is_read_once_more_within_one_request(held):
    _, newest = held
    window = tick_window(Interval.ONE_MINUTE, newest, newest - MINUTE)
    in_the_last_hour = newest - 2 * MINUTE
    if in_the_last_hour.date() == newest.date():
        assert window.start <= in_the_last_hour
    assert window.candles(Interval.ONE_MINUTE) <= 99


def test_a_minute_in_the_middle_of_an_hour_rereads_that_hour_only():
    newest = datetime(2026, 10, 25, 12, 30, tzinfo=UTC)
    window = tick_window(Interval.ONE_MINUTE, newest, newest - MINUTE)
    assert window == Window(newest.replace(minute=0), newest + MINUTE)


def test_the_first_minute_of_a_day_does_not_reach_into_the_day_before():
    midnight = datetime(2026, 10, 25, tzinfo=UTC)
    stored = midnight - MINUTE
    assert tick_window(Interval.ONE_MINUTE, midnight, stored) == Window(midnight, midnight + MINUTE)


def test_a_symbol_without_anything_stored_gets_its_whole_open_day():
    newest = datetime(2026, 10, 25, 17, 5, tzinfo=UTC)
    window = tick_window(Interval.ONE_MINUTE, newest, None)
    assert window.start == day_window(date(2026, 10, 25)).start
