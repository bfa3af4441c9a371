"""The paper venue's state: its orders, positions and payments, derived from its journal's records. Matching
with candles is in paper_matching.py.
"""

from dataclasses import dataclass, field

from pipeline_assets.trading.order_types import Fill, Order, Status, value_of
from pipeline_assets.trading.paper_records import (
    AnyPaperRecord,
    PaperAccepted,
    PaperEnded,
    PaperFilled,
    PaperFunded,
    PaperLiquidated,
)

MINUTE = 60_000


@dataclass(slots=True)
class PaperOrder:
    """One accepted order.

    Attributes:
        accepted_at: by the venue's clock, in milliseconds.
        after: the newest minute that was matched when the order was accepted.
    """

    order: Order
    venue_id: str
    accepted_at: int
    after: int
    status: Status = Status.OPEN
    executed: int = 0


@dataclass(slots=True)
class Stake:
    """The value of a position at its entry, and its isolated margin, in 1e-8 of the quote asset."""

    value: int = 0
    margin: int = 0


@dataclass
class PaperBook:
    """Everything that the venue knows.

    Attributes:
        orders: by client id; never removed, so that no id is accepted twice.
        open: client ids that wait, in the order of acceptance.
        fills: with the time of their booking.
        positions: quantity by symbol, negative for a short.
        stakes: of the positions, by symbol.
        payments: funding by symbol and time.
        matched: the newest minute, counted from 1970, that was matched.
    """

    orders: dict[str, PaperOrder] = field(default_factory=dict)
    open: dict[str, None] = field(default_factory=dict)
    fills: list[tuple[int, Fill]] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)
    stakes: dict[str, Stake] = field(default_factory=dict)
    payments: dict[tuple[str, int], int] = field(default_factory=dict)
    matched: int = -1

    def apply(self, record: AnyPaperRecord) -> None:
        """Change the state as a record says."""
        match record:
            case PaperAccepted(order=order):
                held = PaperOrder(order, record.venue_id, record.at, record.after)
                self.orders[order.client_id] = held
                self.open[order.client_id] = None
                self.matched = max(self.matched, record.after)
            case PaperFilled(fill=fill):
                held = self.orders[fill.client_id]
                whole = fill.quantity == held.order.quantity
                held.status = Status.FILLED if whole else Status.EXPIRED
                held.executed = fill.quantity
                self.open.pop(fill.client_id, None)
                self._book(record.at, fill, held.order.leverage or 1)
            case PaperLiquidated(fill=fill):
                self._book(record.at, fill, 1)
            case PaperEnded():
                self.orders[record.client_id].status = record.status
                self.open.pop(record.client_id, None)
            case PaperFunded():
                self.payments[record.symbol, record.time] = record.amount

    def _book(self, at: int, fill: Fill, leverage: int) -> None:
        self.fills.append((at, fill))
        # A fill at an open follows the range of the minute before; all of a range are stored as one.
        self.matched = max(self.matched, (fill.time + 1) // MINUTE - 1)
        before, stake = self.positions.get(fill.symbol, 0), self.stakes.get(fill.symbol, Stake())
        position = before + fill.signed
        if before * position <= 0:
            # The first fill of a position, or one that turns it, begins a stake.
            stake, opened = Stake(), abs(position)
        else:
            opened = max(abs(position) - abs(before), 0)
            kept = min(abs(position), abs(before))
            stake.value = stake.value * kept // abs(before)
            stake.margin = stake.margin * kept // abs(before)
        value = value_of(opened, fill.price)
        stake.value += value
        stake.margin += -(-value // leverage)
        self.positions[fill.symbol], self.stakes[fill.symbol] = position, stake
        if not position:
            del self.positions[fill.symbol], self.stakes[fill.symbol]

    def waiting(self, symbol: str | None = None) -> list[PaperOrder]:
        """Return the open orders, of one symbol or of all, in the order of acceptance."""
        found = [self.orders[each] for each in self.open]
        return [each for each in found if symbol in (None, each.order.symbol)]

    def position_before(self, symbol: str, time: int) -> int:
        """Return the position that a symbol had just before a time, in milliseconds."""
        return sum(
            fill.signed for _, fill in self.fills if fill.symbol == symbol and fill.time < time
        )
