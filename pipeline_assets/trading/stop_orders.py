"""The stop that an entry carries: sent at the entry's first fill, and anew under another id where the venue
does not have it. Positions whose stop is not confirmed in time are closed in protecting.py.
"""

from collections.abc import Iterator
from itertools import count

from pipeline_assets.market.trading_rules import UNIT, units
from pipeline_assets.trading.messages import FiltersRead, Refused
from pipeline_assets.trading.order_ids import child_id
from pipeline_assets.trading.order_state import OrderState
from pipeline_assets.trading.order_types import Order, Status
from pipeline_assets.trading.refusals import is_filter, is_too_late
from pipeline_assets.trading.work import Work


def place_stop(work: Work, entry: OrderState, price: int) -> None:
    """Place the stop that an entry carries, at its first fill, for the whole entry.

    The order's rate limit does not hold a stop up: without the stop the position would be closed.
    """
    order = entry.order
    rules = work.core.rules.get(order.symbol)
    if not order.stop_part or rules is None or _newest(work, order.client_id):
        return
    _send(work, entry, _trigger(order, price, units(rules.tick_size)))


def _trigger(entry: Order, price: int, tick: int) -> int:
    """Return the stop's trigger as backtests calculate it: in ticks, at least one tick away."""
    ticks = price // tick
    distance = max(ticks * entry.stop_part // UNIT, 1)
    return (ticks - distance if entry.side == "buy" else ticks + distance) * tick


def _send(work: Work, entry: OrderState, trigger: int) -> None:
    """Send a stop for an entry, unless nothing is open on its side or the position is being closed."""
    order, state = entry.order, work.state
    if order.client_id not in state.guarded.get(order.symbol, {}) or order.symbol in state.closes:
        return
    if state.ledger.positions.get(order.symbol, 0) * order.signed <= 0 or trigger <= 0:
        return
    work.send(
        Order(
            client_id=next(each for each in _ids(order.client_id) if each not in state.orders),
            symbol=order.symbol,
            side="sell" if order.side == "buy" else "buy",
            kind="stop",
            quantity=order.quantity,
            price=trigger,
            reduce_only=True,
            strategy=order.strategy,
            decision_id=order.decision_id,
            parent=order.client_id,
        )
    )


def _ids(entry_id: str) -> Iterator[str]:
    """Yield the ids of an entry's stops; the numbers of `stop` from 1 on are the trader's."""
    yield child_id(entry_id, "stop", 0)
    for number in count():
        yield child_id(entry_id, "stop anew", number)


def _sent(work: Work, entry_id: str) -> list[OrderState]:
    """Return the stops that were sent for an entry, the oldest first."""
    found: list[OrderState] = []
    for client_id in _ids(entry_id):
        held = work.state.orders.get(client_id)
        if held is None:
            return found
        found.append(held)
    return found


def _newest(work: Work, entry_id: str) -> OrderState | None:
    sent = _sent(work, entry_id)
    return sent[-1] if sent else None


def place_missing(work: Work, symbol: str) -> None:
    """Place the stops that a position needs and the venue does not have, each once a process.

    After a start the first reading of open orders is waited for: it shows the stops that exist.
    """
    watch = work.core.stops
    if watch.awaits_reading:
        return
    for entry_id in list(work.state.guarded.get(symbol, {})):
        entry, last = work.state.orders[entry_id], _newest(work, entry_id)
        if last is None and symbol in work.core.rules:
            place_stop(work, entry, _first_price(work, entry))
        elif last and entry_id not in watch.repeated and _is_missing(work, entry_id, last):
            watch.repeated.add(entry_id)
            _send(work, entry, last.order.price)


def _is_missing(work: Work, entry_id: str, last: OrderState) -> bool:
    """Return whether the venue does not have a stop.

    A stop that a person cancelled, or that was refused in the life of this process, is not sent anew: the
    position is closed. A refusal of the request's time says nothing about the stop.
    """
    if last.status is Status.UNKNOWN:
        doubt = work.core.doubts.get(last.order.client_id)
        return doubt is not None and doubt.unseen_at >= last.sent_at + last.recv_window
    if last.status is Status.REJECTED and is_too_late(last.reason):
        # The venue's clock is read anew after such a refusal.
        return work.is_due(last.changed_at, work.core.timing.first_question)
    refused = last.status in (Status.REJECTED, Status.NOT_PLACED)
    return refused and entry_id in work.core.stops.at_start


def _first_price(work: Work, entry: OrderState) -> int:
    """Return the price of an entry's first booked fill."""
    fills = work.state.ledger.fills.values()
    key = (entry.order.symbol, entry.venue_id)
    return next((each.price for each in fills if (each.symbol, each.venue_id) == key), 0)


def refused(work: Work, event: Refused) -> None:
    """Have the filters read after one of these refused an entry's stop."""
    held, watch = work.state.orders.get(event.client_id), work.core.stops
    if held is None or not held.order.conditional or not is_filter(event.reason):
        return
    entry_id = held.order.parent
    if entry_id not in watch.refitted and _newest(work, entry_id) is held:
        watch.misfits[entry_id] = None
        work.ask_filters()


def ask(work: Work) -> None:
    """Ask for the filters again if a refused stop waits for these."""
    if work.core.stops.misfits and work.is_due(work.core.filters_asked, work.core.timing.repeat):
        work.ask_filters()


def filters_read(work: Work, event: FiltersRead) -> None:
    """Send the stops anew that the former filters did not fit; the venue rounds by the new ones."""
    work.core.largest.update(event.largest)
    watch = work.core.stops
    for entry_id in list(watch.misfits):
        del watch.misfits[entry_id]
        watch.refitted.add(entry_id)
        last = _newest(work, entry_id)
        if last and last.status is Status.REJECTED:
            _send(work, work.state.orders[entry_id], last.order.price)


def cancel_surplus(work: Work) -> None:
    """Cancel the older stops of an entry that were taken for missing and rest at the venue after all."""
    for entries in work.state.guarded.values():
        for entry_id in entries:
            resting = [each for each in _sent(work, entry_id) if each.status is Status.OPEN]
            for held in resting[:-1]:
                if not held.cancel_sent:
                    work.cancel(held)
