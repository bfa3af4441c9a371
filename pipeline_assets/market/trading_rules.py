"""The exchange's rules for orders in a symbol, and fees, as decimals with the time they hold from; and the
integers that the step in position_step.py calculates with. Documents on the lake are in
resources/trading_documents.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Generic, TypeVar

from pipeline_assets.errors import InputError

T = TypeVar("T")

# Money, rates and sizes are whole numbers of 1e-8: the exchange's own resolution.
UNIT = 100_000_000
# A larger position would not fit the step's 64-bit integers together with rates.
MAX_NOTIONAL = 1_000_000_000 * UNIT


class TradingRulesError(InputError, ValueError):
    """Rules of a symbol that the step cannot calculate with. The message names symbol and rule."""


@dataclass(frozen=True)
class Bracket:
    """The maintenance margin of positions from a value (notional) on.

    Attributes:
        notional: the value from which on the bracket holds.
        rate: the part of the value that must remain as margin.
        amount: subtracted from that, so that the margin has no jump between brackets.
    """

    notional: Decimal
    rate: Decimal
    amount: Decimal = Decimal(0)


@dataclass(frozen=True)
class TradingRules:
    """The filters of one symbol, as in exchangeInfo.

    Attributes:
        tick_size: prices are multiples of it.
        step_size: quantities are multiples of it.
        min_quantity: the smallest market order.
        max_quantity: the largest market order; a larger position is cut to it.
        min_notional: the smallest value of an order.
        liquidation_fee: the part of the value that a liquidation costs.
        brackets: maintenance margin by value, ascending; the first begins at 0.
    """

    tick_size: Decimal
    step_size: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    min_notional: Decimal
    liquidation_fee: Decimal = Decimal("0.0125")
    brackets: tuple[Bracket, ...] = (Bracket(Decimal(0), Decimal("0.025")),)


@dataclass(frozen=True)
class Fees:
    """Commission as a part of the value of a fill. The defaults are those of a new account."""

    maker: Decimal = Decimal("0.0002")
    taker: Decimal = Decimal("0.0005")


@dataclass(frozen=True)
class Dated(Generic[T]):
    """A value that holds from a time (UTC) on, until the next one."""

    since: datetime
    value: T


@dataclass(frozen=True)
class TradingDocuments:
    """The exchange's rules as observed: per symbol and for fees, ascending by time."""

    rules: Mapping[str, Sequence[Dated[TradingRules]]] = field(default_factory=dict)
    fees: Sequence[Dated[Fees]] = ()


def units(value: Decimal | int | str) -> int:
    """Return a decimal as a whole number of 1e-8.

    Raises:
        TradingRulesError: it has more decimals.
    """
    scaled = Decimal(value) * UNIT
    if scaled != int(scaled):
        raise TradingRulesError(f"{value} has more than eight decimals")
    return int(scaled)


def decimal(value: int) -> Decimal:
    """Return a whole number of 1e-8 as a decimal."""
    return Decimal(value) / UNIT


@dataclass(frozen=True)
class Grid:
    """The integers' unit of a symbol: the finest tick and step of a whole span.

    Tick sizes change. Orders keep to the multiples in effect, positions to one grid.
    """

    symbol: str
    tick: int
    step: int

    @property
    def value(self) -> int:
        """The value of one step at a price of one tick, in 1e-8 of the quote asset.

        Raises:
            TradingRulesError: it is no whole number.
        """
        found = Fraction(self.tick * self.step, UNIT)
        if found.denominator != 1 or found <= 0:
            raise TradingRulesError(
                f"{self.symbol}: a tick of {decimal(self.tick)} times a step of {decimal(self.step)} is "
                "no multiple of 0.00000001 and cannot be calculated with. Leave the symbol out."
            )
        return int(found)

    def price(self, ticks: int) -> Decimal:
        """Return a price of whole ticks as a decimal."""
        return decimal(ticks * self.tick)

    def quantity(self, steps: int) -> Decimal:
        """Return a quantity of whole steps as a decimal."""
        return decimal(steps * self.step)


def value_at(dated: Sequence[Dated[T]], moment: datetime) -> T | None:
    """Return the value in effect at a time (UTC), or None before the first."""
    found = None
    for each in dated:
        if each.since > moment:
            break
        found = each.value
    return found


def rules_from_filters(entry: Mapping[str, Any]) -> TradingRules:
    """Return the rules in one symbol's entry of exchangeInfo.

    Raises:
        KeyError, ValueError, TypeError, ArithmeticError: a filter is missing or no number.
    """
    filters = {each["filterType"]: each for each in entry["filters"]}
    lot = filters.get("MARKET_LOT_SIZE", filters["LOT_SIZE"])
    rules = TradingRules(
        tick_size=Decimal(filters["PRICE_FILTER"]["tickSize"]),
        step_size=Decimal(lot["stepSize"]),
        min_quantity=Decimal(lot["minQty"]),
        max_quantity=Decimal(lot["maxQty"]),
        min_notional=Decimal(filters["MIN_NOTIONAL"]["notional"]),
        liquidation_fee=Decimal(entry["liquidationFee"]),
        brackets=(Bracket(Decimal(0), Decimal(entry["maintMarginPercent"]) / 100),),
    )
    if rules.tick_size <= 0 or rules.step_size <= 0:
        raise ValueError("a tick or step is not above 0")
    for value in (rules.tick_size, rules.step_size, rules.min_quantity, rules.max_quantity):
        units(value)
    for value in (rules.min_notional, rules.liquidation_fee, rules.brackets[0].rate):
        units(value)
    return rules
