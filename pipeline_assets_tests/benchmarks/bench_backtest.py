"""How fast a backtest's loop is, beside vectorbt and backtesting.py in the same run; how long backtests from
S3 take, and how much memory twenty symbols need. The loop is in CPU time, compilation apart.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline_assets.market import position_step as step
from pipeline_assets.market.candles import candle_schema
from pipeline_assets.market.encoding import encode_candles
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.position_rules import FixedNotional, PositionRules
from pipeline_assets.market.step_tables import (
    FillModel,
    FundingRate,
    config_row,
    event_room,
    funding_table,
    grid_of,
    market_tables,
    new_state,
    rules_table,
    to_minute,
)
from pipeline_assets.market.strategies import configured_strategies
from pipeline_assets.market.trading_rules import Fees, TradingDocuments, TradingRules
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.research.backtest import run_backtest
from pipeline_assets.research.backtest_types import BacktestRequest
from pipeline_assets.research.candle_blocks import COLUMNS
from pipeline_assets.research.readers import LakeCandles, lake_documents
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import StrategySettings
from pipeline_assets_tests.benchmarks.bench_indicators import FIRST, YEAR, best, walk
from pipeline_assets_tests.benchmarks.harness import report
from pipeline_assets_tests.fixtures.s3 import S3Server, make_bucket

SYMBOLS = [f"S{number:02}USDT" for number in range(20)]
DAYS = 365
RULES = TradingRules(*(Decimal(text) for text in ("0.1", "0.0001", "0.0001", "1000", "5")))
# One signal in some 60 minutes: about 9,000 a year, as an EMA cross has.
SIGNALLING = 0.017


def year_of(symbols: list[str], minutes: int = YEAR) -> pl.DataFrame:
    """Random candles, open included, on the tick's grid."""
    frame = walk(symbols, minutes)
    opened = pl.col("close").shift(1).over("symbol").fill_null(pl.col("close"))
    return frame.with_columns(open=opened).with_columns(
        high=pl.max_horizontal("open", "high").round(1),
        low=pl.min_horizontal("open", "low").round(1),
    )


