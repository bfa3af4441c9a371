"""Causes by which fills of the paper venue differ from those of an exchange, and single differences. How
these are found is in fill_comparison.py and exit_comparison.py. No tests here.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.trading.order_types import Fill

# The fees of a new account, and the part that market orders lose on paper, as documented.
MAKER, TAKER, SLIPPAGE = Decimal("0.0002"), Decimal("0.0005"), Decimal("0.0002")


class Cause(StrEnum):
    """Names as in docs/trader.md, "Differences from the exchange"."""

    LATER_OPEN = "later open"
    SLIPPAGE = "slippage"
    END_OF_MINUTE = "end of the minute"
    OWN_LEVEL = "level from the own entry"
    GAP = "open beyond the level"
    TOUCH = "price of the touch"
    BETTER_PRICE = "limit at a better price"
    MAKER_FEE = "maker fee"
    FEE_OF_PRICE = "fee of another price"
    PARTS = "fill in parts"
    BLOCKED_EXIT = "blocked exit"
    WAITING_EXIT = "waiting exit"
    REFUSED_STOP = "refused stop"
    WHOLE_CANDLE = "whole candle"
    REST_OF_MINUTE = "rest of the minute"
    BOTH_TOUCHED = "both touched"
    OTHER_POSITION = "another position"
    FUNDING_TIME = "time of funding"
    ROUNDING = "rounding"


@dataclass(frozen=True)
class Difference:
    """One difference between two fills, exits, positions or payments.

    Attributes:
        subject: client id of the order or entry, or the symbol of a payment.
        what: `price`, `time`, `fee`, `quantity`, `order`, `exit`, `position`, `funding` or `decision`.
        cause: None if no named cause explains the difference within the cause's bound.
        part: a difference in price as a part of the price, paper less exchange.
        milliseconds: a difference in time, paper less exchange.
        money: what paper's result is better by, in 1e-8.
        detail: for a person who looks for the reason.
    """

    subject: str
    what: str
    cause: Cause | None
    part: float = 0.0
    milliseconds: int = 0
    money: Decimal = Decimal(0)
    detail: str = ""


def unnamed(differences: list[Difference]) -> list[Difference]:
    """Return the differences that no cause explains."""
    return [each for each in differences if each.cause is None]


def gain_of(fill: Fill, reference: int) -> Decimal:
    """Return a fill's part of the result in 1e-8, its quantity valued at a reference price of its symbol.

    With the same reference, the sum over closed positions is their result, and an exit alone is no fortune.
    """
    return Decimal(-fill.signed * (fill.price - reference)) / UNIT - fill.fee


def is_fee(fill: Fill, rate: Decimal) -> bool:
    """Return whether a fill's fee is a rate's, rounded in either direction."""
    return abs(fill.quantity * Decimal(fill.price) / UNIT * rate - fill.fee) <= 1


def is_slippage(lost: int, price: int, tick: int) -> bool:
    """Return whether a market order may lose so much against a price on paper."""
    return 0 <= lost <= price * SLIPPAGE + tick
