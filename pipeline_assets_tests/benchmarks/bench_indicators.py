"""How long indicators take over a year and for one minute of 500 symbols, and what strategies add.

All is CPU time (of every thread), the best of several rounds, so that other programs on the machine
count as little as can be.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import talib

from pipeline_assets.market.evaluation import evaluate
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
from pipeline_assets.market.strategies import configured_strategies, indicators_of
from pipeline_assets.settings import Settings
from pipeline_assets_tests.benchmarks.harness import report

SYMBOLS = 500
YEAR = 365 * 1440
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
EVERY = IndicatorSet(
    [Rsi(14), Ema(50), Ema(200), Macd(12, 26, 9), Atr(14), BollingerBands(20), VolumeAverage(20)]
)


def walk(symbols: list[str], minutes: int) -> pl.DataFrame:
    """Return a random walk of each symbol."""
    chance = np.random.default_rng(7)
    rows = len(symbols) * minutes
    moves = chance.normal(0, 5e-4, (len(symbols), minutes)).cumsum(axis=1).ravel()
    close = np.round(60_000 * np.exp(moves), 1)
    apart = chance.gamma(1, 10, (2, rows))
    time_of = pl.datetime_range(
        FIRST, FIRST + timedelta(minutes=minutes - 1), "1m", time_unit="us", eager=True
    )
    return pl.DataFrame(
        {
            "symbol": np.repeat(symbols, minutes),
            "open_time": pl.concat([time_of] * len(symbols)),
            "high": close + apart[0],
            "low": close - apart[1],
            "close": close,
            "volume": chance.gamma(1, 100, rows),
        }
    )


def best(run: Callable[[], object], rounds: int) -> float:
    """CPU seconds."""
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return min(taken)


def talib_alone(candles: pl.DataFrame) -> Callable[[], list[object]]:
    """Compute the same indicators by TA-Lib, on prepared arrays; all results are held at once.

    A user of the results holds them too, and new memory for the process is half of the time.
    """
    high, low, close, volume = (
        np.ascontiguousarray(candles[name].to_numpy())
        for name in ("high", "low", "close", "volume")
    )

    def run() -> list[object]:
        return [
            talib.RSI(close, 14),
            talib.EMA(close, 50),
            talib.EMA(close, 200),
            talib.MACD(close, 12, 26, 9),
            talib.ATR(high, low, close, 14),
            talib.BBANDS(close, 20, 2, 2),
            talib.SMA(volume, 20),
        ]

    return run


def main() -> int:
    year = walk(["BTCUSDT"], YEAR)
    whole, theirs = best(lambda: EVERY.history(year), 15), best(talib_alone(year), 15)
    met = [
        report(
            "a year of 1m of one symbol through all indicators, as a frame",
            whole * 1000,
            "ms",
            3 * theirs * 1000,
            ratio=whole / theirs,
            against="TA-Lib's own time for the same, arrays to arrays",
        )
    ]

    symbols = [f"SYMBOL{number:03}USDT" for number in range(SYMBOLS)]
    candles = walk(symbols, EVERY.candles_needed + 1)
    newest = candles.filter(pl.col("open_time") == candles["open_time"].max())
    past = candles.filter(pl.col("open_time") < candles["open_time"].max())
    states = IndicatorStates.from_history(EVERY, past)
    single = talib_alone(past[-100:])
    step, one_window = best(lambda: states.advance(newest), 200), best(single, 200)
    met.append(
        report(
            "one candle's indicators, frame to frame",
            step / SYMBOLS * 1e6,
            "us a symbol",
            1,
            ratio=step / SYMBOLS / one_window,
            against="TA-Lib over one symbol's last 100 candles",
        )
    )
    kept = best(lambda: IndicatorStates.decode(EVERY, states.encode()), 50)
    rebuilt = best(lambda: IndicatorStates.from_history(EVERY, past), 3)
    met.append(
        report(
            "500 states rebuilt from history",
            rebuilt * 1000,
            "ms",
            2000,
            ratio=rebuilt / step,
            against="one candle of each",
            candles_each=EVERY.candles_needed,
            encoded_and_decoded_ms=kept * 1000,
            bytes_each=len(states.encode()[symbols[0]]),
        )
    )

    strategies = configured_strategies(Settings(_env_file=None).strategies)
    _, minute = IndicatorStates.from_history(indicators_of(strategies), past).advance(newest)
    found = evaluate(strategies, minute, FIRST)
    if found.failures:
        raise SystemExit(f"Strategies failed: {found.failures}")
    evaluation = best(lambda: evaluate(strategies, minute, FIRST), 50)
    filtering = best(lambda: minute.filter(pl.col("close") > pl.col("close_previous")), 50)
    met.append(
        report(
            "evaluation of a minute of 500 symbols",
            evaluation * 1000,
            "ms",
            50,
            ratio=evaluation / filtering,
            against="one filter of the same frame",
            strategies=len(strategies),
            candidates=len(found.candidates),
        )
    )
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
