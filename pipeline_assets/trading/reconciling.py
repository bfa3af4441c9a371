"""Comparing the ledger with the venue's positions: finds trades that no question about an order would find,
such as a liquidation, or the fills of an order that was taken for absent.

A difference leads to readings of the symbol's trades, each from an earlier time on. Trades that are found are
booked; a difference that remains halts the symbol's entries. Single orders are asked for in resolving.py.
"""

from pipeline_assets.market.trading_rules import decimal
from pipeline_assets.trading import resolving
from pipeline_assets.trading.messages import AskOrder, PositionsRead, TradesRead
from pipeline_assets.trading.order_ids import venue_cause
from pipeline_assets.trading.order_types import UNSETTLED, Status
from pipeline_assets.trading.work import Difference, Work

_HOUR = 3_600_000
# Binance reads the trades of seven days at once.
_WEEK = 7 * 24 * _HOUR
# Entries halt after this many readings: the last one begins 32 settling times before the agreement.
_READINGS = 6


def begin(work: Work) -> None:
    """Read what no event reported: all positions and open orders, and the trades of the open positions."""
    work.ask_positions()
    work.ask_open_orders()
    for symbol in work.state.ledger.positions:
        work.ask_trades(symbol, _since(work, symbol, 0))


def ask(work: Work) -> None:
    """Read positions and open orders once a minute, and ask again about orders that ended.

    Positions are read sooner after a difference, and after a reading that was not answered. A new difference
    holds entries up, and most are trades under way: the second reading comes after seconds.
    """
    core, timing = work.core, work.core.timing
    wait = timing.longest_question if core.differences else timing.reconcile
    if core.unanswered_since or any(not each.readings for each in core.differences.values()):
        wait = timing.repeat
    if work.is_due(core.positions_asked, wait):
        work.ask_positions()
    hurry = core.stops.awaits_reading and not work.is_due(core.stops.started_at, timing.stop)
    if work.is_due(core.open_orders_asked, timing.repeat if hurry else timing.reconcile):
        work.ask_open_orders()
    if work.is_due(core.ended_asked, timing.reconcile):
        core.ended_asked = work.now
        _ask_about_ended(work)


def _ask_about_ended(work: Work) -> None:
    """Ask again about orders of the last hour that ended unfilled: a venue may show a fill late.

    Positions do not show a fill that a liquidation took back, so the trades themselves are read for a time.
    """
    earliest: dict[str, int] = {}
    for held in reversed(work.state.orders.values()):
        if held.sent_at < work.now - _HOUR:
            break
        if held.status is Status.NOT_PLACED:
            order = held.order
            work.effect(AskOrder(order.client_id, order.symbol, order.conditional))
        elif (
            held.status in (Status.CANCELED, Status.EXPIRED)
            and held.booked < held.order.quantity
            and work.now - held.changed_at < 2 * work.core.timing.settling
        ):
            earliest[held.order.symbol] = held.sent_at
    for symbol, sent_at in earliest.items():
        work.ask_trades(symbol, sent_at - resolving.OVERLAP)


def positions_read(work: Work, event: PositionsRead) -> None:
    """Note where ledger and venue agree, and follow each difference up."""
    core, ledger = work.core, work.state.ledger.positions
    for symbol in sorted(ledger.keys() | event.quantities.keys() | core.differences.keys()):
        if event.asked_at <= core.booked_at.get(symbol, 0):
            continue  # the ledger knows a later trade than the reading
        there, here = event.quantities.get(symbol, 0), ledger.get(symbol, 0)
        if there == here:
            _agrees(work, symbol, event.asked_at)
        else:
            _differs(work, symbol, there, here, event.asked_at)


def _agrees(work: Work, symbol: str, asked_at: int) -> None:
    work.core.agreed_at[symbol] = asked_at
    difference = work.core.differences.pop(symbol, None)
    if difference and difference.halted:
        work.alarm(
            f"{symbol}: venue and ledger have the same position again. Resume the symbol once the cause "
            "is known."
        )


def _differs(work: Work, symbol: str, there: int, here: int, asked_at: int) -> None:
    """Read trades from the second reading on: most differences are trades under way."""
    held = work.core.differences.get(symbol)
    if held is None:
        work.core.differences[symbol] = Difference(there - here, asked_at, asked_at)
        return
    held.read_at = asked_at
    if held.quantity != there - here:
        held.quantity, held.since, held.halted = there - here, asked_at, False
    if asked_at < held.next_reading:
        return
    held.next_reading = asked_at + work.core.timing.longest_question
    wide = held.readings >= _READINGS and held.trades_at >= held.since + work.core.timing.settling
    if wide and not held.halted and not _is_explained(work, symbol, held):
        held.halted = True
        _halt(work, symbol, there, here)
    work.ask_trades(symbol, _since(work, symbol, held.readings))
    held.readings += 1


def is_open(work: Work, symbol: str) -> bool:
    """Return whether the newest reading shows a difference, and no fill was booked since it was asked for.

    A difference that halted its symbol is a person's to judge: entries pass once the symbol is resumed.
    """
    difference = work.core.differences.get(symbol)
    if difference is None or difference.halted:
        return False
    return difference.read_at > work.core.booked_at.get(symbol, 0)


def _is_explained(work: Work, symbol: str, difference: Difference) -> bool:
    """Return whether orders of which the venue may have filled more could make the difference."""
    buys = sells = 0
    for client_id in work.state.live:
        held = work.state.orders[client_id]
        if held.order.symbol != symbol or (
            held.status is Status.OPEN and held.reported <= held.booked
        ):
            continue
        most = held.order.quantity if held.status in UNSETTLED else held.reported
        if held.order.side == "buy":
            buys += most - held.booked
        else:
            sells += most - held.booked
    return -sells <= difference.quantity <= buys


def _halt(work: Work, symbol: str, there: int, here: int) -> None:
    reason = (
        f"{symbol}: the venue's position is {decimal(there)}, the ledger's {decimal(here)}, and the venue "
        "reports no trade that explains the difference"
    )
    work.halt_symbol(symbol, reason)


def trades_read(work: Work, event: TradesRead) -> None:
    """Book a reading's trades, and tell a person of those that no question about an order waited for."""
    ledger, missed = work.state.ledger, 0
    for fill in event.fills:
        # A person is alerted of the venue's own orders as such.
        known = ledger.has(fill) or venue_cause(fill.client_id)
        missed += not known and not resolving.is_awaited(work, fill)
    before = ledger.positions.get(event.symbol, 0)
    resolving.trades_read(work, event)
    if missed:
        work.alarm(
            f"{event.symbol}: trades that were missing in the ledger are booked now ({missed}); the position "
            f"was {decimal(before)} and is {decimal(ledger.positions.get(event.symbol, 0))}."
        )
    difference = work.core.differences.get(event.symbol)
    if difference:
        difference.trades_at = max(difference.trades_at, event.asked_at)


def _since(work: Work, symbol: str, readings: int) -> int:
    """Return from when on trades are read: further back each time, and not before the ledger began."""
    ledger = work.state.ledger
    known = work.core.agreed_at.get(symbol) or ledger.newest.get(symbol) or work.now
    wanted = known - (work.core.timing.settling << min(readings, 16))
    return max(wanted, work.state.begun_at - resolving.OVERLAP, work.now - _WEEK)
