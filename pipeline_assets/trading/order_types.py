"""The values that orders consist of. Quantities, prices and money are whole numbers of 1e-8 (UNIT); times are
milliseconds since 1970 (UTC) by the exchange's clock. Decimals exist at the doors only.
"""

from enum import StrEnum
from typing import Literal

import msgspec

from pipeline_assets.market.trading_rules import UNIT

OrderSide = Literal["buy", "sell"]
Kind = Literal["market", "limit", "stop"]


class Status(StrEnum):
    """The states of an order.

    `sending` is journalled before the order leaves; `unknown` follows an answer that says neither yes nor
    no. `not_placed` is concluded from evidence, and a later fill still revives the order.
    """

    SENDING = "sending"
    UNKNOWN = "unknown"
    OPEN = "open"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    NOT_PLACED = "not_placed"


# The venue may still fill, or may have filled, an order in one of these.
UNSETTLED = frozenset({Status.SENDING, Status.UNKNOWN, Status.OPEN})


class Mode(StrEnum):
    """The orders that the gateway accepts: all, only those that reduce, or only cancels and closes."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One order as asked for. It never changes; the same client id with another order is an error.

    Attributes:
        client_id: the caller's id, at most 36 characters, unique for all time.
        symbol: such as BTCUSDT.
        side: `buy` or `sell`.
        kind: `market`, `limit`, or `stop`: a reduce-only market order once the price reaches `price`.
        quantity: above 0, in 1e-8 of the base asset.
        price: limit or trigger, in 1e-8 of the quote asset; 0 for a market order.
        reduce_only: the order can make a position smaller and can neither open nor turn one.
        strategy: who owns the position.
        decision_id: the decision that the order carries out; empty for a person's order.
        parent: the order or close that this one belongs to; empty without one.
        leverage: of the position that an entry opens, with isolated margin; 0 leaves the venue's own, 1 on
            paper.
        stop_part: an entry's distance from its price to the stop that the gateway places itself, as a part
            of the price in 1e-8; 0 without such a stop.
    """

    client_id: str
    symbol: str
    side: OrderSide
    kind: Kind
    quantity: int
    price: int = 0
    reduce_only: bool = False
    strategy: str = ""
    decision_id: str = ""
    parent: str = ""
    leverage: int = 0
    stop_part: int = 0

    @property
    def signed(self) -> int:
        """The quantity, negative for a sale."""
        return self.quantity if self.side == "buy" else -self.quantity

    @property
    def conditional(self) -> bool:
        """Whether the venue holds the order back until its trigger is reached."""
        return self.kind == "stop"


class Fill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One trade of one order. The pair of `symbol` and `trade_id` names it.

    `fee` is in 1e-8 of the quote asset. `client_id` is empty if the source did not say it: a list of
    trades names orders by `venue_id` only. `time` is when the venue matched it.
    """

    symbol: str
    trade_id: int
    venue_id: str
    client_id: str
    side: OrderSide
    quantity: int
    price: int
    fee: int
    time: int

    @property
    def signed(self) -> int:
        """The quantity, negative for a sale."""
        return self.quantity if self.side == "buy" else -self.quantity


def value_of(quantity: int, price: int) -> int:
    """Return quantity × price in 1e-8 of the quote asset, rounded down."""
    return quantity * price // UNIT
