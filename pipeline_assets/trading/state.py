"""The gateway's state, and how each journal record changes it.

Reading the journal from its beginning gives the state as it was; what only helps to decide (prices, evidence,
timers) is not stored.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pipeline_assets.trading import records
from pipeline_assets.trading.ledger import Ledger
from pipeline_assets.trading.messages import OpenOrder, PriceSeen, VenueTrouble
from pipeline_assets.trading.order_ids import venue_cause
from pipeline_assets.trading.order_state import Closing, OrderState
from pipeline_assets.trading.order_types import Mode, Order, Status, value_of
from pipeline_assets.trading.venue_identity import VenueIdentity


@dataclass
class GatewayState:
    """Orders, ledger, mode and closes.

    Attributes:
        begun_at: the first record's time; 0 before.
        venue: that the journal belongs to; None in a new journal, and in one of an earlier version.
        orders: by client id; an order is never removed, since its id must never be used again.
        live: client ids of unsettled orders, in the order of sending.
        by_venue: client id by symbol and the venue's order id.
        foreign: by symbol and the venue's order id, the newest fill's time of orders that are not known.
        named: those of `foreign` whose client id is known, and is none of the journal's.
        day: the UTC day, counted from 1970, whose loss is limited; -1 before the first.
        day_result: the account's result when the day began.
        day_due: whether the day's loss begins anew once every position has a price.
        halts: by symbol, why no entry is accepted.
        resumed: by symbol, when a person resumed its entries last.
        guarded: by symbol, entries with a stop of which the open position consists, by client id.
        prices: the newest candle by symbol (not stored).
        foreign_open: open orders that the gateway does not know, by the venue's id (not stored).
        troubles: why the venue takes no entries, by kind (not stored).
        pending: by symbol, what open orders may still buy and sell (derived).
        limit_orders: by symbol, the open limit orders of `pending`, by client id (derived).
        exposure: by symbol, the largest value that position and open orders can reach (derived).
    """

    begun_at: int = 0
    venue: VenueIdentity | None = None
    orders: dict[str, OrderState] = field(default_factory=dict)
    live: dict[str, None] = field(default_factory=dict)
    by_venue: dict[tuple[str, str], str] = field(default_factory=dict)
    foreign: dict[tuple[str, str], int] = field(default_factory=dict)
    named: set[tuple[str, str]] = field(default_factory=set)
    ledger: Ledger = field(default_factory=Ledger)
    mode: Mode = Mode.ACTIVE
    mode_reason: str = ""
    day: int = -1
    day_result: int = 0
    day_due: bool = False
    closes: dict[str, Closing] = field(default_factory=dict)
    closes_seen: dict[str, str] = field(default_factory=dict)
    halts: dict[str, str] = field(default_factory=dict)
    resumed: dict[str, int] = field(default_factory=dict)
    guarded: dict[str, dict[str, None]] = field(default_factory=dict)
    prices: dict[str, PriceSeen] = field(default_factory=dict)
    foreign_open: dict[str, OpenOrder] = field(default_factory=dict)
    troubles: dict[str, VenueTrouble] = field(default_factory=dict)
    pending: dict[str, tuple[int, int]] = field(default_factory=dict)
    limit_orders: dict[str, dict[str, OrderState]] = field(default_factory=dict)
    exposure: dict[str, int] = field(default_factory=dict)
    gross_exposure: int = 0

    def apply(self, record: records.AnyRecord) -> None:
        """Change the state as a record says."""
        self.begun_at = self.begun_at or record.at
        _APPLY[type(record)](self, record)

    def see_price(self, seen: PriceSeen) -> None:
        """Keep a candle's price if it is the newest."""
        held = self.prices.get(seen.symbol)
        if held is None or seen.time > held.time:
            self.prices[seen.symbol] = seen
            self.weigh(seen.symbol)

    def result(self) -> int:
        """Return the account's profit and loss at the newest prices, in 1e-8 of the quote asset."""
        return self.ledger.result(self._price_of)

    def unpriced(self) -> list[str]:
        """Return the symbols that have a position, and no price since the gateway's start.

        Their newest fill's price may be days old: with it, the day's loss would be wrong.
        """
        return [symbol for symbol in self.ledger.positions if symbol not in self.prices]

    def _price_of(self, symbol: str) -> int:
        seen = self.prices.get(symbol)
        return seen.price if seen else 0

    def exposure_with(self, order: Order) -> int:
        """Return the largest value that a symbol can reach once an order is added."""
        return self._largest(order.symbol, order)

    def weigh(self, symbol: str) -> None:
        """Derive the exposure of a symbol anew."""
        buys, sells = self.pending.get(symbol, (0, 0))
        before = self.exposure.pop(symbol, 0)
        after = self._largest(symbol)
        if after or symbol in self.ledger.positions or buys or sells:
            self.exposure[symbol] = after
        self.gross_exposure += after - before

    def _largest(self, symbol: str, added: Order | None = None) -> int:
        """Return the value of position and open orders, each at the newest price or its higher limit."""
        position = self.ledger.positions.get(symbol, 0)
        seen = self.prices.get(symbol)
        known = seen.price if seen else self.ledger.last_price.get(symbol, 0)
        sizes = dict(zip(("buy", "sell"), self.pending.get(symbol, (0, 0)), strict=True))
        above = {"buy": 0, "sell": 0}
        for held in self.limit_orders.get(symbol, {}).values():
            excess = max(held.order.price - known, 0)
            above[held.order.side] += value_of(held.remaining, excess)
        if added:
            sizes[added.side] += added.quantity
            above[added.side] += value_of(added.quantity, max(added.price - known, 0))
        bought = value_of(abs(position + sizes["buy"]), known) + above["buy"]
        sold = value_of(abs(position - sizes["sell"]), known) + above["sell"]
        return max(bought, sold)

    def settle(self, held: OrderState, before: int) -> None:
        """Derive what depends on an order that changed; `before` is what remained of it."""
        client_id, symbol = held.order.client_id, held.order.symbol
        if held.unsettled:
            self.live.setdefault(client_id)
        else:
            self.live.pop(client_id, None)
        buys, sells = self.pending.pop(symbol, (0, 0))
        if held.order.side == "buy":
            buys += held.remaining - before
        else:
            sells += held.remaining - before
        if buys or sells:
            self.pending[symbol] = (buys, sells)
        limits = self.limit_orders.setdefault(symbol, {})
        if held.order.price and held.remaining:
            limits[client_id] = held
        else:
            limits.pop(client_id, None)
        self.weigh(symbol)


