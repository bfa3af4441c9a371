"""The venue's messages: answers, the stream, queries. An unknown order is resolved here, from evidence
alone; nothing here sends an entry.
"""

from pipeline_assets.trading import foreign, records, stop_orders
from pipeline_assets.trading.messages import (
    Accepted,
    AskOrder,
    CancelAnswered,
    FillSeen,
    FundingPaid,
    OpenOrdersRead,
    OrderMissing,
    OrderSeen,
    PositionsRead,
    Refused,
    SendCancel,
    TradesRead,
    Unanswered,
)
from pipeline_assets.trading.order_state import OrderState
from pipeline_assets.trading.order_types import UNSETTLED, Fill, Status
from pipeline_assets.trading.work import Doubt, Work

# A venue's clock and ours may differ: trades are read from a little earlier than the order was sent.
OVERLAP = 10_000


def accepted(work: Work, event: Accepted) -> None:
    """Note that the venue has an order. An answer that comes after the stream's events changes nothing."""
    held = work.state.orders.get(event.client_id)
    if held and held.status in (Status.SENDING, Status.UNKNOWN, Status.NOT_PLACED):
        _adopt(work, held, Status.OPEN, event.venue_id, held.reported)


def refused(work: Work, event: Refused) -> None:
    """End an order that the venue does not have, for certain."""
    held = work.state.orders.get(event.client_id)
    if held and held.status is Status.SENDING:
        work.change(held, Status.REJECTED, reason=event.reason)


def unanswered(work: Work, event: Unanswered) -> None:
    """Doubt an order from here on."""
    held = work.state.orders.get(event.client_id)
    if held and held.status is Status.SENDING:
        work.change(held, Status.UNKNOWN, reason=event.reason)
        ask_soon(work, event.client_id)


def cancel_answered(work: Work, event: CancelAnswered) -> None:
    """Ask what became of an order; a cancel's answer alone does not say what was filled before."""
    held = work.state.orders.get(event.client_id)
    if held and held.unsettled:
        work.effect(AskOrder(event.client_id, held.order.symbol, held.order.conditional))


def order_seen(work: Work, event: OrderSeen) -> None:
    """Take over what stream or query say of an order. A state at an end is never left again."""
    held = work.state.orders.get(event.client_id)
    if held is None:
        foreign.order_seen(work, event)
        return
    reported = max(held.reported, event.executed)
    triggered = bool(event.triggered_id) and not held.triggered_id
    if held.status in (Status.REJECTED, Status.NOT_PLACED):
        if event.status is Status.REJECTED:
            return
        work.alarm(
            f"Order {event.client_id} was taken for {held.status} and is {event.status} at the venue "
            "now; it is adopted."
        )
        _adopt(work, held, event.status, event.venue_id, reported, event.triggered_id)
    elif held.status in UNSETTLED:
        changed = (held.status, held.reported) != (event.status, reported)
        if changed or not held.venue_id or triggered:
            _adopt(work, held, event.status, event.venue_id, reported, event.triggered_id)
    elif reported > held.reported or triggered:
        work.change(
            held,
            held.status,
            reported=reported,
            reason=held.reason,
            triggered_id=event.triggered_id,
        )
    if held.reported > held.booked:
        _owes_fills(work, held)


def _adopt(
    work: Work,
    held: OrderState,
    status: Status,
    venue_id: str,
    reported: int,
    triggered_id: str = "",
) -> None:
    """Take over that the venue has an order; ask for it soon: the events of its fills may be lost."""
    is_news = held.status is not Status.OPEN
    work.change(held, status, venue_id=venue_id, reported=reported, triggered_id=triggered_id)
    if held.unsettled and is_news:
        ask_soon(work, held.order.client_id)
    if held.booked:
        # Trades that were no known order's until now opened a position.
        price = work.state.ledger.entry_price(held.order.symbol)
        stop_orders.place_stop(work, held, price)


def _owes_fills(work: Work, held: OrderState) -> None:
    """Read the trades of an order of which the venue said more than the ledger has."""
    ask_soon(work, held.order.client_id)
    work.ask_trades(held.order.symbol, held.sent_at - OVERLAP)


