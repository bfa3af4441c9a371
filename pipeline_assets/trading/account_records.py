"""Account records: the part of a gateway's journal that others read on the lake, as orders and fills that
stand for themselves. Pure; copying is in record_copy.py, the daily Parquet objects in record_objects.py.

Quantities, prices and money are whole numbers of 1e-8, times are milliseconds, as in order_types.py. A field
that is added needs a default, so that older documents remain readable.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from pipeline_assets.trading import records
from pipeline_assets.trading.order_state import OrderState
from pipeline_assets.trading.order_types import Fill, Status
from pipeline_assets.trading.state import GatewayState

# The prefix of the documents on the lake.
ACCOUNTS = "accounts/"
# The fields of an order's state that its record has under the same names.
_STATE = ("status", "reason", "venue_id", "sent_at", "changed_at")


class OrderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An order and its state. `sequence` is the newest journal record that changed the order."""

    client_id: str
    symbol: str
    side: str
    kind: str
    quantity: int
    price: int
    reduce_only: bool
    strategy: str
    decision_id: str
    parent: str
    leverage: int
    status: str
    reason: str
    venue_id: str
    filled: int
    sent_at: int
    changed_at: int
    sequence: int


class FillRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A fill with what is known of its order; the last three texts are empty for a foreign order."""

    symbol: str
    trade_id: int
    venue_id: str
    side: str
    quantity: int
    price: int
    fee: int
    filled_at: int
    client_id: str
    strategy: str
    decision_id: str
    sequence: int


class AccountSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The account's positions and results at the newest closes; positions and exposure by symbol."""

    mode: str
    mode_reason: str
    result: int
    day_result: int
    fees: int
    funding: int
    gross_exposure: int
    open_orders: int
    unknown_orders: int
    positions: dict[str, int]
    exposure: dict[str, int]


class AccountRecords(msgspec.Struct, frozen=True, kw_only=True):
    """One document: the orders and fills that changed since the document before.

    Attributes:
        account: whose they are.
        venue: where the orders went.
        at: when the document was made, by the exchange's clock.
        sequence: the newest journal record that the document contains.
        copy_begun: when the copying of this journal began. A restored journal is copied anew, and its
            records replace those of an earlier copy.
        orders: each with its newest state.
        fills: each once.
        summary: the account as it stands.
    """

    account: str
    venue: str
    at: int
    sequence: int
    copy_begun: int
    orders: list[OrderRecord]
    fills: list[FillRecord]
    summary: AccountSummary


class Touched:
    """The orders and fills that journal records are about."""

    def __init__(self) -> None:
        """Begin without records."""
        self.sequence = self.at = 0
        self.count = 0
        self._orders: dict[str, int] = {}
        self._fills: dict[tuple[str, int], tuple[Fill, int]] = {}

    def add(self, numbered: Iterable[tuple[int, records.AnyRecord]]) -> None:
        """Take journal records in, in their order."""
        for number, record in numbered:
            self.sequence, self.at, self.count = number, record.at, self.count + 1
            match record:
                case records.OrderSending():
                    self._orders[record.order.client_id] = number
                case records.OrderChanged() | records.CancelSending():
                    self._orders[record.client_id] = number
                case records.FillBooked():
                    fill = record.fill
                    self._fills.setdefault((fill.symbol, fill.trade_id), (fill, number))

    def orders(self, state: GatewayState) -> list[OrderRecord]:
        """Return the orders as the state has them, in the order of their client ids."""
        changed = dict(self._orders)
        for fill, number in self._fills.values():
            if client_id := _client_id(state, fill):
                changed[client_id] = max(number, changed.get(client_id, 0))
        return [
            _order_record(state.orders[client_id], changed[client_id])
            for client_id in sorted(changed)
        ]

    def fills(self, state: GatewayState) -> list[FillRecord]:
        """Return the fills, in the order of the journal."""
        return [_fill_record(state, fill, number) for fill, number in self._fills.values()]


def summary_of(state: GatewayState) -> AccountSummary:
    """Return the account as it stands."""
    result = state.result()
    unknown = sum(state.orders[each].status is Status.UNKNOWN for each in state.live)
    return AccountSummary(
        mode=state.mode.value,
        mode_reason=state.mode_reason,
        result=result,
        day_result=result - state.day_result,
        fees=state.ledger.fees,
        funding=state.ledger.funding,
        gross_exposure=state.gross_exposure,
        open_orders=len(state.live),
        unknown_orders=unknown,
        positions=dict(sorted(state.ledger.positions.items())),
        exposure=dict(sorted(state.exposure.items())),
    )


def _client_id(state: GatewayState, fill: Fill) -> str:
    """Return the client id of a fill's order; empty if the gateway does not know the order."""
    known = state.by_venue.get((fill.symbol, fill.venue_id), "")
    return known or (fill.client_id if fill.client_id in state.orders else "")


def _order_record(held: OrderState, sequence: int) -> OrderRecord:
    known = {name: getattr(held, name) for name in _STATE}
    asked = msgspec.structs.asdict(held.order)
    # The stop itself is an order with a record of its own.
    del asked["stop_part"]
    return OrderRecord(**asked, **known, filled=held.booked, sequence=sequence)


def _fill_record(state: GatewayState, fill: Fill, sequence: int) -> FillRecord:
    held = state.orders.get(client_id := _client_id(state, fill))
    traded = msgspec.structs.asdict(fill) | {"client_id": client_id, "sequence": sequence}
    filled_at = traded.pop("time")
    names = ("strategy", "decision_id")
    why: dict[str, Any] = {name: getattr(held.order, name) if held else "" for name in names}
    return FillRecord(**traded, **why, filled_at=filled_at)