def _order_sending(state: GatewayState, record: records.OrderSending) -> None:
    held = OrderState(record.order, Status.SENDING, record.at, record.recv_window, record.at)
    state.orders[record.order.client_id] = held
    close = state.closes.get(record.order.symbol)
    if close and record.order.parent == close.close_id:
        close.attempts += 1
        close.last_order = record.order.client_id
    state.settle(held, 0)


def _order_changed(state: GatewayState, record: records.OrderChanged) -> None:
    held = state.orders[record.client_id]
    before = held.remaining
    held.status, held.reason, held.changed_at = record.status, record.reason, record.at
    held.reported = record.reported
    close = state.closes.get(held.order.symbol)
    if close and close.last_order == record.client_id:
        close.refusals = close.refusals + 1 if record.status is Status.REJECTED else 0
    if record.venue_id and not held.venue_id:
        held.venue_id = record.venue_id
        _own(state, held, record.venue_id)
    if record.triggered_id and not held.triggered_id:
        held.triggered_id = record.triggered_id
        _own(state, held, record.triggered_id)
    state.settle(held, before)


def _own(state: GatewayState, held: OrderState, venue_id: str) -> None:
    """Count the trades under an id of the venue as the order's own."""
    key = (held.order.symbol, venue_id)
    if key not in state.by_venue:
        state.by_venue[key] = held.order.client_id
        state.foreign.pop(key, None)
        held.booked += state.ledger.executed.get(key, 0)
        _guard(state, held)


