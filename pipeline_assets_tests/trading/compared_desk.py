"""One account of the comparison: trader, gateway and a venue, through the same minutes in stepped time. No
tests here.

A step is two seconds, and begins when nothing is under way: a request that time overtakes is refused by its
window, and two runs would differ.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pipeline_assets.errors import PipelineError
from pipeline_assets.market.fill_formulas import formulas_of
from pipeline_assets.market.position_keeper import PositionKeeper
from pipeline_assets.market.step_tables import FillModel
from pipeline_assets.market.trading_rules import Fees, units
from pipeline_assets.trading import messages
from pipeline_assets.trading.core import GatewayCore
from pipeline_assets.trading.decider import PassThroughDecider
from pipeline_assets.trading.decisions import EARLIER_TRADE_OPEN, Decision
from pipeline_assets.trading.gateway import Gateway
from pipeline_assets.trading.gateway_client import LocalGateway
from pipeline_assets.trading.order_ids import entry_id
from pipeline_assets.trading.order_types import Fill, Order, Status
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets.trading.records import (
    GATEWAY_RECORDS,
    FundingBooked,
    OrderChanged,
    OrderSending,
)
from pipeline_assets.trading.trader import Trader
from pipeline_assets_tests.trading.compared_market import SYMBOLS, Market
from pipeline_assets_tests.trading.compared_plan import STRATEGIES, TRADED, Plan
from pipeline_assets_tests.trading.compared_venues import ComparedVenue
from pipeline_assets_tests.trading.paper_world import WIDE, Deaths, MemoryJournal, MemoryStore

STEP = 2_000
# After a minute's close, as the processes do it: candles are stored, the range is matched ten seconds later,
# and the trader decides.
_STORED, _MATCHED, _DECIDED = 15_000, 25_000, 27_000
_BY_HAND = 41_000
_LONGEST_REAL_SECONDS = 60.0
# Work in this process is done within a few rounds of the event loop; answers of another process take longer.
_ROUNDS, _REAL_PAUSE = 5, 0.0002


class UnsettledError(PipelineError):
    """Something was under way for too long in real time. The message names it."""


@dataclass
class Course:
    """All that an account did.

    Attributes:
        venue: its name.
        orders: by client id.
        sent_at: by client id, in milliseconds.
        reasons: why the venue ended an order that was refused, by client id.
        fills: in the order of booking.
        payments: funding by symbol and time.
        cash: what fills and payments changed, by the ledger.
        decisions: about each candidate, by decision id.
        held_back: client ids of entries that were not sent, since an earlier trade was open.
        warnings: of gateway and trader.
    """

    venue: str
    orders: dict[str, Order] = field(default_factory=dict)
    sent_at: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    payments: dict[tuple[str, int], int] = field(default_factory=dict)
    cash: int = 0
    decisions: dict[str, Decision] = field(default_factory=dict)
    held_back: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)


class _Lease:
    def holds(self) -> bool:
        return True


class Desk:
    """Trader and gateway over one venue."""

    def __init__(
        self, market: Market, make_venue: Callable[[Callable[[], int]], ComparedVenue]
    ) -> None:
        self.now, self.market = market.start, market
        self.side = make_venue(self.clock)
        self.warnings: list[str] = []
        self._decided: list[Decision] = []
        self._journal, self._store_of_trader = MemoryJournal(), MemoryStore(Deaths())
        core = GatewayCore(WIDE, market.rules, self.side.timing)
        self._gateway = Gateway(
            core, self._journal, self.side.venue, self.clock, _Lease(), self.warnings.append
        )
        markets = {each: market.grids[each] for each in TRADED}
        self._trader = Trader(
            PassThroughDecider(PositionKeeper(STRATEGIES, markets)),
            formulas_of(markets, Fees(), FillModel()),
            LocalGateway(self._gateway),
            self._store_of_trader,
            self._decided.extend,
            self.clock,
            warn=self.warnings.append,
        )
        self._run: asyncio.Task[None]

    def clock(self) -> int:
        """Return the exchange's time in milliseconds."""
        return self.now

    async def __aenter__(self) -> "Desk":
        await self.side.begin()
        self._run = asyncio.create_task(self._gateway.run())
        await self.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._run.cancel()
        with suppress(asyncio.CancelledError):
            await self._run
        await self.side.end()

    async def play(self, plan: Plan) -> Course:
        """Live through the market's minutes."""
        while self.now < self.market.end:
            await self.step()
            closed, into = self.now // MINUTE - 1, self.now % MINUTE
            if closed not in self.market.bars:
                continue
            if into == _STORED:
                await self._store(closed)
                for candidate in plan.candidates.get(closed, []):
                    self._trader.take(candidate)
            elif into == _MATCHED:
                await self.side.range_known()
            elif into == _DECIDED:
                await self._trader.on_minute(
                    closed, {each: self.market.bars[closed][each] for each in TRADED}
                )
            elif into == _BY_HAND:
                for wish in plan.wishes.get(closed, []):
                    await self._ask(wish)
            else:
                continue
            await self.settle()
        return self._course()

    async def _store(self, minute: int) -> None:
        for symbol in SYMBOLS:
            close = units(self.market.bars[minute][symbol].close)
            self._gateway.hear(messages.PriceSeen(symbol, close, (minute + 1) * MINUTE))
        await self.side.open_known(minute)

    async def _ask(self, wish: Any) -> None:
        reply = await self._gateway.ask(wish)
        if reply.refusal:
            self.warnings.append(reply.refusal.message)

    async def step(self) -> None:
        """Let two seconds pass, and wait until all that follows is done."""
        self.now += STEP
        await self.side.pass_time(STEP)
        self._gateway.hear(messages.Timer())
        await self.settle()

    async def settle(self) -> None:
        """Wait until nothing is under way.

        Raises:
            UnsettledError: something is, after a minute of real time.
            PipelineError: the gateway stopped.
        """
        found: list[str] = []
        rounds = 0
        try:
            async with asyncio.timeout(_LONGEST_REAL_SECONDS):
                while found := await self._under_way():
                    rounds += 1
                    await asyncio.sleep(0 if rounds < _ROUNDS else _REAL_PAUSE)
        except TimeoutError:
            raise UnsettledError(f"{self.side.name} at {self.now}: {'; '.join(found)}") from None

    async def _under_way(self) -> list[str]:
        """Return what is not finished, as phrases; new records are handed to the trader."""
        if self._run.done():
            await self._run
        gateway, found = self._gateway, []
        if not gateway._events.empty() or gateway._step_under_way.locked():
            found.append("the gateway has events")
        if gateway._tasks:
            found.append(f"the gateway waits for {len(gateway._tasks)} answers")
        if self._trader.sequence < self._journal.last:
            found.append("the trader has records to take in")
            for number, body in list(self._journal.read(self._trader.sequence)):
                await self._trader.on_record(number, GATEWAY_RECORDS.decode(number, body))
        return found or await self.side.under_way()

    def _course(self) -> Course:
        course = Course(self.side.name, warnings=self.warnings)
        for number, body in self._journal.read():
            record = GATEWAY_RECORDS.decode(number, body)
            if isinstance(record, OrderSending):
                course.orders[record.order.client_id] = record.order
                course.sent_at[record.order.client_id] = record.at
            elif isinstance(record, OrderChanged) and record.status is Status.REJECTED:
                course.reasons[record.client_id] = record.reason
            elif isinstance(record, FundingBooked):
                course.payments[record.symbol, record.time] = record.amount
        ledger = self._gateway.state.ledger
        course.fills, course.cash = list(ledger.fills.values()), ledger.cash
        course.decisions = {each.id: each for each in self._decided}
        course.held_back = {
            entry_id(each.decision_id)
            for minute in self._store_of_trader.intents.values()
            for each in minute.intents
            if each.reason == EARLIER_TRADE_OPEN
        }
        return course
