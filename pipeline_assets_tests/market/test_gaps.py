from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.market.gaps import Expected, expected_frame, expected_open_times, gaps
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets_tests.examples import examples

DAY = day_window(datetime(2026, 10, 25, tzinfo=UTC).date())
TIME = pl.Datetime("us", "UTC")
SPANS = {Interval.ONE_MINUTE: 60, Interval.FIFTEEN_MINUTES: 900, Interval.ONE_HOUR: 3600}
seconds = st.integers(-200_000, 200_000).map(lambda value: DAY.start + timedelta(seconds=value))


def open_times(**by_symbol: list[datetime]) -> pl.DataFrame:
    rows = [(symbol, moment) for symbol, held in by_symbol.items() for moment in held]
    return pl.DataFrame(rows, schema={"symbol": pl.String, "open_time": TIME}, orient="row")


def whole_grid(interval: Interval) -> list[datetime]:
    around = range(-400_000 // 3600 * 3600, 400_000, SPANS[interval])
    return [DAY.start + timedelta(seconds=second) for second in around]


@settings(max_examples=examples(60))
@given(
    st.sampled_from(Interval),
    seconds,
    st.integers(1, 100_000),
    st.none() | seconds,
    st.none() | seconds,
    st.none() | st.integers(-50, 50),
)
def test_expected_candles_match_grid_search(
    interval, start, length, listed_at, delisted_at, newest_at
):
    """The expected candles are those that a search of the grid finds."""
    window = Window(start, start + timedelta(seconds=length))
    span = timedelta(seconds=SPANS[interval])
    newest = None if newest_at is None else DAY.start + newest_at * span
    found = [
        moment
        for moment in whole_grid(interval)
        if window.start <= moment < window.end
        and (listed_at is None or moment + span > listed_at)
        and (delisted_at is None or moment < delisted_at)
        and (newest is None or moment <= newest)
    ]
    expected = expected_open_times(interval, window, listed_at, delisted_at, newest)
    if not found:
        assert expected is None
    else:
        assert expected == Expected(found[0], found[-1], len(found))


def test_listing_within_candle_includes_it():
    """A listing within a candle begins with that candle."""
    listed_at = DAY.start + timedelta(hours=3, minutes=20, seconds=5)
    expected = expected_open_times(Interval.ONE_HOUR, DAY, listed_at, None, None)
    assert expected is not None
    assert expected.first == DAY.start + timedelta(hours=3)


@settings(max_examples=examples(80))
@given(
    st.sampled_from(Interval),
    st.dictionaries(
        st.sampled_from(["AAAUSDT", "BBBUSDT", "币安人生USDT"]),
        st.sets(st.integers(0, 39)),
        min_size=1,
    ),
    st.randoms(),
)
def test_removed_open_times_are_reported(interval, removed_by_symbol, order):
    """Exactly the open times taken away are reported."""
    span = timedelta(seconds=SPANS[interval])
    grid = [DAY.start + number * span for number in range(40)]
    present = {
        symbol: [moment for number, moment in enumerate(grid) if number not in removed]
        for symbol, removed in removed_by_symbol.items()
    }
    shuffled = open_times(**present).rows()
    order.shuffle(shuffled)
    given_open_times = pl.DataFrame(shuffled, schema=open_times().schema, orient="row")
    expected = expected_frame(
        {symbol: Expected(grid[0], grid[-1], 40) for symbol in removed_by_symbol}
    )

    reported = gaps(given_open_times, interval, expected)

    stated: dict[str, set[int]] = {symbol: set() for symbol in removed_by_symbol}
    for symbol, start, end, missing in reported.rows():
        run = {number for number, moment in enumerate(grid) if start <= moment < end}
        assert len(run) == missing
        assert not stated[symbol] & run
        stated[symbol] |= run
    assert stated == removed_by_symbol
    for (symbol, _, end, _), (other, start, _, _) in pairwise(reported.rows()):
        assert (symbol, end) < (other, start), "neighbouring gaps must be one gap"


def test_empty_symbol_is_one_gap():
    """A symbol without any candle is one gap; a symbol without expected candles has none."""
    hour = Expected(DAY.start, DAY.start + timedelta(minutes=59), 60)
    expected = expected_frame({"BBBUSDT": hour, "AAAUSDT": None})
    assert gaps(open_times(), Interval.ONE_MINUTE, expected).rows() == [
        ("BBBUSDT", DAY.start, DAY.start + timedelta(hours=1), 60)
    ]


def test_foreign_rows_change_no_gap():
    """Doubled, foreign and off-grid rows neither fill nor make a gap."""
    first, last = DAY.start, DAY.start + timedelta(minutes=2)
    present = open_times(
        AAAUSDT=[
            first,
            first,
            first + timedelta(seconds=70),
            last,
            last + timedelta(minutes=9),
            first - timedelta(minutes=9),
        ],
        ZZZUSDT=[first],
    )
    expected = expected_frame({"AAAUSDT": Expected(first, last, 3)})
    minute = timedelta(minutes=1)
    assert gaps(present, Interval.ONE_MINUTE, expected).rows() == [
        ("AAAUSDT", first + minute, first + 2 * minute, 1)
    ]


@pytest.mark.parametrize("interval", Interval)
def test_complete_data_gives_empty_gaps(interval):
    """If nothing is missing, the result is an empty frame of the same shape."""
    expected = expected_open_times(interval, DAY, None, None, None)
    assert expected is not None
    span = timedelta(seconds=SPANS[interval])
    held = [DAY.start + number * span for number in range(expected.count)]
    reported = gaps(open_times(AAAUSDT=held), interval, expected_frame({"AAAUSDT": expected}))
    assert reported.is_empty()
    assert reported.schema == pl.Schema(
        {"symbol": pl.String, "start": TIME, "end": TIME, "missing": pl.Int64}
    )
