"""Candles in memory for the tests of backtests, and requests over these. No tests here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl

from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.step_tables import FundingRate
from pipeline_assets.market.strategies import configured_strategies
from pipeline_assets.market.strategy import (
    Declaration,
    Strategy,
    StrategyParameters,
    above,
    below,
)
from pipeline_assets.market.trading_rules import Dated, TradingDocuments, TradingRules
from pipeline_assets.market.windows import Window
from pipeline_assets.research.backtest import run_backtest
from pipeline_assets.research.backtest_types import BacktestRequest, BacktestResult
from pipeline_assets.settings import StrategySettings
from pipeline_assets_tests.market.series import market_minutes

# The files' candles begin on 4 May; moved, the first month ends within.
FIRST = datetime(2025, 5, 24, tzinfo=UTC)
END = FIRST + timedelta(days=16)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def minutes_of(symbols: Sequence[str]) -> pl.DataFrame:
    """Candles of some symbols from `FIRST` on."""
    frames = []
    for symbol in sorted(symbols):
        held = market_minutes(symbol)
        moved = pl.col("open_time") - held["open_time"][0] + FIRST
        frames.append(held.with_columns(open_time=moved.dt.cast_time_unit("us")))
    return pl.concat(frames)


@dataclass
class HeldCandles:
    """A reader over a frame, with the listings of a test."""

    frame: pl.DataFrame
    listings: Mapping[str, Sequence[Window]] = field(default_factory=dict)
    damaged: Sequence[str] = ()

    def candles(
        self, symbols: Sequence[str], window: Window, columns: Sequence[str]
    ) -> pl.DataFrame:
        """Return the candles of a window."""
        inside = pl.col("open_time").is_between(window.start, window.end, closed="left")
        return self.frame.filter(pl.col("symbol").is_in(list(symbols)) & inside).select(columns)

    def listed(self) -> Mapping[str, Sequence[Window]]:
        """Return the listings."""
        return self.listings


def strategies(*entries: Mapping[str, Any]) -> tuple[Strategy, ...]:
    return configured_strategies([StrategySettings(**each) for each in entries])


def by_volume(name: str = "by_volume", **rules: Any) -> Strategy:
    """A strategy that reads its signals from the volume: above 1 is long, below -1 is short."""
    declaration = Declaration((), long=above("volume", 1.0), short=below("volume", -1.0))
    return Strategy(name, "1", StrategyParameters(), declaration, PositionRules(**rules))


def signalling(frame: pl.DataFrame, sides: dict[int, int]) -> pl.DataFrame:
    """A frame with signals of `by_volume` at these rows."""
    volume = np.zeros(len(frame))
    for row, side in sides.items():
        volume[row] = 2.0 * side
    return frame.with_columns(volume=pl.Series(volume))


TWO = (
    {"name": "macd_cross", "rules": {"stop": 0.001, "target": 0.0015, "opposite_signal": "ignore"}},
    {"name": "rsi_reversal", "rules": {"sizing": {"by": "atr", "value": "0.0005"}, "leverage": 3}},
)


def rates_every(hours: int) -> Any:
    """A funding reader of a rate every so many hours."""

    def read(_: str, window: Window) -> Iterable[FundingRate]:
        time = window.start
        while time < window.end:
            yield FundingRate(time, Decimal("0.0001"), Decimal(50_000))
            time += timedelta(hours=hours)

    return read


EVERY_EIGHT_HOURS = rates_every(8)
BTC_RULES = TradingRules(*(Decimal(text) for text in ("0.1", "0.001", "0.001", "120", "100")))


def documents(*dated: tuple[datetime, TradingRules]) -> Any:
    """A documents reader of the same rules for every symbol."""

    def read(symbols: Sequence[str]) -> TradingDocuments:
        return TradingDocuments({each: [Dated(*one) for one in dated] for each in symbols})

    return read


def backtest(
    candles: HeldCandles | pl.DataFrame,
    chosen: Sequence[Strategy],
    symbols: Sequence[str] | None = ("BTCUSDT",),
    funding: Any = EVERY_EIGHT_HOURS,
    read_documents: Any = None,
    **request: Any,
) -> BacktestResult:
    """Run a backtest from the third day on, before which is warm-up."""
    values: dict[str, Any] = {"start": FIRST + 2 * DAY, "end": END} | request
    reader = candles if isinstance(candles, HeldCandles) else HeldCandles(candles)
    return run_backtest(
        BacktestRequest(chosen, symbols, **values), reader, funding, read_documents or documents()
    )
