"""Closing a position: each reading of the positions allows one more reduce-only order for what is open.

A close does not wait until an unknown order is resolved: a reduce-only order can neither open nor turn a
position.
"""

from itertools import count

from pipeline_assets.market.trading_rules import units
from pipeline_assets.trading import records
from pipeline_assets.trading.messages import PositionsRead, Refused
from pipeline_assets.trading.order_ids import child_id
from pipeline_assets.trading.order_state import Closing
from pipeline_assets.trading.order_types import Order, Status
from pipeline_assets.trading.refusals import is_filter
from pipeline_assets.trading.work import Work

_WAITING = frozenset({Status.SENDING, Status.OPEN})
_LONGEST_WAIT = 60_000
# One refusal can mean that the position was closed meanwhile.
_ALERTED_REFUSALS = 3


def positions_read(work: Work, event: PositionsRead) -> None:
    """Go on with every close that a reading of the positions is new enough for."""
    for symbol, close in list(work.state.closes.items()):
        if event.asked_at < close.begun_at:
            continue
        _go_on(work, symbol, close, event)


def _go_on(work: Work, symbol: str, close: Closing, event: PositionsRead) -> None:
    quantity = event.quantities.get(symbol, 0)
    last = work.state.orders.get(close.last_order)
    retry = work.core.timing.close_retry
    if last and last.status in _WAITING and event.asked_at < last.sent_at + retry:
        return
    if last and event.asked_at <= last.sent_at:
        return
    if quantity == 0:
        _finish(work, symbol, close, event)
        return
    if last and close.refusals and event.asked_at < last.changed_at + _wait(work, close.refusals):
        return
    work.send(
        Order(
            client_id=_free_id(work, close),
            symbol=symbol,
            side="sell" if quantity > 0 else "buy",
            kind="market",
            quantity=min([abs(quantity), *_largest(work, symbol)]),
            reduce_only=True,
            parent=close.close_id,
        )
    )


def _largest(work: Work, symbol: str) -> list[int]:
    """Return the limits of a market order's quantity that are known; the next readings close the rest.

    The lake's rules may be missing after a start, or a day old: the venue's own are read after a refusal.
    """
    rules, said = work.core.rules.get(symbol), work.core.largest.get(symbol)
    return [*([units(rules.max_quantity)] if rules else []), *([said] if said else [])]


def _wait(work: Work, refusals: int) -> int:
    """Return 1, 2, 4, … 60 seconds for the first, second, third, … refusal."""
    return min(work.core.timing.first_question << min(refusals - 1, 16), _LONGEST_WAIT)


def _free_id(work: Work, close: Closing) -> str:
    """Return the next id of a close's orders that no order has: a caller may have used one."""
    ids = (child_id(close.close_id, "close", number) for number in count(close.attempts))
    return next(each for each in ids if each not in work.state.orders)


def refused(work: Work, event: Refused) -> None:
    """Have the filters read that refused an order of a close; alert a person of repeated refusals."""
    held = work.state.orders.get(event.client_id)
    if held is None:
        return
    symbol = held.order.symbol
    close = work.state.closes.get(symbol)
    if close and held.order.parent == close.close_id and is_filter(event.reason):
        work.ask_filters()
    if close and close.last_order == event.client_id and close.refusals >= _ALERTED_REFUSALS:
        work.alarm(
            f"The venue refuses to close {symbol} (close {close.close_id}): {event.reason}. The close "
            "goes on, with waits of up to a minute."
        )


def _finish(work: Work, symbol: str, close: Closing, event: PositionsRead) -> None:
    """End a close whose position is 0 at the venue and in the ledger, with no entry still to come."""
    if work.state.ledger.positions.get(symbol):
        work.ask_trades(symbol, close.begun_at - 60_000)
        return
    entries = [work.state.orders[each] for each in work.state.live]
    if any(each.order.symbol == symbol and not each.order.reduce_only for each in entries):
        return
    work.record(records.CloseDone(at=work.now, symbol=symbol, close_id=close.close_id))


def ask(work: Work) -> None:
    """Read the positions again if a close waits for it."""
    if not work.state.closes:
        return
    if work.is_due(work.core.positions_asked, work.core.timing.first_question):
        work.ask_positions()
