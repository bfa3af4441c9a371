"""Candles for the tests of indicators and strategies, of files and made up. No tests here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
import talib

from pipeline_assets.market.indicators import (
    Atr,
    BollingerBands,
    Ema,
    IndicatorSet,
    IndicatorStates,
    Macd,
    Rsi,
    VolumeAverage,
)
from pipeline_assets_tests.market_data import candle_file

FIRST = datetime(2026, 11, 1, tzinfo=UTC)
FILED = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "AVAXUSDT", "NEARUSDT")
EVERY = IndicatorSet(
    [Rsi(14), Ema(200), Macd(12, 26, 9), Atr(14), BollingerBands(20), VolumeAverage(20)]
)
SHORT = IndicatorSet(
    [Rsi(3), Ema(4), Macd(2, 5, 3), Atr(3), BollingerBands(6, 1.5), VolumeAverage(7)]
)
# Allowed differences from TA-Lib's values, as parts of the value itself or of the price.
OF_THE_PRICE = ("macd", "bollinger")


@cache
def market_minutes(symbol: str) -> pl.DataFrame:
    """Return the minutes of a symbol's file of market data."""
    return pl.read_parquet(candle_file(symbol, "1m")).select(
        pl.lit(symbol).alias("symbol"),
        pl.from_epoch("open_time", "ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC"),
        *("open", "high", "low", "close", "volume"),
    )


def together(symbols: Sequence[str], minutes: int) -> pl.DataFrame:
    """Return the first minutes of some symbols, as if they had been of one time."""
    clock = pl.datetime_range(
        FIRST, FIRST + timedelta(minutes=minutes - 1), "1m", time_unit="us", eager=True
    )
    return pl.concat(
        market_minutes(symbol)[:minutes].with_columns(open_time=clock) for symbol in sorted(symbols)
    )


def candles(
    closes: Sequence[float],
    volumes: Sequence[float] | None = None,
    spread: float = 0.0,
    symbol: str = "BTCUSDT",
    first: datetime = FIRST,
) -> pl.DataFrame:
    """Minutes of these closes; high and low lie `spread` (of the close) away."""
    close = np.asarray(closes, float)
    return pl.DataFrame(
        {
            "symbol": pl.Series([symbol] * len(close), dtype=pl.String),
            "open_time": pl.Series(
                [first + timedelta(minutes=number) for number in range(len(close))],
                dtype=pl.Datetime("us", "UTC"),
            ),
            "open": close,
            "high": close * (1 + spread),
            "low": close * (1 - spread),
            "close": close,
            "volume": np.asarray(volumes if volumes is not None else np.ones(len(close)), float),
        }
    )


def by_talib(indicator_set: IndicatorSet, one_symbol: pl.DataFrame) -> dict[str, np.ndarray]:
    """Return the columns of the set by TA-Lib alone."""
    high, low, close, volume = (
        one_symbol[n].to_numpy() for n in ("high", "low", "close", "volume")
    )
    columns: dict[str, np.ndarray] = {}
    for each in indicator_set.indicators:
        match each:
            case Rsi():
                values = (talib.RSI(close, each.period),)
            case Ema():
                values = (talib.EMA(close, each.period),)
            case Macd():
                values = talib.MACD(close, each.fast, each.slow, each.signal)
            case Atr():
                values = (talib.ATR(high, low, close, each.period),)
            case BollingerBands():
                values = talib.BBANDS(close, each.period, each.deviations, each.deviations)
            case VolumeAverage():
                values = (talib.SMA(volume, each.period),)
        columns |= dict(zip(each.columns, values, strict=True))
    return columns


def assert_equal_values(found: pl.DataFrame, expected: dict[str, np.ndarray]) -> None:
    """Within 1e-9 of the value, or of the price where differences of prices are compared."""
    price = found["close"].to_numpy()
    for name, values in expected.items():
        mine = found[name].to_numpy()
        np.testing.assert_array_equal(np.isnan(mine), np.isnan(values), err_msg=name)
        size = price if name.startswith(OF_THE_PRICE) else np.abs(values)
        wrong = np.abs(mine - values) > 1e-9 * size
        assert not wrong.any(), (name, int(wrong.argmax()), mine[wrong][0], values[wrong][0])


def fold(
    indicator_set: IndicatorSet, frame: pl.DataFrame, begin: int, chance: np.random.Generator
) -> tuple[IndicatorStates, pl.DataFrame]:
    """Minute after minute from the minute `begin` on, with restarts at random."""
    minutes = frame.sort("open_time", "symbol").partition_by("open_time", maintain_order=True)
    past = pl.concat([frame.clear(), *minutes[:begin]]).sort("symbol", "open_time")
    states = IndicatorStates.from_history(indicator_set, past)
    rows = []
    for minute in minutes[begin:]:
        known = minute.filter(pl.col("symbol").is_in(states.symbols))
        new = minute.filter(~pl.col("symbol").is_in(states.symbols))
        states, row = states.advance(known)
        rows.append(row)
        if len(new):
            states = states.merge(IndicatorStates.from_history(indicator_set, new))
        if chance.random() < 0.05:
            states, useless = IndicatorStates.decode(indicator_set, states.encode())
            assert useless == {}
    return states, pl.concat(rows).sort("symbol", "open_time")
