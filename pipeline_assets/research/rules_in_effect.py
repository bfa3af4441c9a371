"""The exchange's rules that a backtest uses on each date, and the assumptions where none are known. The
documents are read in readers.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from math import floor, log10
from typing import TYPE_CHECKING

from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.step_tables import check_leverage, grid_of, market_tables
from pipeline_assets.market.strategy import Strategy
from pipeline_assets.market.trading_rules import (
    Dated,
    Fees,
    Grid,
    TradingDocuments,
    TradingRules,
    value_at,
)
from pipeline_assets.market.windows import Window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]

# Stands in for a symbol without a candle so far: the step never reads it.
_NO_GRID = Grid("", 100_000_000, 100_000_000)
_NO_RULES = TradingRules(Decimal(1), Decimal(1), Decimal(1), Decimal(1), Decimal(0))


@dataclass
class RulesInEffect:
    """The rules and grids of some symbols.

    Attributes:
        documents: what is on the lake.
        fees: those of the request, or None.
        strategies: their leverage is checked against each symbol's margin.
        window: the backtest's span.
        assumptions: one sentence for each thing that is not known, added to as symbols appear.
    """

    documents: TradingDocuments
    fees: Fees | None
    strategies: Sequence[Strategy]
    window: Window
    assumptions: list[str] = field(default_factory=list)
    grids: dict[str, Grid] = field(default_factory=dict)
    _dated: dict[str, Sequence[Dated[TradingRules]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Choose the fees."""
        self._fees: Sequence[Dated[Fees]] = self.documents.fees
        if self.fees is not None:
            self._fees = [Dated(self.window.start, self.fees)]
        elif not self._fees or self._fees[0].since > self.window.start:
            assumed = self._fees[0].value if self._fees else Fees()
            until = f" until {self._fees[0].since:%Y-%m-%d %H:%M} UTC" if self._fees else ""
            self._fees = [Dated(self.window.start, assumed), *self._fees]
            self.assumptions.append(
                f"Fees of {assumed.maker:%} (maker) and {assumed.taker:%} (taker) are assumed{until}."
            )

    def add(self, symbol: str, price: float) -> None:
        """Take a symbol up when its first candle is seen.

        Args:
            symbol: its name.
            price: its first open, from which unknown rules are assumed.

        Raises:
            InputError: a strategy's leverage leaves no margin above the maintenance margin.
            TradingRulesError: the symbol cannot be calculated with.
        """
        if symbol in self.grids:
            return
        dated = list(self.documents.rules.get(symbol, ()))
        if not dated:
            assumed = assumed_rules(price)
            dated = [Dated(self.window.start, assumed)]
            self.assumptions.append(
                f"{symbol}: no filters are known; a tick of {assumed.tick_size:f}, a step of "
                f"{assumed.step_size:f}, a minimum of {assumed.min_notional} and a maintenance margin of "
                f"{assumed.brackets[0].rate:%} are assumed."
            )
        elif dated[0].since > self.window.start:
            self.assumptions.append(
                f"{symbol}: the filters first seen at {dated[0].since:%Y-%m-%d %H:%M} UTC are assumed for "
                "the time before."
            )
            dated.insert(0, Dated(self.window.start, dated[0].value))
        for each in self.strategies:
            for rules in dated:
                check_leverage(each.name, each.rules, symbol, rules.value)
        self._dated[symbol] = dated
        self.grids[symbol] = grid_of(symbol, (each.value for each in dated))

    def changes(self, window: Window) -> list[datetime]:
        """Return the times within a window at which a rule or a fee changes, in order."""
        times = [each.since for each in self._fees]
        times += [each.since for dated in self._dated.values() for each in dated]
        minutes = {each.replace(second=0, microsecond=0) for each in times}
        return sorted(each for each in minutes if window.start < each < window.end)

    def tables(self, symbols: Sequence[str], moment: datetime) -> "tuple[Whole, Whole]":
        """Return the step's markets and brackets in effect at a time."""
        grids = [self.grids.get(symbol, _NO_GRID) for symbol in symbols]
        rules = [value_at(self._dated.get(symbol, ()), moment) or _NO_RULES for symbol in symbols]
        return market_tables(grids, rules, value_at(self._fees, moment) or Fees())


def assumed_rules(price: float) -> TradingRules:
    """Return likely filters of a symbol at a price: six digits of price, steps of about ten cents."""
    digits = floor(log10(price)) if price > 0 else 0
    tick = max(Decimal(10) ** (digits - 5), Decimal("0.00000001"))
    step = Decimal("0.00001") / tick
    return TradingRules(tick, step, step, 10_000_000_000 * step, Decimal(5))


def leverage_assumption(strategies: Sequence[Strategy]) -> list[str]:
    """Return what is assumed of liquidations, if a strategy uses leverage."""
    rules: list[PositionRules] = [each.rules for each in strategies]
    if all(each.leverage == 1 for each in rules):
        return []
    return [
        "Liquidations are judged by traded prices, for mark prices of each minute are not stored; margin "
        "is isolated."
    ]