def _fill_booked(state: GatewayState, record: records.FillBooked) -> None:
    fill = record.fill
    is_late = state.ledger.is_late(fill)
    state.ledger.book(fill)
    key = (fill.symbol, fill.venue_id)
    client_id = state.by_venue.get(key)
    if client_id is None:
        if not venue_cause(fill.client_id):
            state.foreign[key] = max(fill.time, state.foreign.get(key, 0))
            if fill.client_id:
                state.named.add(key)
        state.weigh(fill.symbol)
    else:
        held = state.orders[client_id]
        before = held.remaining
        held.booked += fill.quantity
        state.settle(held, before)
        _guard(state, held)
    if is_late or client_id is None:
        _guard_anew(state, fill.symbol)
    if fill.symbol not in state.ledger.positions:
        state.guarded.pop(fill.symbol, None)


def _guard(state: GatewayState, held: OrderState) -> None:
    """Note that a position has an entry with a stop."""
    if held.order.stop_part and held.booked and held.order.symbol in state.ledger.positions:
        state.guarded.setdefault(held.order.symbol, {})[held.order.client_id] = None


def _guard_anew(state: GatewayState, symbol: str) -> None:
    """Note of which entries a position consists, by the times of all fills.

    Trades of others are read late, and own ones whose event was lost. An entry that seemed to close a short
    position, which a stop or the venue had closed a second before, is the whole position, and had no stop
    until the end of the day.
    """
    position, entries = 0, dict[str, None]()
    for each in state.ledger.in_order(symbol):
        position += each.signed
        client_id = state.by_venue.get((symbol, each.venue_id))
        if not position:
            entries.clear()
        elif client_id and state.orders[client_id].order.stop_part:
            entries[client_id] = None
    if entries:
        state.guarded[symbol] = entries
    else:
        state.guarded.pop(symbol, None)


def _cancel_sending(state: GatewayState, record: records.CancelSending) -> None:
    state.orders[record.client_id].cancel_sent = True


def _funding_booked(state: GatewayState, record: records.FundingBooked) -> None:
    state.ledger.pay(record.symbol, record.time, record.amount)


def _mode_set(state: GatewayState, record: records.ModeSet) -> None:
    state.mode, state.mode_reason = record.mode, record.reason
    state.day_due = record.mode is Mode.ACTIVE


def _day_begun(state: GatewayState, record: records.DayBegun) -> None:
    state.day, state.day_result, state.day_due = record.day, record.result, False


def _close_begun(state: GatewayState, record: records.CloseBegun) -> None:
    state.closes[record.symbol] = Closing(record.close_id, record.reason, record.at)
    state.closes_seen[record.close_id] = record.symbol


def _close_done(state: GatewayState, record: records.CloseDone) -> None:
    state.closes.pop(record.symbol, None)


def _symbol_halted(state: GatewayState, record: records.SymbolHalted) -> None:
    state.halts.setdefault(record.symbol, record.reason)


def _symbol_resumed(state: GatewayState, record: records.SymbolResumed) -> None:
    state.halts.pop(record.symbol, None)
    state.resumed[record.symbol] = record.at


def _venue_bound(state: GatewayState, record: records.VenueBound) -> None:
    state.venue = VenueIdentity(record.venue, record.host)


_APPLY: dict[type, Callable[[GatewayState, Any], None]] = {
    records.OrderSending: _order_sending,
    records.OrderChanged: _order_changed,
    records.CancelSending: _cancel_sending,
    records.FillBooked: _fill_booked,
    records.FundingBooked: _funding_booked,
    records.ModeSet: _mode_set,
    records.DayBegun: _day_begun,
    records.CloseBegun: _close_begun,
    records.CloseDone: _close_done,
    records.SymbolHalted: _symbol_halted,
    records.SymbolResumed: _symbol_resumed,
    records.VenueBound: _venue_bound,
}
