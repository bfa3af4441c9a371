from __future__ import annotations

import math
from collections import Counter
from datetime import timedelta

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.market.candles import CANDLE_COLUMNS, RAW_COLUMNS, candle_schema, empty_raw
from pipeline_assets.market.cleaning import SUPERSEDED, clean
from pipeline_assets.market.intervals import Interval, from_milliseconds
from pipeline_assets.market.replies import raw_candles
from pipeline_assets.market.windows import Window
from pipeline_assets_tests.examples import examples
from pipeline_assets_tests.market.frames import (
    DAY_START,
    candle_frame,
    raw_frame,
    raw_of,
    raw_row,
)
from pipeline_assets_tests.market_data import candle_file

MINUTE = timedelta(minutes=1)
SYMBOLS = ("BTCUSDT", "币安人生USDT", "ETHUSDT")
WINDOWS = {symbol: Window(DAY_START, DAY_START + 10 * MINUTE) for symbol in SYMBOLS}

# Faults of a row, each with the change that makes it. None leaves the row valid.
FAULTS = {
    "close": ["abc", "", "NaN", "inf", "-inf", "1e999", "0x10", "1,5", "99.0", "102", "0", "-1"],
    "high": ["100.15", "99.9"],
    "low": ["100.11"],
    "volume": ["-1", "6.24"],
    "quote_volume": ["-0.5", "nothing"],
    "taker_buy_volume": ["-1", "12.501"],
    "taker_buy_quote_volume": ["1252", "-1e-9"],
    "trades": [-1],
    "close_time": [0, 2**63 - 1],
}
faults = st.one_of(
    st.just({}),
    *(
        st.sampled_from(values).map(lambda value, name=name: {name: value})
        for name, values in FAULTS.items()
    ),
)


@st.composite
def raw_rows(draw):
    moment = DAY_START + draw(st.integers(-2, 12)) * MINUTE
    moment += timedelta(seconds=draw(st.sampled_from([0, 0, 0, 0, 30])))
    symbol = draw(st.sampled_from((*SYMBOLS, "UNASKED")))
    changes = draw(faults) if draw(st.booleans()) else {}
    price = draw(st.sampled_from(["100.10", "100.100", "100.30"]))
    return raw_row(moment, symbol=symbol, **({"open": price} | changes))


many_rows = st.lists(raw_rows(), max_size=30)


def as_candle(row):
    """Return the values a raw row stands for, by Python's own reading."""
    values = dict(zip(RAW_COLUMNS, row[: len(RAW_COLUMNS)], strict=True))
    return candle_frame([values]).row(0)


@settings(max_examples=examples(150))
@given(many_rows)
def test_each_row_is_accounted_for(rows):
    """Every row is a candle, rejected, or a repetition."""
    raw = raw_frame(rows)
    cleaned = clean(raw, Interval.ONE_MINUTE, WINDOWS)
    assert len(cleaned.candles) + len(cleaned.rejected) + cleaned.repeated == len(rows)
    rejected = Counter(row[:-1] for row in cleaned.rejected.rows())
    left = Counter(raw.rows())
    assert rejected <= left
    left -= rejected
    # The rows that were not rejected are the candles, with the same values.
    assert {as_candle(row) for row in left} == set(cleaned.candles.rows())
    assert all(cleaned.rejected["reason"])


@settings(max_examples=examples(150))
@given(many_rows)
def test_passing_rows_are_sorted_possible_candles(rows):
    """The rows that pass are a sorted frame of possible candles."""
    cleaned = clean(raw_frame(rows), Interval.ONE_MINUTE, WINDOWS)
    assert cleaned.candles.schema == candle_schema()
    keys = [row[:2] for row in cleaned.candles.rows()]
    assert keys == sorted(set(keys))
    for row in cleaned.candles.to_dicts():
        window = WINDOWS[row["symbol"]]
        assert window.start <= row["open_time"] < window.end
        assert row["open_time"].second == 0
        assert row["close_time"] - row["open_time"] == timedelta(seconds=59, milliseconds=999)
        assert 0 < row["low"] <= min(row["open"], row["close"])
        assert max(row["open"], row["close"]) <= row["high"] < math.inf
        assert 0 <= row["taker_buy_volume"] <= row["volume"] < math.inf
        assert 0 <= row["taker_buy_quote_volume"] <= row["quote_volume"] < math.inf
        assert row["trades"] >= 0


