"""Journals that were restored from their backups: the trader notices, and protects what it holds."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

import pytest

from pipeline_assets.market import position_step
from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.step_tables import FundingRate, from_minute
from pipeline_assets.trading import messages
from pipeline_assets.trading.journal_places import BeyondJournalError
from pipeline_assets.trading.order_types import Order
from pipeline_assets_tests.trading.paper_bench import FIRST_MINUTE
from pipeline_assets_tests.trading.paper_world import World
from pipeline_assets_tests.trading.test_trader import CALM, NAME, SYMBOLS, _candidate, _started

pytestmark = pytest.mark.xdist_group("compiled")

RULES = {NAME: PositionRules(stop=Decimal("0.05"), target=Decimal("0.05"))}


class RestoredWorld:
    """A world whose journals are copied and put back."""

    def __init__(self) -> None:
        self.world = World(RULES)
        self.number = 0
        self.copies: tuple[list[bytes], list[bytes]] = [], []

    async def minutes(self, count: int, *signals: str) -> None:
        """Live through minutes; each signal is a long of a symbol in the first of them."""
        for _ in range(count):
            minute = FIRST_MINUTE + self.number
            self.number += 1
            self.world.signal(*(_candidate(each, "long", minute) for each in signals))
            signals = ()
            await self.world.minute(minute, dict.fromkeys(SYMBOLS, CALM))

    def copy(self) -> None:
        self.copies = list(self.world.journal.bodies), list(self.world.paper.bodies)

    async def restore(
        self, before_trader: Callable[[World], Coroutine[Any, Any, None]] | None = None
    ) -> None:
        """Stop all, put the copies back, and start again; the gateway may work before the trader does."""
        await self.world.stop()
        self.world.journal.bodies[:], self.world.paper.bodies[:] = self.copies
        self.world.clock.minute += 1
        await self.world.start_gateway()
        if before_trader:
            await before_trader(self.world)
        self.world.start_trader()
        await self.world.trader.align()

    @property
    def resting(self) -> list[tuple[str, str]]:
        """Symbol and kind of the orders that rest, as the gateway has them."""
        state = self.world.core.state
        held = [state.orders[each].order for each in state.live]
        return sorted((each.symbol, each.kind) for each in held)


def _in_restored(test: Callable[[RestoredWorld], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        restored = RestoredWorld()
        await _started(restored.world)
        await test(restored)
        await restored.world.stop()

    asyncio.run(asyncio.wait_for(run(), 250))


async def _many_records(world: World) -> None:
    """Have the journal grow past the checkpoint's number."""
    for number in range(12):
        order = Order(
            client_id=f"other-{number}", symbol="ETHUSDT", side="buy", kind="limit",
            quantity=10**6, price=49_000 * 10**8,
        )  # fmt: skip
        assert (await world.gateway.ask(messages.Place(order))).refusal is None
        await world.gateway.ask(messages.Cancel(order.client_id))


@pytest.mark.parametrize("grown", [False, True])
def test_entry_after_restore_is_protected(grown: bool) -> None:
    """The checkpoint is far ahead of the journals, or their numbers were given again."""

    async def test(restored: RestoredWorld) -> None:
        await restored.minutes(2)
        restored.copy()
        await restored.minutes(4, "BTCUSDT")
        await restored.world.trader.gateway.close("BTCUSDT", "by-hand", "test")
        await restored.minutes(4)
        seen = restored.world.trader.sequence
        await restored.restore(_many_records if grown else None)
        assert (restored.world.journal.last > seen) is grown
        assert restored.world.trader.sequence <= restored.world.journal.last
        assert any("was restored from a backup" in each for each in restored.world.warnings)
        await restored.minutes(6, "ETHUSDT")
        assert restored.world.core.state.ledger.positions.keys() == {"ETHUSDT"}
        assert {("ETHUSDT", "limit"), ("ETHUSDT", "stop")} <= set(restored.resting)
        sent = Counter(each.client_id for each in restored.world.sent)
        assert max(sent.values()) == 1

    _in_restored(test)


