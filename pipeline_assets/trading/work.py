"""One step of the core under way: the state, the time, and what the step has decided so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline_assets.market.trading_rules import TradingRules
from pipeline_assets.trading import records
from pipeline_assets.trading.invariants import Invariants
from pipeline_assets.trading.limits import OrderRate, RiskLimits
from pipeline_assets.trading.messages import (
    Alarm,
    AskFilters,
    AskOpenOrders,
    AskOrder,
    AskPositions,
    AskTrades,
    Effect,
    Refusal,
    Reply,
    Send,
    SendCancel,
)
from pipeline_assets.trading.order_state import OrderState
from pipeline_assets.trading.order_types import Mode, Order, Status
from pipeline_assets.trading.state import GatewayState
from pipeline_assets.trading.stop_watch import StopWatch


@dataclass(frozen=True)
class Timing:
    """How the core treats a venue; how long it waits, in milliseconds.

    Attributes:
        recv_window: how long after its timestamp the venue may accept an order.
        settling: how long after that the venue may still not show an order that it has. "Not placed" is
            concluded no earlier.
        first_question: the wait before an unknown order is asked for; doubled each time.
        longest_question: the longest wait between two questions.
        reconcile: how often ledger and venue are compared.
        answer: how long an order may stay `sending` without any answer.
        close_retry: how long a close waits for its order, before a new reading of the position sends another.
        stop: how long a position whose entry has a stop may be without a confirmed one.
        stop_grace: how long a process that learns of such a position gives its stop at least.
        silence: how long the venue may leave a reading unanswered before entries are refused.
        repeat: the wait before an unanswered reading is repeated.
        halts_after_liquidation: whether a liquidation halts its symbol's entries; on paper it is a fill like
            those of backtests.
    """

    recv_window: int = 5_000
    settling: int = 180_000
    first_question: int = 1_000
    longest_question: int = 30_000
    answer: int = 30_000
    reconcile: int = 60_000
    # An exchange matches a market order at once: after this, the answer or the fills are missing.
    close_retry: int = 5_000
    stop: int = 10_000
    stop_grace: int = 5_000
    silence: int = 30_000
    repeat: int = 5_000
    halts_after_liquidation: bool = True

    @property
    def grace(self) -> int:
        """The grace of stops, which is never longer than the time that the settings allow."""
        return min(self.stop_grace, self.stop)


@dataclass(slots=True)
class Doubt:
    """The questions asked about an unsettled order, and the evidence that the venue does not have it.

    The order itself is asked for next at the first time, its trades and the positions at the second. Each
    other time is when the question was asked, 0 without such an answer. `unseen_at` counts early ones, too.
    """

    next_question: int
    next_evidence: int = 0
    questions: int = 0
    missing_at: int = 0
    trades_at: int = 0
    position_at: int = 0
    unseen_at: int = 0


@dataclass(slots=True)
class Difference:
    """A symbol whose position at the venue is not the ledger's.

    Attributes:
        quantity: what the venue has more, in 1e-8.
        since: when this difference was first read.
        read_at: when the newest reading that shows a difference was asked for.
        readings: how often trades were read for it, each time from an earlier time on.
        next_reading: when trades are read again, at the earliest.
        trades_at: when the newest answered reading of trades was asked for.
        halted: whether the symbol's entries were halted for this difference.
    """

    quantity: int
    since: int
    read_at: int
    readings: int = 0
    next_reading: int = 0
    trades_at: int = 0
    halted: bool = False


@dataclass
class Core:
    """Everything that lives as long as the gateway: the state, and what is not stored.

    Attributes:
        differences: by symbol, where ledger and venue differ.
        agreed_at: by symbol, the newest reading of the positions that equals the ledger.
        booked_at: by symbol, when the newest fill was booked; older readings of the positions mean nothing.
        positions_asked: when positions were last asked for.
        ended_asked: when orders that ended unfilled were last asked for.
        open_orders_asked: when open orders were last asked for.
        unanswered_since: when the first reading of the positions was asked that has no answer; 0 without.
        silence_alarmed: whether a person knows of this silence.
        trouble_at: when each kind of trouble was last reported.
        trouble_ended: when the newest trouble ended; 0 before.
        failures: questions that failed though no trouble is known, as texts, with the time of the first.
        stops: the clock of positions without a confirmed stop.
        largest: by symbol, the largest market order as the venue said last.
        filters_asked: when the venue's filters were last asked for.
        foreign_seen: the venue's ids of foreign orders, and of its own, that were alerted.
        foreign_events: by the venue's id, when a foreign order was last reported by itself, and whether it
            had ended; kept until a list that was asked for later has come.
        foreign_fills: by symbol and the venue's order id, when a trade of no known order was booked.
        blocked: by client id, reduce-only orders that resting ones blocked, with the ids of these, which are
            being cancelled. Each is sent again once, unless its position has ended.
    """

    limits: RiskLimits
    rules: Mapping[str, TradingRules] = field(default_factory=dict)
    timing: Timing = field(default_factory=Timing)
    state: GatewayState = field(default_factory=GatewayState)
    rate: OrderRate = field(default_factory=OrderRate)
    doubts: dict[str, Doubt] = field(default_factory=dict)
    differences: dict[str, Difference] = field(default_factory=dict)
    agreed_at: dict[str, int] = field(default_factory=dict)
    booked_at: dict[str, int] = field(default_factory=dict)
    positions_asked: int = 0
    ended_asked: int = 0
    open_orders_asked: int = 0
    unanswered_since: int = 0
    silence_alarmed: bool = False
    trouble_at: dict[str, int] = field(default_factory=dict)
    trouble_ended: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    stops: StopWatch = field(default_factory=StopWatch)
    largest: dict[str, int] = field(default_factory=dict)
    filters_asked: int = 0
    foreign_seen: set[str] = field(default_factory=set)
    foreign_events: dict[str, tuple[int, bool]] = field(default_factory=dict)
    foreign_fills: dict[tuple[str, str], int] = field(default_factory=dict)
    blocked: dict[str, tuple[str, ...]] = field(default_factory=dict)
    invariants: Invariants = field(default_factory=Invariants)

    def apply(self, record: records.AnyRecord) -> None:
        """Change the state as a record says, and whatever else follows from the journal."""
        self.state.apply(record)
        self.stops.note(self.state, record)
        if isinstance(record, records.FillBooked):
            self._drop_blocked(record.fill.symbol)

    def _drop_blocked(self, symbol: str) -> None:
        """Forget the blocked orders whose position has ended or turned.

        One step can book the end of a position and the next position, so every fill is looked at. An order
        that was kept closed the next position of its symbol minutes later.
        """
        position = self.state.ledger.positions.get(symbol, 0)
        for client_id in list(self.blocked):
            order = self.state.orders[client_id].order
            if order.symbol == symbol and position * order.signed >= 0:
                del self.blocked[client_id]


@dataclass
class Work:
    """One step. Records change the state at once; effects wait until the records are durable."""

    core: Core
    now: int
    recorded: list[records.AnyRecord] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    _positions_asked: bool = False
    _trades_asked: dict[str, int] = field(default_factory=dict)

    @property
    def state(self) -> GatewayState:
        """The gateway's state."""
        return self.core.state

    def record(self, record: records.AnyRecord) -> None:
        """Change the state, and have the change stored."""
        self.recorded.append(record)
        self.core.apply(record)

    def effect(self, effect: Effect) -> None:
        """Have something done after this step's records are durable."""
        self.effects.append(effect)

    def is_due(self, asked: int, wait: int) -> bool:
        """Return whether a wait since a question is over; a clock that was set back ends it too."""
        return not 0 <= self.now - asked < wait

    def ask_positions(self) -> None:
        """Read all positions, once a step however many orders need this."""
        if not self._positions_asked:
            self._positions_asked = True
            self.core.positions_asked = self.now
            self.core.unanswered_since = self.core.unanswered_since or self.now
            self.effects.append(AskPositions())

    def ask_open_orders(self) -> None:
        """Read all open orders."""
        self.core.open_orders_asked = self.now
        self.effects.append(AskOpenOrders())

    def ask_filters(self) -> None:
        """Read the venue's filters."""
        self.core.filters_asked = self.now
        self.effects.append(AskFilters())

    def ask_trades(self, symbol: str, since: int) -> None:
        """Read the trades of a symbol from a time on; the earliest time of a step serves all its orders."""
        before = self._trades_asked.get(symbol)
        if before is not None:
            since = min(since, before)
            self.effects.remove(AskTrades(symbol, before))
        self._trades_asked[symbol] = since
        self.effects.append(AskTrades(symbol, since))

    def alarm(self, message: str) -> None:
        """Tell a person."""
        self.effects.append(Alarm(message))

    def reply(self, request: int, subject: str, refusal: Refusal | None = None) -> None:
        """Answer a caller; request 0 has no caller."""
        if request:
            self.effects.append(Reply(request, subject, refusal))

    def send(self, order: Order) -> None:
        """Journal an order as `sending` and send it: the only place that does.

        Raises:
            InvariantError: the order's id was used before.
        """
        self.core.invariants.before_send(order, self.state)
        window = self.core.timing.recv_window
        self.record(records.OrderSending(at=self.now, order=order, recv_window=window))
        self.core.rate.count(self.now)
        self.core.doubts[order.client_id] = Doubt(self.now + self.core.timing.answer)
        self.effects.append(Send(order, self.now, window))

    def change(
        self,
        held: OrderState,
        status: Status,
        *,
        venue_id: str = "",
        reported: int | None = None,
        reason: str = "",
        triggered_id: str = "",
    ) -> None:
        """Record a change of an order; an id or a quantity that is not given stays as it is."""
        self.record(
            records.OrderChanged(
                at=self.now,
                client_id=held.order.client_id,
                status=status,
                venue_id=venue_id or held.venue_id,
                reported=held.reported if reported is None else reported,
                reason=reason,
                triggered_id=triggered_id or held.triggered_id,
            )
        )
        if not held.unsettled:
            self.core.doubts.pop(held.order.client_id, None)

    def set_mode(self, mode: Mode, reason: str, by: str) -> None:
        """Record that the gateway accepts something else from here on."""
        self.record(records.ModeSet(at=self.now, mode=mode, reason=reason, by=by))

    def cancel(self, held: OrderState) -> None:
        """Record that an order is being cancelled, ask the venue to, and ask what became of the order."""
        order = held.order
        if not held.cancel_sent:
            self.record(records.CancelSending(at=self.now, client_id=order.client_id))
        self.effect(SendCancel(order.client_id, order.symbol, order.conditional))
        self.effect(AskOrder(order.client_id, order.symbol, order.conditional))

    def halt_symbol(self, symbol: str, reason: str) -> None:
        """Record that entries of a symbol are refused from here on, and tell a person."""
        if symbol not in self.state.halts:
            self.record(records.SymbolHalted(at=self.now, symbol=symbol, reason=reason))
        self.alarm(
            f"{reason}. Entries of {symbol} are refused until a person resumes the symbol: "
            f"`pipeline-assets gateway resume --symbol {symbol}`."
        )
