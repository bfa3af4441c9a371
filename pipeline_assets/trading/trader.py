"""The trader: candidates become decisions, and decisions become orders. It knows neither Kafka nor gRPC; the
process around it is services/trader.py.

Every step may be repeated after a crash: a decision is fixed once, an order's id follows from its decision,
and the state comes from the newest checkpoint and from the gateway's records after it. Decisions come from
own_decisions.py or awaited_decisions.py.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline_assets.errors import DataError
from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.fill_formulas import FillFormulas
from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.market.position_view import book_funding
from pipeline_assets.market.step_tables import to_minute
from pipeline_assets.trading.awaited_decisions import AwaitedDecisions
from pipeline_assets.trading.decider import PassThroughDecider
from pipeline_assets.trading.decisions import Decision, MinuteIntents
from pipeline_assets.trading.gateway_client import GatewayClient
from pipeline_assets.trading.minute_outcome import DecisionSource
from pipeline_assets.trading.own_decisions import OwnDecisions
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets.trading.records import FundingBooked, Record
from pipeline_assets.trading.restored_trades import read_trades, warn_of_differences
from pipeline_assets.trading.trader_orders import TraderOrders
from pipeline_assets.trading.trader_store import Checkpoint, TraderStore
from pipeline_assets.trading.trades import Trade
from pipeline_assets.wording import counted

# A candidate is never ahead of the clock. One that is by more minutes would hold back the place in the topic.
_MOST_AHEAD = 5


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
        awaited_ms: the inference service decides; its decisions are awaited until this time after a
            minute's close. None: the trader decides by itself.
        note: takes what is expected and worth a line in the log.
    """

    decider: PassThroughDecider
    formulas: Mapping[str, FillFormulas]
    gateway: GatewayClient
    store: TraderStore
    publish: Callable[[Sequence[Decision]], object]
    clock: Callable[[], int]
    on_closed: Callable[[Trade], object] = lambda _: None
    warn: Callable[[str], object] = lambda _: None
    awaited_ms: int | None = None
    note: Callable[[str], object] = lambda _: None
    _minute: int = field(init=False, default=-1)
    _sequence: int = field(init=False, default=0)
    _at: int = field(init=False, default=0)
    _waiting: dict[str, tuple[Candidate, int, int]] = field(init=False, default_factory=dict)
    _next: dict[int, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Begin without trades."""
        self._orders = TraderOrders(
            self.decider.keeper,
            self.formulas,
            self.gateway,
            self.clock,
            self.on_closed,
            self.warn,
            self.note,
        )
        self._source: DecisionSource = (
            OwnDecisions(self.decider, self.store, self.publish, self.clock, self.warn)
            if self.awaited_ms is None
            else AwaitedDecisions(self.decider, self.store, self.clock, self.warn)
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

    def restore(self, held: Mapping[str, int], open_orders: Collection[str]) -> Checkpoint | None:
        """Continue from the newest checkpoint; return it, or None before the first.

        A checkpoint of other strategies, symbols or rules begins with new positions if no trade is open.

        Args:
            held: the account's positions by symbol, in 1e-8, negative for a short, read after `open_orders`.
            open_orders: client ids of the account's orders that are not at an end.

        Raises:
            DataError: a trade is open under other strategies, symbols or rules.
        """
        found = self.store.checkpoint()
        if found is None:
            return None
        self._minute, self._sequence, self._at = found.minute, found.sequence, found.at
        self._next = dict(found.offsets)
        self._orders.trades = {each.entry_id: each for each in found.trades}
        try:
            self.decider.keeper.restore(found.keeper)
        except DataError as error:
            # A trade without a position ends at the next minutes, whatever its rules were. The checkpoint may
            # not know yet how its entry ended: the account does.
            symbols = {
                each.symbol
                for each in found.trades
                if each.entry_id in open_orders or each.sign * held.get(each.symbol, 0) > 0
            }
            if symbols:
                raise DataError(
                    f"{error} Trades are open in {', '.join(sorted(symbols))}: undo the change, or "
                    "close them by `pipeline-assets gateway flatten`."
                ) from error
            self.warn(f"The positions begin anew, since none is open: {error}")
        return found

    async def align(self) -> None:
        """Read the gateway's journal from its beginning unless the checkpoint's place is in it.

        The place is missing if the journal was restored from a backup, or without a checkpoint. Nothing is
        sent while the past is read; then every position of this trader is protected. Call after `restore`.

        Raises:
            OutsideSystemError: the gateway does not answer; repeat after a new start from the checkpoint.
        """
        if self._sequence and await self.gateway.has_record(self._sequence, self._at):
            return
        last = await self.gateway.last_record()
        if self._sequence:
            self.warn(
                f"Record {self._sequence} of the checkpoint is not in the gateway's journal, which has "
                f"{last} records: it was restored from a backup. The trades are read from it again; compare "
                "the positions with the exchange."
            )
        before, read = self._orders.trades, await read_trades(self._orders, last)
        self._orders.trades, self._sequence, self._at = read.open, last, read.at
        await self._orders.protect_again(self.clock() // MINUTE)
        await warn_of_differences(before, read, self.gateway, self.warn)

    def begin_at(self, places: Mapping[int, int]) -> None:
        """Keep the places where reading begins, by partition.

        A partition without one would begin at its end after a restart, and pass over what came meanwhile.
        """
        for partition, offset in places.items():
            self._next.setdefault(partition, offset)

    def take(self, candidate: Candidate, partition: int = 0, offset: int = 0) -> None:
        """Take a candidate in; it is decided about with its minute, or with the next one if that is over."""
        self._next[partition] = max(self._next.get(partition, 0), offset + 1)
        self._waiting.setdefault(candidate.id, (candidate, partition, offset))

    def awaits(self, minute: int) -> bool:
        """Return whether a decision of a minute may still come in time; `on_minute` waits for none."""
        if self.clock() >= (minute + 1) * MINUTE + (self.awaited_ms or 0):
            return False
        return not self._source.is_complete(self._due(minute)[1])

    async def on_record(self, sequence: int, record: Record) -> None:
        """Take one of the gateway's records in: fills are protected, and ended trades are cleaned up."""
        if isinstance(record, FundingBooked):
            book_funding(self.decider.keeper, record.amount)
        else:
            await self._orders.on_record(record)
        self._sequence, self._at = sequence, record.at

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
        settled = self._source.settle(minute, late)
        outcome = self._source.decide(minute, bars, due)
        # A market order that leaves now is filled at the open that the backtest assumes.
        in_time = self.clock() < (minute + 2) * MINUTE
        sent = await self._orders.on_minute(minute, outcome.accepted, in_time=in_time)
        if outcome.unpublished:
            self.publish(outcome.unpublished)
        intents = (*sent, *outcome.skipped)
        if intents:
            self.store.note_intents(minute, MinuteIntents(intents=intents))
        self._minute = minute
        for each in settled | outcome.settled:
            self._waiting.pop(each, None)
        self._leave_out_early()
        self._keep()

    def _leave_out_early(self) -> None:
        """Forget candidates of candles that open minutes from now; the inference service declined these."""
        latest = self.clock() // MINUTE + _MOST_AHEAD
        early = [
            key
            for key, (candidate, _, _) in self._waiting.items()
            if to_minute(candidate.open_time) > latest
        ]
        for each in early:
            self._waiting.pop(each)
        if early:
            self.warn(
                f"Left out, since the candle opens more than {_MOST_AHEAD} minutes from now: "
                f"{counted(len(early), 'candidate')}. Find out what else writes to the topic."
            )

    def _keep(self) -> None:
        self.store.keep(
            Checkpoint(
                minute=self._minute,
                sequence=self._sequence,
                at=self._at,
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
