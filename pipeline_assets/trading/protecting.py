"""Protective orders: the stop that an entry carries is placed at its first fill, and a position without a
confirmed stop is closed. Questions about the state are in stops.py; trailing a stop is the trader's part.
"""

from itertools import count

import msgspec

from pipeline_assets.market.trading_rules import UNIT, units
from pipeline_assets.trading import stops
from pipeline_assets.trading.messages import Refused
from pipeline_assets.trading.order_ids import child_id
from pipeline_assets.trading.order_state import OrderState
from pipeline_assets.trading.order_types import UNSETTLED, Order
from pipeline_assets.trading.placing import begin_close
from pipeline_assets.trading.work import Work

# The exchange refuses a reduce-only order where resting ones already reduce the whole position.
_BLOCKED = "-4118"


def place_stop(work: Work, entry: OrderState, price: int) -> None:
    """Place the stop that an entry carries, at its first fill, for the whole entry.

    The order's rate limit does not hold a stop up: without the stop the position would be closed.
    """
    order = entry.order
    stop_id = child_id(order.client_id, "stop", 0)
    position = work.state.ledger.positions.get(order.symbol, 0)
    placed = stop_id in work.state.orders or order.symbol in work.state.closes
    rules = work.core.rules.get(order.symbol)
    if order.client_id not in work.state.guarded.get(order.symbol, {}) or placed:
        return
    if position * order.signed <= 0 or rules is None:
        return
    trigger = _trigger(order, price, units(rules.tick_size))
    if trigger <= 0:
        return
    work.send(
        Order(
            client_id=stop_id,
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


def _trigger(entry: Order, price: int, tick: int) -> int:
    """Return the stop's trigger as backtests calculate it: in ticks, at least one tick away."""
    ticks = price // tick
    distance = max(ticks * entry.stop_part // UNIT, 1)
    return (ticks - distance if entry.side == "buy" else ticks + distance) * tick


def check(work: Work) -> None:
    """Close every position that was too long without a confirmed stop, and tell a person."""
    core, state = work.core, work.state
    for symbol in [each for each in core.unprotected_since if each not in state.guarded]:
        del core.unprotected_since[symbol]
    for symbol in list(state.guarded):
        if stops.is_protected(state, symbol):
            core.unprotected_since.pop(symbol, None)
            continue
        since = core.unprotected_since.setdefault(symbol, work.now)
        if symbol not in state.closes and work.is_due(since, core.timing.stop):
            _close(work, symbol)


def _close(work: Work, symbol: str) -> None:
    seconds = work.core.timing.stop / 1000
    entry = next(iter(work.state.guarded[symbol]))
    ids = (child_id(entry, "close without stop", number) for number in count())
    close_id = next(each for each in ids if each not in work.state.closes_seen)
    reason = f"no stop was confirmed within {seconds:g} s"
    begin_close(work, symbol, close_id, reason)
    work.alarm(
        f"{symbol}: {reason} (setting PIPELINE_TRADING__STOP_SECONDS), so the position is being closed. Find "
        f"out why from the stops of entry {entry}."
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
    if held is None or not event.reason.startswith(_BLOCKED):
        return
    order = held.order
    if order.kind != "market" or not order.reduce_only or order.symbol in work.state.closes:
        return
    resting = _resting(work, order)
    for each in resting:
        work.cancel(each)
    if resting and _again(order) not in work.state.orders:
        work.core.blocked[event.client_id] = None
    work.alarm(
        f"{order.symbol}: the venue refused the reduce-only order {order.client_id} since others rest "
        f"({event.reason}); {len(resting)} of these are being cancelled."
    )


def send_blocked(work: Work) -> None:
    """Send each blocked order again, once, when nothing rests that could block it; the position limits it."""
    for client_id in list(work.core.blocked):
        order = work.state.orders[client_id].order
        if _resting(work, order):
            continue
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