def order_missing(work: Work, event: OrderMissing) -> None:
    """Count a query that found nothing, if it was asked late enough to mean anything."""
    held = work.state.orders.get(event.client_id)
    if held is None or held.status is not Status.UNKNOWN:
        return
    doubt = work.core.doubts[event.client_id]
    doubt.unseen_at = max(doubt.unseen_at, event.asked_at)
    if event.asked_at >= horizon(work, held):
        doubt.missing_at = event.asked_at
        conclude(work, held)


def open_orders_read(work: Work, event: OpenOrdersRead) -> None:
    """Take an order that was in doubt for open if the venue lists it; note which ones it does not list."""
    listed = set[str]()
    for each in event.orders:
        held = foreign.own(work, each)
        if held and held.status in (Status.SENDING, Status.UNKNOWN):
            _adopt(work, held, Status.OPEN, each.venue_id, held.reported)
            listed.add(held.order.client_id)
    for client_id in work.state.live.keys() - listed:
        if work.state.orders[client_id].status is Status.UNKNOWN:
            doubt = work.core.doubts.setdefault(client_id, Doubt(work.now))
            doubt.unseen_at = max(doubt.unseen_at, event.asked_at)


def fill_seen(work: Work, event: FillSeen) -> None:
    """Book a trade."""
    book(work, event.fill)


def trades_read(work: Work, event: TradesRead) -> None:
    """Book all trades of a reading, and count it as evidence about unknown orders of the symbol."""
    for fill in event.fills:
        book(work, fill)
    for held in _unknown(work, event.symbol):
        if event.since <= held.sent_at and event.asked_at >= horizon(work, held):
            work.core.doubts[held.order.client_id].trades_at = event.asked_at
            conclude(work, held)


def book(work: Work, fill: Fill) -> None:
    """Book a trade once, and derive from it what its order is."""
    ledger = work.state.ledger
    if ledger.has(fill):
        known = ledger.fills[fill.symbol, fill.trade_id]
        if (known.signed, known.price) != (fill.signed, fill.price):
            work.alarm(f"Trade {fill.trade_id} of {fill.symbol} is reported with other values now.")
        if fill.client_id and (fill.symbol, fill.venue_id) in work.state.foreign:
            work.state.named.add((fill.symbol, fill.venue_id))
        return
    held = _owner(work, fill)
    if held and not held.venue_id:
        status = held.status if held.status in (Status.OPEN, Status.FILLED) else Status.OPEN
        if held.status in (Status.REJECTED, Status.NOT_PLACED):
            work.alarm(
                f"Order {held.order.client_id} was taken for {held.status} and is filled now."
            )
        _adopt(work, held, status, fill.venue_id, held.reported)
    elif (
        held and held.order.conditional and fill.venue_id != held.venue_id and not held.triggered_id
    ):
        work.change(held, held.status, reason=held.reason, triggered_id=fill.venue_id)
    work.record(records.FillBooked(at=work.now, fill=fill))
    work.core.booked_at[fill.symbol] = work.now
    work.core.invariants.after_fill(fill, work.state)
    if held:
        _after_fill(work, held)
        stop_orders.place_stop(work, held, fill.price)
    else:
        foreign.fill_booked(work, fill)


def is_awaited(work: Work, fill: Fill) -> bool:
    """Return whether a trade belongs to an order that is not settled."""
    held = _owner(work, fill)
    return held is not None and held.unsettled


def _owner(work: Work, fill: Fill) -> OrderState | None:
    client_id = work.state.by_venue.get((fill.symbol, fill.venue_id)) or fill.client_id
    return work.state.orders.get(client_id)


def _after_fill(work: Work, held: OrderState) -> None:
    if held.booked > held.order.quantity:
        work.alarm(f"Order {held.order.client_id} is filled by more than it asked for.")
    if held.status in UNSETTLED and held.booked >= held.order.quantity:
        work.change(held, Status.FILLED, reported=held.booked)
    elif held.booked > held.reported:
        work.change(held, held.status, reported=held.booked, reason=held.reason)
    if not held.unsettled:
        work.core.doubts.pop(held.order.client_id, None)
    elif held.order.kind != "limit":
        # Matched at once, in part: the rest expired, and the event that says so may be lost. A stop would be
        # taken for the protection of what it left open.
        ask_soon(work, held.order.client_id)


