from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.market.aggregation import (
    aggregate,
    differences,
    without_zero_volume,
    zero_volume_share,
)
from pipeline_assets.market.candles import VOLUME_COLUMNS, candle_schema
from pipeline_assets.market.intervals import Interval
from pipeline_assets_tests.market.frames import DAY_START, candle_frame, raw_row
from pipeline_assets_tests.market_data import candle_file

MINUTE = timedelta(minutes=1)
MINUTES = {Interval.FIFTEEN_MINUTES: 15, Interval.ONE_HOUR: 60}
to_intervals = st.sampled_from(list(MINUTES))


@st.composite
def minutes(draw, count=125):
    """Raw rows of two symbols in which some minutes are missing, in any order."""
    seed = Random(draw(st.integers(0, 2**32)))
    missing = draw(st.sets(st.tuples(st.booleans(), st.integers(0, count - 1)), max_size=4))
    rows = []
    for second_symbol in (False, True):
        for number in range(count):
            if (second_symbol, number) in missing:
                continue
            prices = sorted(Decimal(seed.randint(1, 10**7)) / 1000 for _ in range(4))
            between = prices[1:3]
            seed.shuffle(between)
            volumes = {
                name: str(Decimal(seed.randint(0, 10**12)) / 1000) for name in VOLUME_COLUMNS
            }
            rows.append(
                raw_row(
                    DAY_START + number * MINUTE,
                    symbol="币安人生USDT" if second_symbol else "BTCUSDT",
                    low=str(prices[0]),
                    high=str(prices[3]),
                    open=str(between[0]),
                    close=str(between[1]),
                    trades=seed.randint(0, 10**6),
                    **volumes,
                )
            )
    seed.shuffle(rows)
    return rows


def aggregated_by_hand(rows, interval):
    """Yield the aggregated candles, computed by a loop over decimals."""
    length = MINUTES[interval] * 60_000
    buckets = {}
    for row in sorted(rows, key=lambda row: (row["symbol"], row["open_time"])):
        buckets.setdefault((row["symbol"], row["open_time"] // length * length), []).append(row)
    for (symbol, start), held in buckets.items():
        if len(held) == MINUTES[interval]:
            yield {
                "symbol": symbol,
                "open_time": start,
                "open": held[0]["open"],
                "close": held[-1]["close"],
                "high": str(max(Decimal(row["high"]) for row in held)),
                "low": str(min(Decimal(row["low"]) for row in held)),
                "close_time": start + length - 1,
                "trades": sum(row["trades"] for row in held),
            } | {name: str(sum(Decimal(row[name]) for row in held)) for name in VOLUME_COLUMNS}


@settings(max_examples=25)
@given(minutes(), to_intervals)
def test_whole_buckets_equal_a_decimal_loop(rows, to):
    """Complete buckets equal a loop over decimals, and incomplete ones are left out."""
    by_hand = candle_frame(list(aggregated_by_hand(rows, to)))
    aggregated = aggregate(candle_frame(rows), to)
    assert aggregated.schema == candle_schema()
    exact = [name for name in aggregated.columns if name not in VOLUME_COLUMNS]
    assert aggregated.select(exact).equals(by_hand.select(exact))
    for name in VOLUME_COLUMNS:
        assert aggregated[name].to_list() == pytest.approx(by_hand[name].to_list(), rel=1e-12)
    assert differences(by_hand, aggregated).is_empty()


@pytest.mark.parametrize(
    ("column", "factor", "differs"),
    [
        ("open", 1 + 1e-15, True),
        ("close", 1.01, True),
        ("trades", None, True),
        ("volume", 1 + 1e-10, False),
        ("volume", 1 + 1e-8, True),
        ("taker_buy_quote_volume", 0.5, True),
    ],
)
def test_prices_equal_exactly_volumes_nearly(column, factor, differs):
    """Prices and numbers of trades must be equal, volumes nearly equal."""
    stored = candle_frame([raw_row(), raw_row(DAY_START + MINUTE)])
    change = pl.col(column) + 1 if factor is None else pl.col(column) * factor
    changed = pl.when(pl.col("open_time") == DAY_START).then(change).otherwise(pl.col(column))
    other = stored.with_columns(changed.cast(stored.schema[column]).alias(column))
    found = differences(stored, other)
    if differs:
        value = (float(stored[column][0]), float(other[column][0]))
        assert found.rows() == [("BTCUSDT", DAY_START, column, *value)]
    else:
        assert found.is_empty()


def test_one_sided_candle_is_no_difference():
    """A candle that one side does not have is no difference."""
    stored = candle_frame([raw_row(), raw_row(DAY_START + MINUTE)])
    assert differences(stored, stored[:1]).is_empty()
    assert differences(stored[:1], stored).is_empty()


def test_one_sided_zero_volume_differs():
    """Volume that is zero on one side only is a difference."""
    stored = candle_frame([raw_row(volume="0")])
    assert differences(stored, candle_frame([raw_row()]))["column"].to_list() == ["volume"]
    assert differences(stored, stored).is_empty()


def test_no_minutes_make_no_candles():
    aggregated = aggregate(candle_schema().to_frame(), Interval.ONE_HOUR)
    assert aggregated.schema == candle_schema()
    assert aggregated.is_empty()


def test_tradeless_candles_may_be_skipped():
    """A reader may leave out candles without a trade."""
    rows = [raw_row(), raw_row(DAY_START + MINUTE, volume="0"), raw_row(DAY_START + 2 * MINUTE)]
    candles = candle_frame(rows)
    traded = candle_frame([rows[0], rows[2]])
    assert without_zero_volume(candles).equals(traded)
    assert without_zero_volume(candles.lazy()).collect().equals(traded)


def test_tradeless_share_is_counted_by_symbol():
    """The share of candles without a trade is counted by symbol."""
    rows = [
        raw_row(DAY_START + number * MINUTE, volume="0" if number else "1") for number in range(4)
    ]
    rows.append(raw_row(symbol="AAAUSDT"))
    assert zero_volume_share(candle_frame(rows)).rows() == [
        ("AAAUSDT", 1, 0, 0.0),
        ("BTCUSDT", 4, 3, 0.75),
    ]


def test_quiet_month_is_counted():
    """A month with quiet minutes is counted."""
    real = pl.read_parquet(candle_file("NEARUSDT", "1m")).with_columns(symbol=pl.lit("NEARUSDT"))
    assert zero_volume_share(real).rows() == [("NEARUSDT", 44640, 14, 14 / 44640)]
    assert len(without_zero_volume(real)) == 44626
