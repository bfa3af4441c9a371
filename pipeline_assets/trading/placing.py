"""A caller's wishes: place, cancel, close, change of mode. Each is checked here and answered once."""

from pipeline_assets.market.trading_rules import decimal
from pipeline_assets.trading import entries, records, troubles
from pipeline_assets.trading.limits import against_filters, against_limits, unknown_symbol
from pipeline_assets.trading.messages import (
    BindVenue,
    Cancel,
    Close,
    Flatten,
    Place,
    Refusal,
    SetMode,
)
from pipeline_assets.trading.order_ids import CLIENT_ID, child_id, venue_cause
from pipeline_assets.trading.order_types import UNSETTLED, Mode, Order
from pipeline_assets.trading.work import Work


def place(work: Work, event: Place) -> None:
    """Send an order if nothing speaks against it. The same order again only reports its state."""
    order, held = event.order, work.state.orders.get(event.order.client_id)
    if held:
        work.reply(event.request, order.client_id, _conflict(held.order, order))
        return
    refusal = _refusal(work, order)
    if refusal is None:
        work.send(order)
    work.reply(event.request, order.client_id, refusal)


def _refusal(work: Work, order: Order) -> Refusal | None:
    if not CLIENT_ID.fullmatch(order.client_id):
        return Refusal("client_id", "client_id must be 1 to 36 of A-Z a-z 0-9 . : / _ -")
    if venue_cause(order.client_id):
        return Refusal(
            "client_id", "client_id must not begin as those of the exchange's own orders do"
        )
    if order.symbol in work.state.closes and not order.reduce_only:
        return Refusal("closing", f"{order.symbol}: its position is being closed.")
    seen = work.state.prices.get(order.symbol)
    return (
        against_filters(order, work.core.rules.get(order.symbol), seen.price if seen else 0)
        or against_limits(order, work.state, work.core.limits, work.core.rate, work.now)
        or entries.refusal(work, order)
    )


def _conflict(held: Order, wanted: Order) -> Refusal | None:
    differing = [
        f"{name} is {_shown(name, getattr(held, name))}, not {_shown(name, getattr(wanted, name))}"
        for name in held.__struct_fields__
        if getattr(held, name) != getattr(wanted, name)
    ]
    if not differing:
        return None
    return Refusal(
        "already_exists",
        f"Order {held.client_id} exists with other values: {'; '.join(differing)}.",
    )


def _shown(name: str, value: object) -> str:
    if name in ("quantity", "price") and isinstance(value, int):
        return str(decimal(value))
    return str(value)


def cancel(work: Work, event: Cancel) -> None:
    """Ask the venue to cancel an order; one that is at its end stays as it is."""
    held = work.state.orders.get(event.client_id)
    if held is None:
        work.reply(
            event.request, event.client_id,
            Refusal("not_found", f"There is no order {event.client_id[:60]!r}."),
        )  # fmt: skip
        return
    if held.status in UNSETTLED:
        work.cancel(held)
    work.reply(event.request, event.client_id)


def close(work: Work, event: Close) -> None:
    """Begin to close a position: cancel the symbol's orders, then ask the venue how large it is."""
    if not CLIENT_ID.fullmatch(event.close_id):
        refusal = Refusal("client_id", "close_id must be 1 to 36 of A-Z a-z 0-9 . : / _ -")
        work.reply(event.request, event.close_id, refusal)
        return
    known = work.state.closes_seen.get(event.close_id)
    if known not in (None, event.symbol):
        refusal = Refusal("already_exists", f"Close {event.close_id} exists for {known}.")
        work.reply(event.request, event.close_id, refusal)
        return
    if known is None and _is_unknown(work, event.symbol):
        work.reply(event.request, event.close_id, unknown_symbol(event.symbol))
        return
    running = work.state.closes.get(event.symbol)
    if known is None and running is None:
        begin_close(work, event.symbol, event.close_id, event.reason)
    work.reply(event.request, running.close_id if running else event.close_id)


def _is_unknown(work: Work, symbol: str) -> bool:
    """Return whether no rules exist for a symbol, and nothing of the account concerns it.

    A position in a symbol that is no longer collected must stay closable. While no rules are read at all, as
    after a start without the lake, no symbol is unknown.
    """
    if not work.core.rules or symbol in work.core.rules:
        return False
    state = work.state
    return symbol not in state.exposure | state.ledger.positions | state.closes and not any(
        state.orders[each].order.symbol == symbol for each in state.live
    )


def begin_close(work: Work, symbol: str, close_id: str, reason: str) -> None:
    """Record that a position is to be closed, cancel what could block that, and ask for the position.

    Stops stay until the position is 0: a venue that refuses the close leaves the position protected.
    """
    work.record(records.CloseBegun(at=work.now, symbol=symbol, close_id=close_id, reason=reason))
    for client_id in list(work.state.live):
        held = work.state.orders[client_id]
        order = held.order
        if order.symbol == symbol and held.status in UNSETTLED and not order.conditional:
            work.cancel(held)
    work.ask_positions()


def set_mode(work: Work, event: SetMode) -> None:
    """Change what is accepted. Resuming has the core begin the day's loss anew, and trust the key again."""
    if event.mode is Mode.ACTIVE:
        troubles.trust_key(work, event.by)
    work.set_mode(event.mode, event.reason, event.by)
    work.reply(event.request, event.mode.value)


def bind_venue(work: Work, event: BindVenue) -> None:
    """Have the journal belong to this venue; the caller has checked that it may."""
    if work.state.venue != event.venue:
        venue, host = event.venue
        work.record(records.VenueBound(at=work.now, venue=venue, host=host))
    work.reply(event.request, str(event.venue))


def flatten(work: Work, event: Flatten) -> None:
    """Halt, cancel the own orders and close every position. The same `close_id` is one flatten."""
    if work.state.mode is not Mode.HALTED or work.state.mode_reason != event.reason:
        work.set_mode(Mode.HALTED, event.reason, event.by)
    concerned = dict.fromkeys(work.state.ledger.positions)
    concerned |= dict.fromkeys(work.state.orders[each].order.symbol for each in work.state.live)
    for symbol in concerned:
        close_id = child_id(f"{event.close_id}:{symbol}", "flatten", 0)
        if symbol not in work.state.closes and close_id not in work.state.closes_seen:
            begin_close(work, symbol, close_id, event.reason)
    work.reply(event.request, event.close_id)
