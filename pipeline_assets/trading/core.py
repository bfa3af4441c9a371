"""The gateway's core: a state machine without I/O. (state, event, time) gives records and effects.

The caller stores the records of a step durably before carrying out its effects, and stops if that
fails. The simulator of the tests and services/gateway run this same class.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pipeline_assets.market.trading_rules import TradingRules, decimal
from pipeline_assets.trading import (
    closing,
    foreign,
    placing,
    protecting,
    reconciling,
    records,
    resolving,
    stop_orders,
    troubles,
)
from pipeline_assets.trading.invariants import InvariantError
from pipeline_assets.trading.limits import RiskLimits
from pipeline_assets.trading.messages import (
    Accepted,
    BindVenue,
    Cancel,
    CancelAnswered,
    Close,
    Event,
    FillSeen,
    FiltersRead,
    Flatten,
    FundingPaid,
    OpenOrdersRead,
    OrderCounts,
    OrderMissing,
    OrderSeen,
    Paused,
    Place,
    PositionsRead,
    PriceSeen,
    QuestionFailed,
    Refused,
    Restarted,
    ResumeSymbol,
    SetMode,
    StreamConnected,
    Timer,
    TradesRead,
    Unanswered,
    VenueTrouble,
)
from pipeline_assets.trading.order_types import Mode, Status
from pipeline_assets.trading.state import GatewayState
from pipeline_assets.trading.work import Core, Timing, Work

_DAY = 86_400_000


class GatewayCore:
    """Decides; its caller stores and acts."""

    def __init__(
        self,
        limits: RiskLimits,
        rules: Mapping[str, TradingRules],
        timing: Timing | None = None,
        stored: Iterable[records.AnyRecord] = (),
    ) -> None:
        """Begin from the records that the journal holds, in order.

        Raises:
            InvariantError: the records contradict each other.
        """
        self._core = Core(limits, rules, timing or Timing())
        for record in stored:
            self._core.apply(record)
            if isinstance(record, records.OrderSending):
                self._core.rate.count(record.at)
        self._core.invariants.restart(self._core.state)

    @property
    def state(self) -> GatewayState:
        """The state, to read."""
        return self._core.state

    def handle(self, event: Event, now: int) -> Work:
        """Return the records to store and the effects to carry out after that.

        Args:
            event: what happened.
            now: the exchange's time in milliseconds.

        Raises:
            InvariantError: a promise is broken; nothing of the step may be carried out.
        """
        work = Work(self._core, now)
        self._core.rate.see_time(now)
        _begin_day(work)
        _HANDLERS[type(event)](work, event)
        protecting.check(work)
        _begin_day(work)
        _limit_loss(work)
        return work

    def halt(self, error: InvariantError, now: int) -> Work:
        """Halt after a broken promise: only cancels and closes are accepted from here on."""
        work = Work(self._core, now)
        work.set_mode(Mode.HALTED, f"broken promise: {error}", "gateway")
        work.alarm(f"The gateway halted: {error}.")
        return work


def _begin_day(work: Work) -> None:
    """Begin the day's loss at 00:00 UTC, or anew after a person resumed, once it can be known."""
    day = max(work.now // _DAY, work.state.day)
    if (day > work.state.day or work.state.day_due) and not work.state.unpriced():
        work.record(records.DayBegun(at=work.now, day=day, result=work.state.result()))


def _limit_loss(work: Work) -> None:
    """Accept only what reduces once the day's loss is too large."""
    if work.state.mode is not Mode.ACTIVE or work.state.unpriced():
        return
    loss = work.state.day_result - work.state.result()
    if loss >= work.core.limits.daily_loss:
        work.set_mode(Mode.REDUCING, f"the loss since 00:00 UTC is {decimal(loss)}", "daily_loss")
        work.alarm(f"The day's loss reached its limit: {decimal(loss)}.")


def _price_seen(work: Work, event: PriceSeen) -> None:
    work.state.see_price(event)


def _order_counts(work: Work, event: OrderCounts) -> None:
    rate = work.core.rate
    rate.venue_ten_seconds, rate.venue_minute = event.ten_seconds, event.minute
    rate.venue_at = work.now


def _timer(work: Work, _: Timer) -> None:
    """Ask about every order whose next question is due."""
    for client_id in list(work.state.live):
        doubt = work.core.doubts.get(client_id)
        if doubt is None:
            resolving.ask_soon(work, client_id)
        elif doubt.next_question <= work.now:
            resolving.ask_about(work, work.state.orders[client_id])
    closing.ask(work)
    reconciling.ask(work)
    protecting.cancel_orphans(work)
    stop_orders.cancel_surplus(work)
    stop_orders.ask(work)
    protecting.send_blocked(work)
    foreign.check(work)
    troubles.check(work)


def _restarted(work: Work, _: Restarted) -> None:
    """Doubt what was being sent, and ask about everything that is not settled."""
    for client_id in list(work.state.live):
        held = work.state.orders[client_id]
        if held.status is Status.SENDING:
            work.change(held, Status.UNKNOWN, reason="the gateway ended before an answer came")
        resolving.ask_soon(work, client_id)
        resolving.ask_about(work, held)
    work.core.stops.start(work.state, work.now)
    closing.ask(work)
    foreign.begin(work)
    reconciling.begin(work)


def _paused(work: Work, _: Paused) -> None:
    work.core.stops.pause(work.now)


def _stream_connected(work: Work, _: StreamConnected) -> None:
    reconciling.begin(work)


def _open_orders_read(work: Work, event: OpenOrdersRead) -> None:
    troubles.answered(work, event.asked_at)
    resolving.open_orders_read(work, event)
    foreign.open_orders_read(work, event)
    work.core.stops.read_at = max(work.core.stops.read_at, event.asked_at)


def _refused(work: Work, event: Refused) -> None:
    resolving.refused(work, event)
    closing.refused(work, event)
    protecting.refused(work, event)
    stop_orders.refused(work, event)


def _positions_read(work: Work, event: PositionsRead) -> None:
    troubles.answered(work, event.asked_at)
    work.core.unanswered_since = 0
    resolving.positions_read(work, event)
    reconciling.positions_read(work, event)
    closing.positions_read(work, event)


_HANDLERS: dict[type, Callable[[Work, Any], None]] = {
    Place: placing.place,
    Cancel: placing.cancel,
    Close: placing.close,
    SetMode: placing.set_mode,
    BindVenue: placing.bind_venue,
    ResumeSymbol: foreign.resume,
    Flatten: placing.flatten,
    Accepted: resolving.accepted,
    Refused: _refused,
    Unanswered: resolving.unanswered,
    CancelAnswered: resolving.cancel_answered,
    OrderSeen: resolving.order_seen,
    OrderMissing: resolving.order_missing,
    FillSeen: resolving.fill_seen,
    TradesRead: reconciling.trades_read,
    PositionsRead: _positions_read,
    OpenOrdersRead: _open_orders_read,
    FiltersRead: stop_orders.filters_read,
    StreamConnected: _stream_connected,
    VenueTrouble: troubles.reported,
    QuestionFailed: troubles.question_failed,
    FundingPaid: resolving.funding_paid,
    PriceSeen: _price_seen,
    OrderCounts: _order_counts,
    Timer: _timer,
    Paused: _paused,
    Restarted: _restarted,
}
