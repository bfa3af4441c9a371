"""The trader: candidates become decisions, and decisions become orders. It knows neither Kafka nor gRPC; the
process around it is services/trader.py.

Every step may be repeated after a crash: a decision is fixed once, an order's id follows from its decision,
and the state comes from the newest checkpoint and from the gateway's records after it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline_assets.errors import DataError
from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.fill_formulas import FillFormulas
from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.market.position_view import book_funding
from pipeline_assets.market.step_tables import from_minute, to_minute
from pipeline_assets.trading import decisions as reasons
from pipeline_assets.trading.decider import AUTHOR, PassThroughDecider
from pipeline_assets.trading.decisions import (
    Decision,
    MinuteDecisions,
    MinuteIntents,
    decided,
)
from pipeline_assets.trading.gateway_client import GatewayClient
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets.trading.records import AnyRecord, FundingBooked
from pipeline_assets.trading.trader_orders import TraderOrders
from pipeline_assets.trading.trader_store import Checkpoint, SecondTraderError, TraderStore
from pipeline_assets.trading.trades import Trade


@dataclass
class Trader:
    """One account's trader. Its calls come one after another, never at once.

    Attributes:
        decider: judges candidates; its keeper has the positions by the rules.
        formulas: prices of stops and targets, by symbol.
        gateway: where orders go.
        store: decisions, intents and checkpoint.
        publish: sends decisions to the topic; returns once these are acknowledged.
        clock: the exchange's time in milliseconds.
        on_closed: is called with every trade that has ended.
        warn: takes what a person should know.
    """

    decider: PassThroughDecider
    formulas: Mapping[str, FillFormulas]
    gateway: GatewayClient
    store: TraderStore
    publish: Callable[[Sequence[Decision]], object]
    clock: Callable[[], int]
    on_closed: Callable[[Trade], object] = lambda _: None
    warn: Callable[[str], object] = lambda _: None
    _minute: int = field(init=False, default=-1)
    _sequence: int = field(init=False, default=0)
    _waiting: dict[str, tuple[Candidate, int, int]] = field(init=False, default_factory=dict)
    _next: dict[int, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Begin without trades."""
        self._orders = TraderOrders(
            self.decider.keeper, self.formulas, self.gateway, self.clock, self.on_closed, self.warn
        )

    @property
    def minute(self) -> int:
        """The newest minute that was traded; -1 before the first."""
        return self._minute

    @property
    def sequence(self) -> int:
        """The newest record of the gateway that was taken in."""
        return self._sequence

    @property
    def offsets(self) -> dict[int, int]:
        """By Kafka partition, the first message without a decision."""
        found = dict(self._next)
        for _, partition, offset in self._waiting.values():
            found[partition] = min(found.get(partition, offset), offset)
        return found

    def restore(self) -> Checkpoint | None:
        """Continue from the newest checkpoint; return it, or None before the first.

        A checkpoint of other strategies, symbols or rules begins with new positions if no trade is open.

        Raises:
            DataError: a trade is open under other strategies, symbols or rules.
        """
        found = self.store.checkpoint()
        if found is None:
            return None
        self._minute, self._sequence = found.minute, found.sequence
        self._next = dict(found.offsets)
        self._orders.trades = {each.entry_id: each for each in found.trades}
        try:
            self.decider.keeper.restore(found.keeper)
        except DataError as error:
            if found.trades:
                raise
            self.warn(f"The positions begin anew, with no trade open: {error}")
        return found

    def take(self, candidate: Candidate, partition: int = 0, offset: int = 0) -> None:
        """Take a candidate in; it is decided about with its minute, or with the next one if that is over."""
        self._next[partition] = max(self._next.get(partition, 0), offset + 1)
        self._waiting.setdefault(candidate.id, (candidate, partition, offset))

    async def on_record(self, sequence: int, record: AnyRecord | None) -> None:
        """Take one of the gateway's records in: fills are protected, and ended trades are cleaned up."""
        if isinstance(record, FundingBooked):
            book_funding(self.decider.keeper, record.amount)
        elif record is not None:
            await self._orders.on_record(record)
        self._sequence = sequence

    async def on_minute(self, minute: int, bars: Mapping[str, Bar]) -> None:
        """Trade a closed minute, counted from 1970: decide, fix, publish, send orders, keep a checkpoint.

        Args:
            minute: one that was traded already changes nothing.
            bars: its candles; a symbol without one has a gap.

        Raises:
            SecondTraderError: another trader decided about this minute meanwhile.
            OutsideSystemError: a part did not answer; repeat after a new start from the checkpoint.
        """
        if minute <= self._minute:
            return
        late, due = self._due(minute)
        self._decide_late(late)
        fixed = self._decided(minute, bars, due)
        decided_ids = {each.candidate.id for each in fixed}
        # After a crash a candidate may have come that the fixed decisions do not know.
        self._decide_late([each for each in due if each.id not in decided_ids])
        # A market order that leaves now is filled at the open that the backtest assumes.
        in_time = self.clock() < (minute + 2) * MINUTE
        accepted = [each for each in fixed if each.verdict == "accept"]
        intents = await self._orders.on_minute(minute, accepted, in_time=in_time)
        if fixed:
            self.publish(fixed)
        if intents:
            self.store.note_intents(minute, MinuteIntents(intents=tuple(intents)))
        self._minute = minute
        for each in (*late, *due):
            self._waiting.pop(each.id, None)
        self._keep()

    def _keep(self) -> None:
        self.store.keep(
            Checkpoint(
                minute=self._minute,
                sequence=self._sequence,
                keeper=self.decider.keeper.encode(),
                trades=list(self._orders.trades.values()),
                offsets=self.offsets,
            )
        )

    def _due(self, minute: int) -> tuple[list[Candidate], list[Candidate]]:
        """Return the candidates of earlier minutes, and those of this one."""
        held = [candidate for candidate, _, _ in self._waiting.values()]
        late = [each for each in held if to_minute(each.open_time) < minute]
        return late, [each for each in held if to_minute(each.open_time) == minute]

    def _decided(
        self, minute: int, bars: Mapping[str, Bar], candidates: Iterable[Candidate]
    ) -> tuple[Decision, ...]:
        """Return the decisions of a minute: those fixed before a crash, or new ones, fixed now."""
        standing = self.store.decisions(minute)
        if standing is not None:
            self._follow(minute, bars, standing)
            return standing.decisions
        now = from_milliseconds(self.clock())
        stale = self.clock() >= (minute + 2) * MINUTE
        found = self.decider.decide(minute, bars, candidates, {}, now, stale=stale)
        if not found:
            return ()
        fixed = self.store.fix(minute, MinuteDecisions(decisions=tuple(found)))
        if fixed.decisions != tuple(found):
            raise SecondTraderError(
                f"Another trader decided about the minute {from_minute(minute)}: stop one of the two."
            )
        return fixed.decisions

    def _follow(self, minute: int, bars: Mapping[str, Bar], standing: MinuteDecisions) -> None:
        """Move the positions on by decisions that stand; a difference is said, since these stay."""
        judged = [
            each
            for each in standing.decisions
            if each.reason != reasons.STALE and not self.decider.refusal(each.candidate, bars)
        ]
        outcomes = self.decider.advance(minute, bars, [each.candidate for each in judged], {})
        for each in judged:
            name = f"{each.candidate.strategy} {each.candidate.version}", each.symbol
            if outcomes.get(name, "") != each.reason:
                self.warn(
                    f"Decision {each.id} stands as {each.verdict} {each.reason}; by the candles of now "
                    f"the rules say {outcomes.get(name, 'accepted')!r}."
                )

    def _decide_late(self, late: Iterable[Candidate]) -> None:
        """Decline the candidates of minutes that are over, unless these are decided about."""
        for each in late:
            minute = to_minute(each.open_time)
            # An empty document closes the minute: no trader can fix decisions of all its candidates any more.
            standing = self.store.fix(minute, MinuteDecisions(decisions=()))
            if standing.of(each.id) is None:
                now = from_milliseconds(self.clock())
                (declined,) = decided([each], reasons.STALE, AUTHOR, now)
                only = self.store.fix(minute, MinuteDecisions(decisions=(declined,)), each.id)
                self.publish(only.decisions)