@settings(max_examples=examples(60))
@given(many_rows)
def test_cleaning_what_is_clean_changes_nothing(rows):
    once = clean(raw_frame(rows), Interval.ONE_MINUTE, WINDOWS)
    twice = clean(raw_of(once.candles), Interval.ONE_MINUTE, WINDOWS)
    assert twice.candles.equals(once.candles)
    assert twice.rejected.is_empty()
    assert twice.repeated == 0


@settings(max_examples=examples(100))
@given(many_rows, st.randoms())
def test_order_matters_within_open_time_only(rows, order):
    """The order of receipt matters only among rows of one open time."""
    lists = {}
    for row in rows:
        lists.setdefault((row["symbol"], row["open_time"]), []).append(row)
    turns = [key for key, held in lists.items() for _ in held]
    order.shuffle(turns)
    waiting = {key: iter(held) for key, held in lists.items()}
    interleaved = [next(waiting[key]) for key in turns]

    cleaned = clean(raw_frame(rows), Interval.ONE_MINUTE, WINDOWS)
    other = clean(raw_frame(interleaved), Interval.ONE_MINUTE, WINDOWS)
    assert other.candles.equals(cleaned.candles)
    assert other.repeated == cleaned.repeated
    assert Counter(other.rejected.rows()) == Counter(cleaned.rejected.rows())


@given(st.lists(st.floats(1e-12, 1e15) | st.decimals(1, 10**9, places=8), min_size=1, max_size=9))
def test_decimal_strings_parse_as_in_python(values):
    """Decimal strings become the numbers that Python reads."""
    texts = [str(value) for value in values]
    rows = [
        raw_row(DAY_START + number * MINUTE, open=text, high=text, low=text, close=text)
        for number, text in enumerate(texts)
    ]
    cleaned = clean(raw_frame(rows), Interval.ONE_MINUTE, WINDOWS)
    assert cleaned.candles["open"].to_list() == [float(text) for text in texts]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"symbol": "UNASKED"}, "its symbol was not asked for"),
        ({"open_time": 1, "close_time": 60_000}, "open time is not on the grid of 1m"),
        ({"open_time": 0, "close_time": 59_999}, "open time is outside the window"),
        ({"close_time": 0}, "close time is not the last millisecond before the next open time"),
        ({"close": "abc"}, "close is not a finite number"),
        ({"volume": ""}, "volume is not a finite number"),
        ({"taker_buy_volume": "NaN"}, "taker_buy_volume is not a finite number"),
        ({"quote_volume": "inf"}, "quote_volume is not a finite number"),
        ({"low": "0"}, "a price is not positive"),
        ({"high": "100.15"}, "high is below another price"),
        ({"low": "100.11"}, "low is above another price"),
        ({"volume": "-1"}, "volume is negative"),
        ({"quote_volume": "-1"}, "quote_volume is negative"),
        ({"taker_buy_volume": "13"}, "taker_buy_volume is not between zero and volume"),
        (
            {"taker_buy_quote_volume": "-1"},
            "taker_buy_quote_volume is not between zero and quote_volume",
        ),
        ({"trades": -1}, "trades is negative"),
        # The first that fails is named.
        ({"trades": -1, "low": "0", "close": "abc"}, "close is not a finite number"),
    ],
)
def test_impossible_candle_is_rejected_as_received(changes, reason):
    """A row that cannot be a candle is rejected and kept as received."""
    wrong = raw_row(DAY_START + MINUTE) | changes
    rows = [raw_row(), wrong, raw_row(DAY_START + 2 * MINUTE)]
    cleaned = clean(raw_frame(rows), Interval.ONE_MINUTE, WINDOWS)
    assert cleaned.rejected.to_dicts() == [wrong | {"reason": reason}]
    assert cleaned.candles.equals(candle_frame([rows[0], rows[2]]))