def loop(frame: pl.DataFrame, sides: np.ndarray, rules: PositionRules, funding: bool) -> Callable:
    """The compiled loop over a year of one symbol, on prepared tables."""
    grid, minutes = grid_of("BTCUSDT", [RULES]), len(frame)
    ticks = [
        np.rint(frame[name].to_numpy() * 10).astype(np.int64)[None]
        for name in ["open", "high", "low", "close"]
    ]
    flags = np.full((1, minutes), step.PRESENT | step.TRADABLE, np.uint8)
    found, first = np.flatnonzero(sides), to_minute(FIRST)
    signals = np.zeros((len(found), 5), np.int64)
    signals[:, 0], signals[:, 3] = found + first, sides[found]
    times = [FIRST + timedelta(hours=8 * number) for number in range(DAYS * 3)] if funding else []
    rates = funding_table({0: [FundingRate(each, Decimal("0.0001")) for each in times]})
    fees = Fees() if funding else Fees(Decimal(0), Decimal(0))
    setup = (
        config_row(FillModel(1, Decimal("0.0002") if funding else Decimal(0))),
        rules_table([rules]),
        *market_tables([grid], [RULES], fees),
    )

    def run() -> int:
        state = new_state(1, 1, Decimal(1_000_000))
        equity, events = np.zeros((minutes // 60 + 2, 2), np.int64), event_room(len(signals), 1)
        count, _ = step.run(
            first, tuple(ticks), flags, signals, rates, state.arrays(), setup, equity, events
        )
        return count

    return run


def by_vectorbt(frame: pl.DataFrame, sides: np.ndarray) -> tuple[float, float]:
    """CPU seconds of vectorbt's first call, which compiles, and of the best one after."""
    import vectorbt

    opens = frame["open"].to_pandas()
    before = np.concatenate([[0], sides[:-1]])

    def run() -> object:
        return vectorbt.Portfolio.from_signals(
            opens,
            entries=before > 0,
            exits=before < 0,
            short_entries=before < 0,
            short_exits=before > 0,
            price=opens,
            init_cash=1_000_000.0,
            freq="1min",
        ).trades.records

    return best(run, 1), best(run, 5)


def by_backtesting(frame: pl.DataFrame, sides: np.ndarray) -> float:
    """CPU seconds of backtesting.py over a tenth of the year, for the whole year."""
    from backtesting import Backtest
    from backtesting import Strategy as Theirs

    part = len(frame) // 10
    data = frame[:part].to_pandas().set_index("open_time")
    data.columns = [name.capitalize() for name in data.columns]
    chosen = sides[:part]

    class BySides(Theirs):  # type: ignore[misc]
        def init(self) -> None:
            self.sides = self.I(lambda: chosen, name="sides", plot=False)

        def next(self) -> None:
            side = self.sides[-1]
            if side and (not self.position or side * self.position.size < 0):
                if self.position:
                    self.position.close()
                elif side > 0:
                    self.buy(size=1)
                else:
                    self.sell(size=1)

    def run() -> object:
        return Backtest(data, BySides, cash=1_000_000_000, trade_on_close=False).run()

    return best(run, 1) * 10


def loops() -> list[bool]:
    """The loop's speed."""
    frame = year_of(["BTCUSDT"])
    chance = np.random.default_rng(2)
    sides = chance.choice([-1, 0, 1], YEAR, p=[SIGNALLING / 2, 1 - SIGNALLING, SIGNALLING / 2])
    size = FixedNotional(value=Decimal(1000))
    plain = loop(frame, sides, PositionRules(sizing=size), False)
    whole_rules = PositionRules(sizing=size, stop=Decimal("0.005"), target=Decimal("0.01"))
    whole = loop(frame, sides, whole_rules, True)
    compiling = best(plain, 1)
    plain_time, whole_time = best(plain, 15), best(whole, 15)
    warnings.simplefilter("ignore")
    first, theirs = by_vectorbt(frame, sides)
    slower = by_backtesting(frame, sides)
    return [
        report(
            "bars a second of the loop, entry and opposite signal",
            YEAR / plain_time / 1e6,
            "M bars/s",
            100,
            ratio=theirs / plain_time,
            against="vectorbt 1.2.0, warm, for the same signals (times faster)",
            at_least=True,
            fills=plain(),
            first_call_s=compiling,
            vectorbt_bars_per_s=YEAR / theirs,
            vectorbt_first_call_s=first,
        ),
        report(
            "bars a second of the loop with stop, target, fees, slippage and funding",
            YEAR / whole_time / 1e6,
            "M bars/s",
            30,
            ratio=slower / whole_time,
            against="backtesting.py 0.6.6 with entry and opposite signal only (times faster)",
            at_least=True,
            fills=whole(),
            backtesting_bars_per_s=YEAR / slower,
        ),
    ]


def request(symbols: list[str], days: int) -> BacktestRequest:
    entry = StrategySettings(name="ema_trend", rules={"stop": "0.005", "target": "0.01"})
    start = FIRST + timedelta(days=3)
    end = FIRST + timedelta(days=days)
    return BacktestRequest(configured_strategies([entry]), symbols, start, end)


class MadeUp:
    """A reader that makes each month's candles when asked, so that only the backtest's memory counts."""

    damaged: tuple[str, ...] = ()

    def candles(self, symbols: Any, window: Window, columns: Any) -> pl.DataFrame:
        minutes = (window.end - window.start) // timedelta(minutes=1)
        moved = pl.col("open_time") + (window.start - FIRST)
        # One symbol after the other: making all at once would take more memory than the backtest.
        return pl.concat(
            year_of([each], minutes).with_columns(open_time=moved).select(columns)
            for each in symbols
        )

    def listed(self) -> dict[str, Any]:
        return {}


def peak_memory() -> float:
    """MB of this process since it began; `getrusage` would count the process that started it, too."""
    status = Path("/proc/self/status").read_text("utf-8")
    return float(status.partition("VmHWM:")[2].split()[0]) / 1024


def memory() -> None:
    """Print the peak memory of this process in MB, after twenty symbols over a year."""
    documents = dict.fromkeys(SYMBOLS, ())
    run_backtest(request(SYMBOLS, DAYS), MadeUp(), None, lambda _: TradingDocuments(documents))
    print(peak_memory())


def from_memory() -> bool:
    command = [sys.executable, "-m", __spec__.name, "memory"]
    bare = [*command[:-1], "bare"]
    # As our own processes have it (process_memory.py).
    frugal = os.environ | {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
    peak, empty = (
        float(subprocess.run(each, check=True, stdout=subprocess.PIPE, env=frugal).stdout)
        for each in (command, bare)
    )
    return report(
        "peak memory of a backtest of twenty symbols over a year",
        peak,
        "MB",
        500,
        ratio=peak / empty,
        against="a process that imports the same and does nothing",
    )


def stored(store: ObjectStore, symbols: list[str]) -> None:
    """Put a year of finished days of 1m candles on the lake."""
    names = candle_schema().names()
    for symbol in symbols:
        year = year_of([symbol]).with_columns(
            quote_volume=pl.col("volume") * pl.col("close"),
            taker_buy_volume=pl.col("volume") / 2,
            taker_buy_quote_volume=pl.col("volume") * pl.col("close") / 2,
            trades=pl.lit(100, pl.Int64),
            close_time=pl.col("open_time") + timedelta(minutes=1, milliseconds=-1),
        )
        bodies = []
        for number in range(DAYS):
            day = (FIRST + timedelta(days=number)).date()
            part = year[number * 1440 : (number + 1) * 1440].select(names)
            body = encode_candles(part, Interval.ONE_MINUTE, symbol, day_window(day))
            bodies.append((f"ohlcv/1m/{symbol}/{day:%Y%m%d}_0000.parquet", body))
        store.each(lambda each: store.put(*each), bodies)


def from_s3() -> list[bool]:
    met = []
    with tempfile.TemporaryDirectory() as name, S3Server(Path(name) / "s3") as server:
        store = ObjectStore(make_bucket(server).settings())
        stored(store, SYMBOLS)
        for symbols, target in ((SYMBOLS[:1], 1.5), (SYMBOLS, 20.0)):
            reader = LakeCandles(store)

            def whole(chosen: list[str] = symbols, reader: LakeCandles = reader) -> object:
                return run_backtest(request(chosen, DAYS), reader, None, lake_documents(store))

            def scan(chosen: list[str] = symbols, reader: LakeCandles = reader) -> object:
                window = Window(FIRST, FIRST + timedelta(days=DAYS))
                return reader.candles(chosen[:1], window, COLUMNS)

            whole()
            walls = []
            for _ in range(3):
                began, cpu = time.perf_counter(), time.process_time()
                whole()
                walls.append((time.perf_counter() - began, time.process_time() - cpu))
            began = time.perf_counter()
            scan()
            scanned = time.perf_counter() - began
            wall, cpu = min(walls)
            met.append(
                report(
                    f"a year of 1m of {len(symbols)} symbols from S3, indicators and backtest, warm",
                    wall,
                    "s",
                    target,
                    ratio=wall / scanned,
                    against="the scan of one symbol alone",
                    cpu_s=cpu,
                )
            )
    return met


def main() -> int:
    if sys.argv[1:] == ["memory"]:
        memory()
        return 0
    if sys.argv[1:] == ["bare"]:
        print(peak_memory())
        return 0
    met = [*loops(), from_memory(), *from_s3()]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
