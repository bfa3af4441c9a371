from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.market.intervals import Interval, from_milliseconds, to_milliseconds

YEARS = timedelta(days=365) // timedelta(microseconds=1)
moments = st.integers(0, 200 * YEARS).map(
    lambda value: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
)
intervals = st.sampled_from(Interval)


@pytest.mark.parametrize(
    ("interval", "milliseconds", "per_day"),
    [("1m", 60_000, 1440), ("15m", 900_000, 96), ("1h", 3_600_000, 24)],
)
def test_intervals_match_the_exchange(interval, milliseconds, per_day):
    """The three intervals have the exchange's names and lengths."""
    assert Interval(interval).milliseconds == milliseconds
    assert Interval(interval).per_day == per_day


@given(intervals, moments)
def test_open_time_is_last_grid_point(interval, moment):
    """The open time of a moment is on the grid, less than a span before the moment."""
    opened = interval.floor(moment)
    assert opened.timestamp() % (interval.milliseconds / 1000) == 0
    assert timedelta(0) <= moment - opened < interval.span


@given(intervals, moments)
def test_every_day_begins_on_the_grid(interval, moment):
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    assert interval.floor(midnight) == midnight


@given(st.integers(0, 7_000_000_000_000))
def test_milliseconds_survive_a_round_trip(value):
    """Milliseconds survive the conversion to a datetime and back."""
    assert to_milliseconds(from_milliseconds(value)) == value


@given(moments)
def test_microseconds_are_rounded_down(moment):
    assert from_milliseconds(to_milliseconds(moment)) == moment.replace(
        microsecond=int(f"{moment.microsecond:06d}"[:3]) * 1000
    )
