"""The fills and costs of the step for single orders, in whole numbers of 1e-8: for the paper venue, and for
the trader, who places stop and target. The formulas themselves are in position_step.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.step_tables import (
    FillModel,
    FundingRate,
    config_row,
    market_tables,
    rules_table,
)
from pipeline_assets.market.trading_rules import UNIT, Fees, Grid, TradingRules, units

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]

Touched = Literal["stop", "target", "liquidation"]


@dataclass(frozen=True)
class FillFormulas:
    """Fills of one symbol's orders. `sign` is 1 for a purchase or a long, -1 for a sale or a short.

    Attributes:
        grid: the unit of prices and quantities.
        rules: the symbol's filters.
        fees: commission.
        model: slippage.
    """

    grid: Grid
    rules: TradingRules
    fees: Fees
    model: FillModel

    @cached_property
    def _tables(self) -> "tuple[Whole, Whole]":
        markets, brackets = market_tables([self.grid], [self.rules], self.fees)
        return markets[0], brackets[0]

    @property
    def _market(self) -> "Whole":
        return self._tables[0]

    @cached_property
    def _config(self) -> "Whole":
        return config_row(self.model)

    def market_price(self, price: int, sign: int) -> int:
        """Return the price of a market order at a price: slippage and rounding go against it."""
        from pipeline_assets.market import position_step as step

        ticks = price // self.grid.tick
        return int(step.market_price(ticks, sign, self._config, self._market)) * self.grid.tick

    def fee(self, quantity: int, price: int, *, maker: bool = False) -> int:
        """Return the fee of a fill."""
        from pipeline_assets.market import position_step as step

        rate = self._market[step.MAKER if maker else step.TAKER]
        return int(step.part_of(self._value(quantity, price), int(rate)))

    def touched(
        self, bar: Bar, sign: int, stop: int, target: int, liquidation: int = 0
    ) -> tuple[Touched, int] | None:
        """Return which of a position's exits a candle reaches, and at what price; a level of 0 is none."""
        from pipeline_assets.market import position_step as step

        tick = self.grid.tick
        prices = (self.ticks(each) for each in (bar.open, bar.high, bar.low))
        levels = (stop // tick, target // tick, liquidation // tick)
        reason, at = step.reached(*prices, sign, *levels)
        names: dict[int, Touched] = {
            step.BY_STOP: "stop",
            step.BY_TARGET: "target",
            step.BY_LIQUIDATION: "liquidation",
        }
        return None if reason < 0 else (names[int(reason)], int(at) * tick)

    def liquidation(self, quantity: int, value: int, margin: int) -> int:
        """Return the price at which a position is liquidated; 0 if never.

        Args:
            quantity: negative for a short.
            value: quantity × price of its entry, without a sign.
            margin: isolated.
        """
        from pipeline_assets.market import position_step as step

        steps = quantity // self.grid.step if quantity > 0 else -(-quantity // self.grid.step)
        return int(step.liquidation_price(steps, value, margin, *self._tables)) * self.grid.tick

    def liquidated(self, quantity: int, value: int, margin: int, price: int) -> tuple[int, int]:
        """Return price and fee of a liquidation at a price: a position loses its margin at most.

        The exchange's insurance fund takes over what is lost beyond the margin, at the price of a loss of the
        whole margin, which is on no tick.
        """
        from pipeline_assets.market import position_step as step

        size, sign = abs(quantity), 1 if quantity > 0 else -1
        profit = sign * (self._value(size, price) - value)
        if profit <= -margin:
            whole = UNIT * (value - sign * margin)
            return (-(-whole // size) if sign > 0 else whole // size), 0
        fee = step.part_of(self._value(size, price), int(self._market[step.LIQUIDATION_FEE]))
        return price, min(int(fee), margin + profit)

    def funding(self, quantity: int, rate: FundingRate, price: int) -> int:
        """Return what a known rate pays a position of a signed quantity; negative where the account pays.

        Args:
            quantity: negative for a short.
            rate: its rate is known.
            price: stands in for the mark price where the rate has none.
        """
        from pipeline_assets.market import position_step as step

        mark = units(round(rate.mark_price, 8)) if rate.mark_price else 0
        steps, ticks = abs(quantity) // self.grid.step, price // self.grid.tick
        signed = steps if quantity > 0 else -steps
        return int(step.funding_payment(signed, units(rate.rate or 0), mark, ticks, self._market))

    def ticks(self, price: Decimal) -> int:
        """Return a decimal price as ticks, rounded as backtests do."""
        return round(units(price) / self.grid.tick)

    def price(self, price: Decimal) -> int:
        """Return a decimal price in 1e-8, on the grid."""
        return self.ticks(price) * self.grid.tick

    def levels(self, price: int, sign: int, rules: PositionRules) -> tuple[int, int]:
        """Return stop and target of a position that was opened at a price; 0 without one."""
        from pipeline_assets.market import position_step as step

        tick = self.grid.tick
        stop, target = step.exit_levels(price // tick, sign, rules_row(rules), self._market)
        return int(stop) * tick, int(target) * tick

    def stop(self, sign: int, stop: int, best: int, rules: PositionRules) -> int:
        """Return the nearer one of a stop and the trailing stop; 0 without either."""
        from pipeline_assets.market import position_step as step

        tick = self.grid.tick
        return int(step.stop_price(sign, stop // tick, best // tick, rules_row(rules))) * tick

    def _value(self, quantity: int, price: int) -> int:
        return quantity // self.grid.step * (price // self.grid.tick) * self.grid.value


def rules_row(rules: PositionRules) -> "Whole":
    """Return the step's table of one strategy's rules."""
    row: Whole = rules_table([rules])[0]
    return row


def formulas_of(
    symbols: Mapping[str, tuple[Grid, TradingRules]], fees: Fees, model: FillModel
) -> dict[str, FillFormulas]:
    """Return the formulas by symbol."""
    return {each: FillFormulas(*held, fees, model) for each, held in symbols.items()}
