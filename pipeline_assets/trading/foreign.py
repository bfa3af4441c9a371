"""Orders and trades that the gateway did not send: another program's, a person's in the app, and the
venue's own such as liquidations. Each halts the entries of its symbol until a person resumes these.
"""

from pipeline_assets.market.trading_rules import decimal
from pipeline_assets.trading import records
from pipeline_assets.trading.messages import (
    AskOrder,
    OpenOrder,
    OpenOrdersRead,
    OrderSeen,
    Refusal,
    ResumeSymbol,
)
from pipeline_assets.trading.order_ids import venue_cause
from pipeline_assets.trading.order_state import OrderState
from pipeline_assets.trading.order_types import UNSETTLED, Fill, Status
from pipeline_assets.trading.work import Work

# After a restart, trades that are no older are still looked into.
_HOUR = 3_600_000


def begin(work: Work) -> None:
    """Look into the newest trades of unknown orders again after a restart."""
    for (symbol, venue_id), time in work.state.foreign.items():
        if work.now - time < _HOUR and time > work.state.resumed.get(symbol, 0):
            work.core.foreign_fills[symbol, venue_id] = work.now


def order_seen(work: Work, event: OrderSeen) -> None:
    """Halt the symbol of an order that is not in the journal, and show the order as long as it rests."""
    cause = venue_cause(event.client_id)
    what = f"an order of its own ({cause})" if cause else "an order that is not in the journal"
    name = f"{event.client_id[:60]!r}"
    if (event.symbol, event.venue_id) in work.state.foreign:
        work.state.named.add((event.symbol, event.venue_id))
    ended = event.status is not Status.OPEN
    work.core.foreign_events[event.venue_id] = (work.now, ended)
    if ended:
        work.state.foreign_open.pop(event.venue_id, None)
    elif event.resting:
        work.state.foreign_open[event.venue_id] = event.resting
    if not event.symbol:
        work.alarm(f"The venue reports {what}: {name}.")
    elif event.venue_id not in work.core.foreign_seen:
        work.core.foreign_seen.add(event.venue_id)
        if cause or event.symbol not in work.state.halts:
            # One alert for all orders of others: a person who trades by hand places many.
            work.halt_symbol(event.symbol, f"{event.symbol}: the venue reports {what}: {name}")


def open_orders_read(work: Work, event: OpenOrdersRead) -> None:
    """Ask about orders that the list contradicts, and halt the symbols of orders that are not known."""
    state, listed = work.state, set[str]()
    ended = _begin_list(work, event.asked_at)
    for each in event.orders:
        held = own(work, each)
        if held is None:
            if each.venue_id not in ended:
                state.foreign_open[each.venue_id] = each
            if each.venue_id not in work.core.foreign_seen:
                work.core.foreign_seen.add(each.venue_id)
                if each.symbol not in state.halts:
                    work.halt_symbol(
                        each.symbol, f"{each.symbol}: an order of others is open: {shown(each)}"
                    )
            continue
        listed.add(held.order.client_id)
        if held.status not in UNSETTLED:
            _ask(work, held)
    for client_id in state.live:
        held = state.orders[client_id]
        gone = client_id not in listed and held.changed_at < event.asked_at
        if gone and held.status is Status.OPEN:
            _ask(work, held)


def _begin_list(work: Work, asked_at: int) -> set[str]:
    """Forget the foreign orders that a list replaces; return those that ended since it was asked for.

    A list may be older than an event that came before it. An order that was placed meanwhile vanished with
    the list, and one that was cancelled came back, both until the next list a minute later.
    """
    core, state = work.core, work.state
    core.foreign_events = {
        venue_id: (at, ended)
        for venue_id, (at, ended) in core.foreign_events.items()
        if at >= asked_at
    }
    state.foreign_open = {
        venue_id: each
        for venue_id, each in state.foreign_open.items()
        if venue_id in core.foreign_events
    }
    return {venue_id for venue_id, (_, ended) in core.foreign_events.items() if ended}


def own(work: Work, each: OpenOrder) -> OrderState | None:
    """Return the order of the journal that an open order is, or None for an order of others."""
    client_id = work.state.by_venue.get((each.symbol, each.venue_id)) or each.client_id
    held = work.state.orders.get(client_id)
    return held if held and held.order.symbol == each.symbol else None


def _ask(work: Work, held: OrderState) -> None:
    order = held.order
    work.effect(AskOrder(order.client_id, order.symbol, order.conditional))


def shown(each: OpenOrder) -> str:
    """Return an open order as a text for people."""
    price = f" at {decimal(each.price):f}" if each.price else ""
    name = f"client id {each.client_id[:60]!r}, venue id {each.venue_id[:60]}"
    return f"{each.symbol} {each.kind} {each.side} {decimal(each.quantity):f}{price} ({name})"


def fill_booked(work: Work, fill: Fill) -> None:
    """Halt the symbol of a trade of the venue's own; look into that of an order which is not known."""
    cause = venue_cause(fill.client_id)
    if not cause:
        work.core.foreign_fills.setdefault((fill.symbol, fill.venue_id), work.now)
        return
    if fill.venue_id in work.core.foreign_seen:
        # A person was alerted by an earlier trade of the order, or by the order itself.
        return
    work.core.foreign_seen.add(fill.venue_id)
    did = "liquidated a position" if cause == "liquidation" else f"changed a position by {cause}"
    text = f"The venue {did}: {fill.side} {decimal(fill.quantity):f} {fill.symbol}"
    if work.core.timing.halts_after_liquidation:
        work.halt_symbol(fill.symbol, text)
    else:
        work.alarm(f"{text}.")


def check(work: Work) -> None:
    """Halt the symbols whose trades belong to no order though all orders of the journal are known by now."""
    for key, booked_at in list(work.core.foreign_fills.items()):
        symbol, venue_id = key
        # A venue may show an order, or another program's order may be adopted, minutes later.
        if key not in work.state.foreign:
            del work.core.foreign_fills[key]
        elif work.is_due(booked_at, 2 * work.core.timing.settling):
            del work.core.foreign_fills[key]
            if symbol in work.state.halts and venue_id in work.core.foreign_seen:
                # A person was alerted when the venue reported the order itself.
                continue
            work.core.foreign_seen.add(venue_id)
            text = (
                f"{symbol}: the venue reports a trade of order {venue_id[:60]}, which is not known"
            )
            work.halt_symbol(symbol, text)


def resume(work: Work, event: ResumeSymbol) -> None:
    """Accept entries of a symbol again, also after the trades so far of orders that a person knows of."""
    if event.symbol not in work.state.halts:
        refusal = Refusal("not_found", f"Entries of {event.symbol[:40]} are not halted.")
        work.reply(event.request, event.symbol, refusal)
        return
    work.record(
        records.SymbolResumed(at=work.now, symbol=event.symbol, reason=event.reason, by=event.by)
    )
    for symbol, venue_id in list(work.core.foreign_fills):
        if symbol == event.symbol and venue_id in work.core.foreign_seen:
            del work.core.foreign_fills[symbol, venue_id]
    work.reply(event.request, event.symbol)