def positions_read(work: Work, event: PositionsRead) -> None:
    """Compare the venue's positions with the ledger: evidence about unknown orders."""
    for client_id in list(work.state.live):
        held = work.state.orders[client_id]
        symbol = held.order.symbol
        if held.status is not Status.UNKNOWN or event.asked_at < horizon(work, held):
            continue
        equal = event.quantities.get(symbol, 0) == work.state.ledger.positions.get(symbol, 0)
        work.core.doubts[client_id].position_at = event.asked_at if equal else 0
        if equal:
            conclude(work, held)
        else:
            work.ask_trades(symbol, held.sent_at - OVERLAP)


def funding_paid(work: Work, event: FundingPaid) -> None:
    """Book a funding payment once, and none from before the ledger began: its positions are not known."""
    if event.time < (work.state.begun_at or work.now) - OVERLAP:
        return
    if not work.state.ledger.has_payment(event.symbol, event.time):
        work.record(
            records.FundingBooked(
                at=work.now, symbol=event.symbol, time=event.time, amount=event.amount
            )
        )


def horizon(work: Work, held: OrderState) -> int:
    """Return from when on an answer "there is no such order" means something."""
    return held.sent_at + held.recv_window + work.core.timing.settling


def conclude(work: Work, held: OrderState) -> None:
    """Conclude `not_placed` once query, trades and position all show nothing after the horizon."""
    doubt = work.core.doubts[held.order.client_id]
    if not (doubt.missing_at and doubt.trades_at and doubt.position_at):
        return
    if _foreign_fills(work, held):
        return
    reason = f"{held.reason}; no order, trade or position at the venue".lstrip("; ")
    work.change(held, Status.NOT_PLACED, reason=reason)


def _foreign_fills(work: Work, held: OrderState) -> bool:
    """Return whether a trade since the order was sent may be the order's: no one knows whose it is.

    A trade whose client id is known is another's. Taking that for a doubt left orders unknown for good, and
    with these the symbol's orphan stops.
    """
    return any(
        key[0] == held.order.symbol and time >= held.sent_at - OVERLAP
        for key, time in work.state.foreign.items()
        if key not in work.state.named
    )


def _unknown(work: Work, symbol: str) -> list[OrderState]:
    found = [work.state.orders[client_id] for client_id in work.state.live]
    return [each for each in found if each.order.symbol == symbol and each.status is Status.UNKNOWN]


def ask_soon(work: Work, client_id: str) -> None:
    """Have the next question about an order asked after the first wait."""
    doubt = work.core.doubts.setdefault(client_id, Doubt(work.now))
    doubt.next_question = doubt.next_evidence = work.now + work.core.timing.first_question
    doubt.questions = 0


def ask_about(work: Work, held: OrderState) -> None:
    """Ask the venue about an unsettled order, and put off the next question.

    Trades and positions are asked for with it, at growing intervals; the order itself, which costs a tenth of
    these, more often if it may be an entry that waits for its stop.
    """
    client_id, symbol = held.order.client_id, held.order.symbol
    timing, doubt = work.core.timing, work.core.doubts[client_id]
    if held.status is Status.SENDING:
        work.change(held, Status.UNKNOWN, reason="no answer")
    everything = work.now >= doubt.next_evidence
    if everything:
        wait = min(timing.first_question << min(doubt.questions, 16), timing.longest_question)
        doubt.questions += 1
        doubt.next_evidence = work.now + wait
    doubt.next_question = doubt.next_evidence
    if held.order.stop_part:
        doubt.next_question = min(doubt.next_question, work.now + timing.repeat)
    window_end = held.sent_at + held.recv_window
    if held.order.conditional and work.now < window_end < doubt.next_question:
        # From then on a stop that the venue does not have is sent anew: the position has none meanwhile.
        doubt.next_question = window_end
    if held.cancel_sent and held.status in UNSETTLED:
        # The gateway may have ended between the cancel's record and its request; a cancel may be repeated.
        work.effect(SendCancel(client_id, symbol, held.order.conditional))
    work.effect(AskOrder(client_id, symbol, held.order.conditional))
    if not everything:
        return
    if held.status is Status.UNKNOWN or held.reported > held.booked:
        work.ask_trades(symbol, held.sent_at - OVERLAP)
    if held.status is Status.UNKNOWN:
        work.ask_positions()
