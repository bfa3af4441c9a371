"""The shapes in which both doors show orders, fills, positions, state and events: decimals are text, times
are milliseconds. The meaning of each value is in trading/.

Field names are those of gateway.proto.
"""

from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict

from pipeline_assets.market.trading_rules import decimal
from pipeline_assets.trading.order_state import OrderState
from pipeline_assets.trading.order_types import Fill, Order
from pipeline_assets.trading.records import AnyRecord
from pipeline_assets.trading.state import GatewayState

# Fields of orders, fills and records that count 1e-8.
_DECIMALS = frozenset({"quantity", "price", "fee", "amount", "result", "reported", "stop_part"})
# Decimals that are empty where there is none.
_OPTIONAL = ("price", "stop_part")
_TIMES = {"time": "time_ms", "recv_window": "recv_window_ms"}


class View(BaseModel):
    """The base of all views."""

    model_config = ConfigDict(frozen=True)


class OrderView(View):
    """An order as asked for; `price` is empty for a market order, `stop_part` without a stop."""

    client_id: str
    symbol: str
    side: str
    kind: str
    quantity: str
    price: str
    reduce_only: bool
    strategy: str
    decision_id: str
    parent: str
    leverage: int
    stop_part: str


class OrderStateView(View):
    """An order and what became of it."""

    order: OrderView
    status: str
    reason: str
    venue_id: str
    filled: str
    sent_at_ms: int
    changed_at_ms: int


class FillView(View):
    """One trade of one order."""

    symbol: str
    trade_id: int
    client_id: str
    venue_id: str
    side: str
    quantity: str
    price: str
    fee: str
    time_ms: int


class PositionView(View):
    """The position of one symbol, negative for a short; `price` is the newest close.

    `entry_price` is the average one. `open_profit` is at the newest close, without fees and funding. Both are
    empty without a position, and what needs a close is empty without one.
    """

    symbol: str
    quantity: str
    price: str
    exposure: str
    closing: bool
    entry_price: str
    open_profit: str


class StateView(View):
    """Mode, results, exposure and limits of the account; limits by the setting's name in `risk`.

    `halted_symbols` has the reason by symbol, `foreign_orders` the open orders that the gateway did not send,
    and `troubles` why the venue takes no entries.
    """

    account: str
    venue: str
    mode: str
    reason: str
    result: str
    day_result: str
    fees: str
    funding: str
    gross_exposure: str
    open_orders: int
    unknown_orders: int
    open_positions: int
    sequence: int
    limits: dict[str, str]
    halted_symbols: dict[str, str]
    foreign_orders: list[str]
    troubles: list[str]


class EventView(View):
    """One change of the gateway's state; `body` has the fields of the message that `type` names."""

    sequence: int
    at_ms: int
    type: str
    body: dict[str, Any]


def text(value: int) -> str:
    """Return a count of 1e-8 as a decimal number without an exponent."""
    return f"{decimal(value):f}"


def order_view(order: Order) -> OrderView:
    """Return an order as the doors show it."""
    return OrderView.model_construct(**_shown(msgspec.structs.asdict(order)))


def order_state_view(held: OrderState) -> OrderStateView:
    """Return an order's state as the doors show it."""
    return OrderStateView.model_construct(
        order=order_view(held.order),
        status=held.status.value,
        reason=held.reason,
        venue_id=held.venue_id,
        filled=text(held.booked),
        sent_at_ms=held.sent_at,
        changed_at_ms=held.changed_at,
    )


def fill_view(fill: Fill) -> FillView:
    """Return a fill as the doors show it."""
    return FillView.model_construct(**_shown(msgspec.structs.asdict(fill)))


def position_view(state: GatewayState, symbol: str) -> PositionView:
    """Return the position of a symbol as the doors show it."""
    ledger, seen = state.ledger, state.prices.get(symbol)
    held = symbol in ledger.positions
    return PositionView.model_construct(
        symbol=symbol,
        quantity=text(ledger.positions.get(symbol, 0)),
        price=text(seen.price) if seen else "",
        exposure=text(state.exposure.get(symbol, 0)),
        closing=symbol in state.closes,
        entry_price=text(ledger.entry_price(symbol)) if held else "",
        open_profit=text(ledger.open_profit(symbol, seen.price)) if held and seen else "",
    )


def event_view(sequence: int, record: AnyRecord) -> EventView:
    """Return a journal record as the doors show it."""
    kind = str(record.__struct_config__.tag)
    body = msgspec.structs.asdict(record)
    return EventView.model_construct(
        sequence=sequence, at_ms=body.pop("at"), type=kind, body=_shown(body)
    )


def _shown(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields with decimals as text, and structures within as fields of their own."""
    return {_TIMES.get(name, name): _value(name, value) for name, value in fields.items()}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _shown(msgspec.structs.asdict(value))
    if name in _OPTIONAL and not value:
        return ""
    return text(value) if name in _DECIMALS else value