def test_open_candle_does_not_pass():
    """The end of the window is exclusive, so that an open candle does not pass."""
    window = Window(DAY_START, DAY_START + 2 * MINUTE)
    rows = [raw_row(DAY_START + number * MINUTE) for number in range(3)]
    cleaned = clean(raw_frame(rows), Interval.ONE_MINUTE, {"BTCUSDT": window})
    assert cleaned.candles.equals(candle_frame(rows[:2]))
    assert cleaned.rejected["reason"].to_list() == ["open time is outside the window"]


def test_last_contradicting_row_is_kept():
    """The last received of contradicting rows is kept, and the others are rejected."""
    first, second, third = (raw_row(open=price) for price in ("100.1", "100.2", "100.3"))
    rows = [third, first, second, third]
    cleaned = clean(raw_frame(rows), Interval.ONE_MINUTE, WINDOWS)
    assert cleaned.candles.equals(candle_frame([third]))
    assert cleaned.rejected.to_dicts() == [
        first | {"reason": SUPERSEDED},
        second | {"reason": SUPERSEDED},
    ]
    assert cleaned.repeated == 1


def test_failing_later_row_supersedes_nothing():
    """A later row that fails does not replace an earlier one."""
    rows = [raw_row(), raw_row(open="-1")]
    cleaned = clean(raw_frame(rows), Interval.ONE_MINUTE, WINDOWS)
    assert cleaned.candles.equals(candle_frame(rows[:1]))
    assert cleaned.rejected["reason"].to_list() == ["a price is not positive"]


def test_rounded_taker_share_passes():
    """A taker's share that rounding put above the whole passes."""
    row = raw_row(quote_volume="1251.25000", taker_buy_quote_volume="1251.2500000001")
    cleaned = clean(raw_frame([row]), Interval.ONE_MINUTE, WINDOWS)
    assert cleaned.candles.equals(candle_frame([row]))


def test_a_frame_without_rows_is_clean():
    cleaned = clean(empty_raw(), Interval.ONE_HOUR, {})
    assert cleaned.candles.schema == candle_schema()
    assert cleaned.candles.is_empty()
    assert cleaned.rejected.columns == [*RAW_COLUMNS, "reason"]
    assert cleaned.repeated == 0


@pytest.mark.parametrize("symbol", ["AVAXUSDT", "NEARUSDT"])
def test_weeks_of_minutes_are_clean(symbol):
    real = pl.read_parquet(candle_file(symbol, "1m"))
    whole = ("open_time", "close_time", "trades")
    body = orjson.dumps(
        [
            [value if column in whole else str(value) for column, value in row.items()]
            for row in real.to_dicts()
        ]
    )
    first, last = (from_milliseconds(real["open_time"][place]) for place in (0, -1))
    windows = {symbol: Window(first, last + MINUTE)}
    cleaned = clean(raw_candles([(symbol, body)]), Interval.ONE_MINUTE, windows)
    assert cleaned.rejected.is_empty()
    assert cleaned.repeated == 0
    renamed = real.rename(
        {"taker_buy_base": "taker_buy_volume", "taker_buy_quote": "taker_buy_quote_volume"}
    )
    numbers = CANDLE_COLUMNS[2:-1]
    assert cleaned.candles.select(numbers).equals(
        renamed.select(numbers).with_columns(pl.col("trades").cast(pl.Int64))
    )
    assert cleaned.candles["open_time"].dt.epoch("ms").to_list() == real["open_time"].to_list()
