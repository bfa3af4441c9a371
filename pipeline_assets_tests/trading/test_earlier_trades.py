"""Rules and venue that end a trade at different times: no entry nets with an earlier trade of its symbol, and
an end by the trade's own order is no alert. The two read different candles here, as their stops differ.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline_assets.market import position_step
from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.trading import messages
from pipeline_assets.trading.earlier_trades import open_trade
from pipeline_assets.trading.order_types import Mode
from pipeline_assets_tests.trading.paper_bench import FIRST_MINUTE
from pipeline_assets_tests.trading.paper_world import World
from pipeline_assets_tests.trading.test_outside_closes import ENDED, QUANTITY, SYMBOL
from pipeline_assets_tests.trading.test_trader import CALM, FALLEN, NAME, SYMBOLS, _candidate

pytestmark = pytest.mark.xdist_group("compiled")

BARS, LOWER = dict.fromkeys(SYMBOLS, CALM), dict.fromkeys(SYMBOLS, FALLEN)
STOPPED = PositionRules(stop=Decimal("0.005"), target=Decimal("0.05"))


def _in_world(test: Callable[[World], Coroutine[Any, Any, None]], rules: PositionRules) -> None:
    async def run() -> None:
        world = World({NAME: rules})
        world.clock.minute = FIRST_MINUTE - 1
        world.prices = dict(BARS)
        await world.start()
        await test(world)
        await world.stop()

    asyncio.run(asyncio.wait_for(run(), 250))


async def _minute(
    world: World,
    side: str = "",
    at_venue: Mapping[str, Bar] = BARS,
    by_rules: Mapping[str, Bar] = BARS,
) -> None:
    """Live through a minute whose candles differ for venue and rules, with a signal at its close."""
    minute = world.clock.minute + 1
    await world.open(minute, at_venue, {})
    await world.drain()
    await world.close(minute, at_venue)
    if side:
        world.signal(_candidate(SYMBOL, side, minute))
    await world.trader.on_minute(minute, by_rules)
    await world.drain()


async def _long(world: World) -> None:
    """Have the trader hold a long, protected by its stop."""
    await _minute(world, "long")
    for _ in range(3):
        await _minute(world)
    assert world.core.state.ledger.positions == {SYMBOL: QUANTITY}


def _intents(world: World) -> list[tuple[str, str, str]]:
    found = [each for held in world.store.intents.values() for each in held.intents]
    return [(each.action, each.outcome, each.reason) for each in found]


def _assert_flat(world: World) -> None:
    """Nothing is open at the venue or by the rules, and no margin is bound."""
    assert not world.core.state.ledger.positions
    assert not world.trader.decider.keeper.positions
    account = world.trader.decider.keeper.state.account
    assert (account[position_step.MARGIN], account[position_step.BUSY]) == (0, 0)


def test_no_entry_before_earlier_trade_is_closed() -> None:
    """The rules were stopped out, the venue was not: entries are skipped until the trade is closed there."""

    async def test(world: World) -> None:
        await _long(world)
        await _minute(world, "short", by_rules=LOWER)
        await _minute(world, "short")
        await _minute(world)
        assert world.core.state.ledger.positions == {SYMBOL: QUANTITY}
        await _minute(world)
        _assert_flat(world)
        await _minute(world, "short")
        for _ in range(3):
            await _minute(world)
        skipped = ("open", "skipped", "earlier_trade_open")
        assert _intents(world) == [("open", "sent", ""), skipped, skipped, ("open", "sent", "")]
        # By the rules the symbol was free, as in a backtest of the same candles.
        assert [reason for _, reason in world.decided] == ["", "", "", ""]
        assert world.core.state.ledger.positions == {SYMBOL: -QUANTITY}
        assert world.core.state.guarded.keys() == {SYMBOL}

    _in_world(test, STOPPED)


def test_entry_awaits_unfilled_entry_and_exit() -> None:
    """An entry under way forbids the next one, and so does a reversed trade whose exit did not leave."""

    async def test(world: World) -> None:
        gateway = world.trader.gateway
        await _minute(world, "long")
        (trade,) = world.trader._orders.trades.values()
        wanted = msgspec.structs.replace(world.sent[0], client_id="next")
        assert trade.filled == 0
        assert await open_trade(wanted, [trade], [], gateway) is trade
        for _ in range(3):
            await _minute(world)
        assert await open_trade(wanted, [trade], [trade], gateway) is trade
        await gateway.place(trade.exit("signal", world.clock.minute))
        assert await open_trade(wanted, [trade], [trade], gateway) is None
        assert await open_trade(wanted, [trade], [], gateway) is trade

    _in_world(test, STOPPED)


def test_own_stop_is_no_alert() -> None:
    """The venue fills the stop, which the rules have not reached: a note names the stop."""

    async def test(world: World) -> None:
        await _long(world)
        await _minute(world, at_venue=LOWER)
        _assert_flat(world)
        assert ENDED not in world.warnings
        (note,) = world.notes
        assert "has ended by its stop at the venue" in note
        await _minute(world, "short")
        assert _intents(world)[-1] == ("open", "sent", "")

    _in_world(test, STOPPED)


def test_persons_close_is_an_alert() -> None:
    async def test(world: World) -> None:
        await _long(world)
        await world.trader.gateway.close(SYMBOL, "by-hand", "test")
        for _ in range(3):
            await _minute(world)
        _assert_flat(world)
        assert (world.warnings.count(ENDED), world.notes) == (1, [])

    _in_world(test, STOPPED)


def test_early_exit_leaves_the_end_to_the_rules() -> None:
    """The exit is filled before the rules have a candle: they end the position, and the cool-down holds."""

    async def test(world: World) -> None:
        await _long(world)
        for _ in range(3):
            await _minute(world)
        await _minute(world, by_rules={})
        assert not world.core.state.ledger.positions
        assert world.trader.decider.keeper.positions
        await _minute(world, "long")
        _assert_flat(world)
        assert {reason for _, reason in world.decided} == {"", "cooling_down"}
        assert (ENDED in world.warnings, world.notes) == (False, [])

    _in_world(test, PositionRules(time_limit=5, cool_down=9))


def test_refused_reversal_is_forgotten() -> None:
    """Only what reduces is accepted: the exit closes the long, and the rules expect no short."""

    async def test(world: World) -> None:
        await _long(world)
        await world.gateway.ask(messages.SetMode(Mode.REDUCING, "test", "test"))
        await _minute(world, "short")
        for _ in range(4):
            await _minute(world)
        _assert_flat(world)
        assert _intents(world)[-1] == ("reverse", "skipped", "mode")
        assert ENDED not in world.warnings

    _in_world(test, PositionRules(stop=Decimal("0.005"), opposite_signal="reverse"))