def test_stop_in_doubt_is_placed_anew() -> None:
    """The gateway's copy has the fill and its stop, the venue's copy has no stop: another one is placed."""

    async def test(restored: RestoredWorld) -> None:
        await restored.minutes(2, "BTCUSDT")
        minute, bars = FIRST_MINUTE + restored.number, dict.fromkeys(SYMBOLS, CALM)
        await restored.world.open(minute, bars, {})
        # Every earlier event is durable once this is answered; the trader has seen none.
        await restored.world.gateway.ask(messages.Cancel("nothing"))
        restored.copy()
        await restored.minutes(3)
        await restored.restore()
        assert restored.world.core.state.ledger.positions.keys() == {"BTCUSDT"}
        await restored.minutes(5)
        assert restored.world.core.state.ledger.positions.keys() == {"BTCUSDT"}
        assert ("BTCUSDT", "stop") in restored.resting
        assert max(Counter(each.client_id for each in restored.world.sent).values()) == 1

    _in_restored(test)


def test_ended_stop_is_replaced() -> None:
    """A person cancelled the stop: its id is used no more, and another stop rests after the restore."""

    async def test(restored: RestoredWorld) -> None:
        await restored.minutes(3, "BTCUSDT")
        (stop,) = [each for each in restored.world.sent if each.kind == "stop"]
        await restored.world.trader.gateway.cancel(stop.client_id)
        await restored.world.drain()
        assert restored.resting == [("BTCUSDT", "limit")]
        restored.copy()
        await restored.minutes(3, "ETHUSDT")
        await restored.restore()
        assert restored.resting == [("BTCUSDT", "limit"), ("BTCUSDT", "stop")]
        await restored.minutes(2)
        assert max(Counter(each.client_id for each in restored.world.sent).values()) == 1

    _in_restored(test)


def test_trade_closed_later_is_closed_again() -> None:
    """The copies have a position that the checkpoint knows as closed: protected first, then closed."""

    async def test(restored: RestoredWorld) -> None:
        await restored.minutes(4, "BTCUSDT")
        restored.copy()
        await restored.world.trader.gateway.close("BTCUSDT", "by-hand", "test")
        await restored.minutes(4)
        assert not restored.world.core.state.ledger.positions
        await restored.restore()
        assert restored.resting == [("BTCUSDT", "limit"), ("BTCUSDT", "stop")]
        await restored.minutes(6)
        assert any("the rules do not have" in each for each in restored.world.warnings)
        assert not restored.world.core.state.ledger.positions
        assert not restored.resting

    _in_restored(test)


def test_strange_positions_are_reported() -> None:
    """A trade that the copies do not have, and a position that is no trade's: a person hears of both."""

    async def test(restored: RestoredWorld) -> None:
        order = Order(
            client_id="other", symbol="ETHUSDT", side="buy", kind="market", quantity=10**6
        )
        await restored.world.gateway.ask(messages.Place(order))
        await restored.minutes(3)
        restored.copy()
        await restored.minutes(4, "BTCUSDT")
        await restored.restore()
        said = " ".join(restored.world.warnings)
        assert "BTCUSDT: the entry" in said
        assert "ETHUSDT: the account holds 0.01, of which 0.0" in said
        assert not restored.world.trader._orders.trades

    _in_restored(test)


def test_past_funding_is_not_counted_again() -> None:
    """A trader that lost its checkpoint begins with its capital; the gateway has the payments."""

    async def test(restored: RestoredWorld) -> None:
        world = restored.world
        await restored.minutes(3, "BTCUSDT")
        minute, bars = FIRST_MINUTE + restored.number, dict.fromkeys(SYMBOLS, CALM)
        rate = FundingRate(from_minute(minute), Decimal("0.0001"), Decimal(50_000))
        await world.minute(minute, bars, dict.fromkeys(SYMBOLS, rate))
        assert world.core.state.ledger.funding
        world.store.kept = None
        await world.stop()
        await world.start()
        await world.drain()
        assert not world.trader.decider.keeper.state.account[position_step.FUNDED]
        assert world.trader._orders.trades

    _in_restored(test)


def test_record_beyond_the_end_is_refused() -> None:
    """A reader that waited there would miss all that happens until the number is given again."""

    async def test(restored: RestoredWorld) -> None:
        gateway = restored.world.gateway
        with pytest.raises(
            BeyondJournalError, match="restored from a backup: read it again from 0"
        ):
            await anext(gateway.follow(gateway.last + 1))

    _in_restored(test)
