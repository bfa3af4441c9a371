"""Trader, gateway and paper venue over stores that outlive them, with a clock that a test turns, and a trader
that dies at any write. No tests here.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.fill_formulas import formulas_of
from pipeline_assets.market.position_keeper import Bar, PositionKeeper
from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.step_tables import FillModel, FundingRate, to_minute
from pipeline_assets.market.trading_rules import UNIT, Fees
from pipeline_assets.trading import messages
from pipeline_assets.trading.core import GatewayCore
from pipeline_assets.trading.decider import PassThroughDecider
from pipeline_assets.trading.decisions import Decision, MinuteDecisions, MinuteIntents
from pipeline_assets.trading.gateway import Gateway
from pipeline_assets.trading.gateway_client import LocalGateway
from pipeline_assets.trading.limits import RiskLimits
from pipeline_assets.trading.messages import Refusal
from pipeline_assets.trading.order_types import UNSETTLED, Order, Status
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets.trading.paper_venue import PaperVenue
from pipeline_assets.trading.records import GATEWAY_RECORDS, OrderSending
from pipeline_assets.trading.trader import Trader
from pipeline_assets.trading.trader_store import Checkpoint
from pipeline_assets.trading.trades import Trade
from pipeline_assets.trading.work import Timing
from pipeline_assets_tests.trading.paper_bench import MARKETS, Clock
from pipeline_assets_tests.trading.test_core import LIMITS

WIDE = replace(
    LIMITS, order_notional=10**6 * UNIT, symbol_notional=10**6 * UNIT, gross_notional=10**7 * UNIT,
    daily_loss=10**6 * UNIT, orders_per_ten_seconds=10**6, orders_per_minute=10**6,
)  # fmt: skip


class KilledError(Exception):
    """The process is dead."""


@dataclass
class Deaths:
    """Counts a process's writes, and kills it before or after one of these."""

    at: int = -1
    after: bool = False
    count: int = 0
    dead: bool = False

    def write(self, what: Any) -> Any:
        self.before()
        done = what()
        self.behind()
        return done

    def before(self) -> None:
        """Begin a write."""
        self.count += 1
        self.dead |= self.count == self.at and not self.after
        if self.dead:
            raise KilledError

    def behind(self) -> None:
        """End a write."""
        self.dead |= self.count == self.at
        if self.dead:
            raise KilledError


class MemoryJournal:
    """A journal in memory, whose process may die at any write."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.deaths = Deaths()

    @property
    def last(self) -> int:
        return len(self.bodies)

    def append(self, bodies: Sequence[bytes]) -> int:
        self.deaths.write(lambda: self.bodies.extend(bodies))
        return len(self.bodies)

    def read(self, after: int = 0, most: int | None = None) -> Iterator[tuple[int, bytes]]:
        page = self.bodies[after : None if most is None else after + most]
        yield from enumerate(page, after + 1)

    def backup(self, target: Path) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


@dataclass
class MemoryStore:
    """The trader's documents in memory, as JSON."""

    deaths: Deaths
    fixed: dict[tuple[int, str], str] = field(default_factory=dict)
    used_by_minute: dict[int, MinuteDecisions] = field(default_factory=dict)
    intents: dict[tuple[int, str], MinuteIntents] = field(default_factory=dict)
    kept: bytes | None = None

    def decisions(self, minute: int, late: str = "") -> MinuteDecisions | None:
        body = self.fixed.get((minute, late))
        return None if body is None else MinuteDecisions.model_validate_json(body)

    def fix(self, minute: int, decisions: MinuteDecisions, late: str = "") -> MinuteDecisions:
        body = decisions.model_dump_json()
        standing = self.deaths.write(lambda: self.fixed.setdefault((minute, late), body))
        return MinuteDecisions.model_validate_json(standing)

    def fix_each(self, decisions: Sequence[Decision]) -> list[Decision]:
        return [
            self.fix(
                to_minute(held.open_time), MinuteDecisions(decisions=(each,)), held.id
            ).decisions[0]
            for each in decisions
            for held in [each.candidate]
        ]

    def decisions_of(self, candidates: Sequence[Candidate]) -> list[Decision]:
        found = []
        for each in candidates:
            minute = to_minute(each.open_time)
            held = (self.decisions(minute), self.decisions(minute, each.id))
            found += [known for one in held if one and (known := one.of(each.id))]
        return found

    def used(self, minute: int) -> MinuteDecisions | None:
        return self.used_by_minute.get(minute)

    def fix_used(self, minute: int, used: MinuteDecisions) -> MinuteDecisions:
        return self.deaths.write(lambda: self.used_by_minute.setdefault(minute, used))

    def note_intents(self, minute: int, intents: MinuteIntents, late: str = "") -> None:
        self.deaths.write(lambda: self.intents.__setitem__((minute, late), intents))

    def checkpoint(self) -> Checkpoint | None:
        return None if self.kept is None else msgspec.json.decode(self.kept, type=Checkpoint)

    def keep(self, checkpoint: Checkpoint) -> None:
        def write() -> None:
            self.kept = msgspec.json.encode(checkpoint)

        self.deaths.write(write)


