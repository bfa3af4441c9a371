from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.market.completeness import completeness, split_by_day
from pipeline_assets.market.gap_causes import Cause
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets_tests.examples import examples

START = datetime(2026, 10, 25, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAYS = 4
TIME = pl.Datetime("us", "UTC")
SCHEMA = {
    "symbol": pl.String,
    "interval": pl.String,
    "first": TIME,
    "last": TIME,
    "count": pl.Int64,
    "cause": pl.String,
}
Slots = dict[int, str]  # hours since START, and why the candle is not stored


def gaps_of(held: dict[str, Slots]) -> pl.DataFrame:
    """Return each symbol's hours as runs of one cause."""
    rows = []
    for symbol, slots in held.items():
        for slot in sorted(slots):
            if rows and rows[-1][0] == symbol and rows[-1][2:] == (slot - 1, slots[slot]):
                rows[-1] = (symbol, rows[-1][1], slot, slots[slot])
            else:
                rows.append((symbol, slot, slot, slots[slot]))
    reported = [
        (symbol, "1h", START + first * HOUR, START + last * HOUR, last - first + 1, cause)
        for symbol, first, last, cause in rows
    ]
    return pl.DataFrame(reported, schema=SCHEMA, orient="row")


def days(count: int = DAYS) -> list[date]:
    return [(START + number * 24 * HOUR).date() for number in range(count)]


WINDOW = Window(START, START + DAYS * 24 * HOUR)
slots = st.dictionaries(st.integers(0, DAYS * 24 - 1), st.sampled_from(list(Cause)), max_size=96)
symbols = st.dictionaries(st.sampled_from(["AUSDT", "BUSDT", "币安人生USDT"]), slots)


@settings(max_examples=examples(60))
@given(symbols)
def test_days_keep_the_cut_gaps_candles(held) -> None:
    """A gap cut at day boundaries has the same candles."""
    cut = split_by_day(gaps_of(held), Interval.ONE_HOUR)
    reported: dict[str, Slots] = {symbol: {} for symbol in held}
    for day, symbol, _, first, last, count, cause in cut.rows():
        assert first.date() == last.date() == day
        low, high = (first - START) // HOUR, (last - START) // HOUR
        assert count == high - low + 1
        reported[symbol] |= dict.fromkeys(range(low, high + 1), str(cause))
    assert reported == held
    assert cut.columns == ["day", *SCHEMA]


@settings(max_examples=examples(60))
@given(symbols, st.sets(st.sampled_from(days())))
def test_days_report_expected_and_missing(held, looked_at) -> None:
    """Each day reports how many candles should exist and how many of them are missing."""
    frame = completeness(gaps_of(held), list(held), Interval.ONE_HOUR, WINDOW, looked_at)
    expected = []
    for symbol in sorted(held):
        for number, day in enumerate(days()):
            causes = [held[symbol].get(24 * number + hour) for hour in range(24)]
            not_due = causes.count("not_listed") + causes.count("still_open")
            stored = causes.count(None)
            known = day in looked_at
            expected.append(
                (
                    symbol,
                    day,
                    24 - not_due if known else None,
                    24 - not_due - stored if known else None,
                    causes != ["not_listed"] * 24,
                )
            )
    assert frame.rows() == expected


def test_other_symbols_and_days_are_ignored() -> None:
    """Other intervals, symbols and days have no effect."""
    gaps = gaps_of(
        {"AUSDT": dict.fromkeys(range(90, 130), "not_fetched"), "XUSDT": {3: "set_aside"}}
    )
    others = gaps.with_columns(interval=pl.lit("1m"))
    frame = completeness(
        pl.concat([gaps, others]), ["AUSDT"], Interval.ONE_HOUR, WINDOW, [*days(), date(2020, 1, 1)]
    )
    assert frame["missing"].to_list() == [0, 0, 0, 6]
    assert frame["expected"].to_list() == [24] * 4


def test_partial_window_reports_its_day() -> None:
    """A window within a day reports that day."""
    noon = Window(START + 10 * HOUR, START + 26 * HOUR)
    frame = completeness(gaps_of({}), ["AUSDT"], Interval.ONE_HOUR, noon, days(2))
    assert frame["day"].to_list() == days(2)
