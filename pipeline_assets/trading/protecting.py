"""Protection of positions: one without a confirmed stop is closed, stops without a position are cancelled,
and a blocked exit is sent again. The stops of entries are sent in stop_orders.py; questions about the state
are in stops.py; trailing a stop is the trader's part.
"""

from itertools import count

import msgspec

from pipeline_assets.trading import stop_orders, stops
from pipeline_assets.trading.messages import Refused
from pipeline_assets.trading.order_ids import child_id
from pipeline_assets.trading.order_state import OrderState
from pipeline_assets.trading.order_types import UNSETTLED, Order
from pipeline_assets.trading.placing import begin_close
from pipeline_assets.trading.refusals import is_blocked
from pipeline_assets.trading.work import Work

_NAMED = 5


def check(work: Work) -> None:
    """Place the stops that are missing; close every position that was too long without a confirmed one.

    The clock counts from the fill, over restarts too. A process that learns late of a position without a
    stop, as after a start, or that was frozen meanwhile, gives the stop a grace: a position is not closed for
    want of a stop that the venue has confirmed, or would have in a second.
    """
    watch, timing = work.core.stops, work.core.timing
    for symbol in [each for each in watch.since if each not in work.state.closes]:
        stop_orders.place_missing(work, symbol)
        if watch.awaits_reading and not work.is_due(watch.started_at, timing.stop - timing.grace):
            continue
        known = watch.known.setdefault(symbol, work.now)
        if work.is_due(watch.since[symbol], timing.stop) and work.is_due(known, timing.grace):
            _close(work, symbol)


def _close(work: Work, symbol: str) -> None:
    seconds = work.core.timing.stop / 1000
    entry = next(iter(work.state.guarded[symbol]))
    ids = (child_id(entry, "close without stop", number) for number in count())
    close_id = next(each for each in ids if each not in work.state.closes_seen)
    reason = f"no stop was confirmed within {seconds:g} s"
    named = ", ".join(stops.entries_without(work.state, symbol)[:_NAMED])
    begin_close(work, symbol, close_id, reason)
    work.alarm(
        f"{symbol}: {reason} (setting PIPELINE_TRADING__STOP_SECONDS), so the position is being closed. Find "
        f"out why from the stops of: {named}."
    )


def cancel_orphans(work: Work) -> None:
    """Cancel stops without a position; a symbol whose position differs from the venue's keeps its stops."""
    symbols = {
        work.state.orders[each].order.symbol
        for each in work.state.live
        if work.state.orders[each].order.conditional
    }
    for symbol in sorted(symbols - work.core.differences.keys()):
        for held in stops.orphans(work.state, symbol):
            # A cancel that was sent is repeated with the questions about the order.
            if not held.cancel_sent:
                work.cancel(held)


def refused(work: Work, event: Refused) -> None:
    """Cancel resting targets that blocked a closing order, which is sent again after that."""
    held = work.state.orders.get(event.client_id)
    if held is None or not is_blocked(event.reason):
        return
    order = held.order
    if order.kind != "market" or not order.reduce_only or order.symbol in work.state.closes:
        return
    resting = _resting(work, order)
    for each in resting:
        work.cancel(each)
    if resting and _again(order) not in work.state.orders:
        work.core.blocked[event.client_id] = tuple(each.order.client_id for each in resting)
    work.alarm(
        f"{order.symbol}: the venue refused the reduce-only order {order.client_id} since others rest "
        f"({event.reason}); {len(resting)} of these are being cancelled."
    )


def send_blocked(work: Work) -> None:
    """Send each blocked order again, once, when the orders that blocked it are at their end.

    Only these are waited for: a later target belongs to a later position. The position limits the order.
    """
    for client_id, cancelled in list(work.core.blocked.items()):
        if any(work.state.orders[each].unsettled for each in cancelled):
            continue
        order = work.state.orders[client_id].order
        del work.core.blocked[client_id]
        position = work.state.ledger.positions.get(order.symbol, 0)
        if position * order.signed < 0 and order.symbol not in work.state.closes:
            quantity = min(order.quantity, abs(position))
            work.send(msgspec.structs.replace(order, client_id=_again(order), quantity=quantity))


def _resting(work: Work, order: Order) -> list[OrderState]:
    return [
        held
        for held in stops.live(work.state, order.symbol)
        if held.order.reduce_only
        and held.order.kind == "limit"
        and held.order.side == order.side
        and held.status in UNSETTLED
    ]


def _again(order: Order) -> str:
    return child_id(order.client_id, "after targets", 0)