class MortalGateway(LocalGateway):
    """A client whose process may die before or after each of its calls."""

    def __init__(self, gateway: Gateway, deaths: Deaths) -> None:
        super().__init__(gateway)
        self._deaths = deaths

    async def place(self, order: Order) -> Refusal | None:
        self._deaths.before()
        refusal = await super().place(order)
        self._deaths.behind()
        return refusal

    async def cancel(self, client_id: str) -> Refusal | None:
        self._deaths.before()
        refusal = await super().cancel(client_id)
        self._deaths.behind()
        return refusal


class _Fence:
    def holds(self) -> bool:
        return True


class World:
    """One account. Minutes are counted from 1970."""

    def __init__(
        self,
        strategies: Mapping[str, PositionRules],
        limits: RiskLimits = WIDE,
        symbols: Sequence[str] = tuple(MARKETS),
        awaited_ms: int | None = None,
    ) -> None:
        self.awaited_ms = awaited_ms
        self.strategies, self.limits = strategies, limits
        self.markets = {each: MARKETS[each] for each in symbols}
        self.clock, self.deaths = Clock(), Deaths()
        self.journal, self.paper = MemoryJournal(), MemoryJournal()
        self.store = MemoryStore(self.deaths)
        self.published: list[Decision] = []
        self.closed: dict[str, Trade] = {}
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.candidates: list[Candidate] = []
        self.prices: dict[str, Bar] = {}

    async def start(self) -> None:
        """Start venue and gateway, and the trader."""
        await self.start_gateway()
        self.start_trader()
        await self.trader.align()

    async def start_gateway(self) -> None:
        """Start venue and gateway."""
        self.journal.deaths = self.paper.deaths
        formulas = formulas_of(self.markets, Fees(), FillModel())
        self.venue = PaperVenue(self.paper, formulas, self.clock)
        rules = {symbol: rules for symbol, (_, rules) in self.markets.items()}
        stored = [GATEWAY_RECORDS.decode(seq, body) for seq, body in self.journal.read()]
        self.core = GatewayCore(
            self.limits, rules, Timing(close_retry=180_000, halts_after_liquidation=False), stored
        )
        self.gateway = Gateway(
            self.core, self.journal, self.venue, self.clock, _Fence(), self.warnings.append
        )
        for symbol, bar in self.prices.items():
            self._tell(symbol, bar)
        self.task = asyncio.create_task(self.gateway.run())

    def start_trader(self) -> None:
        """Start another trader, as after a kill: all messages since the committed offsets come again."""
        self.trader = Trader(
            PassThroughDecider(PositionKeeper(self.strategies, self.markets)),
            formulas_of(self.markets, Fees(), FillModel()),
            MortalGateway(self.gateway, self.deaths),
            self.store,
            lambda found: self.deaths.write(lambda: self.published.extend(found)),
            self.clock,
            lambda trade: self.closed.setdefault(trade.entry_id, trade),
            self.warnings.append,
            self.awaited_ms,
            self.notes.append,
        )
        self.trader.restore(self.core.state.ledger.positions, self.core.state.live)
        for offset in range(self.trader.offsets.get(0, 0), len(self.candidates)):
            self.trader.take(self.candidates[offset], 0, offset)

    async def stop(self) -> None:
        """Kill all: what was not written is lost."""
        self.task.cancel()
        with suppress(asyncio.CancelledError, KilledError):
            await self.task

    def signal(self, *candidates: Candidate) -> None:
        """Have candidates arrive."""
        for each in candidates:
            self.candidates.append(each)
            self.trader.take(each, 0, len(self.candidates) - 1)

    async def open(
        self, minute: int, bars: Mapping[str, Bar], rates: Mapping[str, FundingRate]
    ) -> None:
        """Let the venue know a minute's candles."""
        self.clock.minute = minute
        opens = {
            symbol: self.venue._formulas[symbol].price(bar.open) for symbol, bar in bars.items()
        }
        await self.venue.on_funding(rates, opens)
        await self.venue.on_candles(minute, bars)

    async def close(self, minute: int, bars: Mapping[str, Bar]) -> None:
        """Let the range of the candles be matched, and the gateway know the prices."""
        await self.venue.settle()
        self.prices.update(bars)
        for symbol, bar in bars.items():
            self._tell(symbol, bar)
        await self.drain()

    def _tell(self, symbol: str, bar: Bar) -> None:
        time = (self.clock.minute + 1) * MINUTE
        self.gateway.hear(messages.PriceSeen(symbol, int(bar.close * UNIT), time))

    async def minute(
        self, minute: int, bars: Mapping[str, Bar], rates: Mapping[str, FundingRate] | None = None
    ) -> None:
        """Live through one minute."""
        await self.open(minute, bars, rates or {})
        await self.drain()
        await self.close(minute, bars)
        await self.trader.on_minute(minute, bars)
        await self.drain()

    async def drain(self) -> None:
        """Wait until the gateway and the trader have taken in everything that happened."""
        while True:
            if self.paper.deaths.dead:
                raise KilledError
            # Every earlier event is durable once this is answered.
            await self.gateway.ask(messages.Cancel("nothing"))
            for sequence, body in list(self.journal.read(self.trader.sequence)):
                await self.trader.on_record(sequence, GATEWAY_RECORDS.decode(sequence, body))
            if self._quiet():
                return
            await asyncio.sleep(0)

    def _quiet(self) -> bool:
        state, book = self.core.state, self.venue.book
        live = [state.orders[each] for each in state.live]
        under_way = any(
            each.status is Status.SENDING
            or (each.cancel_sent and each.status in UNSETTLED)
            or each.status not in (Status.UNKNOWN, book.orders[each.order.client_id].status)
            for each in live
            # An order that the venue never got is doubted for minutes.
            if each.status is not Status.UNKNOWN or each.order.client_id in book.orders
        )
        booked = len(state.ledger.fills) == len(book.fills)
        return not under_way and booked and self.trader.sequence == self.journal.last

    @property
    def sent(self) -> list[Order]:
        """Every order that was ever sent."""
        records = [GATEWAY_RECORDS.decode(seq, body) for seq, body in self.journal.read()]
        return [each.order for each in records if isinstance(each, OrderSending)]

    @property
    def decided(self) -> list[tuple[str, str]]:
        """Candidate's id and reason of all fixed decisions."""
        documents = [MinuteDecisions(**json.loads(body)) for body in self.store.fixed.values()]
        return sorted((d.candidate.id, d.reason) for each in documents for d in each.decisions)
