"""Orders by hand in a symbol that the trader trades: no trade outlives the account's position."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.errors import DataError
from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.trading import messages
from pipeline_assets.trading.trades import Trade
from pipeline_assets_tests.trading.paper_bench import bar, order
from pipeline_assets_tests.trading.paper_world import World
from pipeline_assets_tests.trading.test_trader import CALM, NAME, SYMBOLS, _candidate, _in_world

pytestmark = pytest.mark.xdist_group("compiled")

BARS = dict.fromkeys(SYMBOLS, CALM)
SYMBOL = "BTCUSDT"
ENDED = "BTCUSDT: the position was closed outside the trader; the trade ends."
OTHER_RULES = {NAME: PositionRules(stop=Decimal("0.02"))}
# The quantity of every trade here: 1,000 at a price of 50,000, in 1e-8.
QUANTITY = 2_000_000


async def _minutes(world: World, count: int) -> None:
    for _ in range(count):
        await world.minute(world.clock.minute + 1, BARS)
        world.gateway.hear(messages.Timer())


async def _minutes_without_trader(world: World, count: int) -> None:
    for _ in range(count):
        await world.open(world.clock.minute + 1, BARS, {})
        await world.close(world.clock.minute, BARS)
        world.gateway.hear(messages.Timer())


async def _by_hand(world: World, signed: int) -> None:
    """Buy, or sell where negative; filled after two minutes. Refused while a close is under way."""
    side = "buy" if signed > 0 else "sell"
    hand = order(f"hand-{len(world.sent)}", side, quantity=abs(signed))
    refusal = await world.trader.gateway.place(hand)
    assert refusal is None or refusal.code == "closing"


def _signal(world: World, side: str) -> None:
    world.signal(_candidate(SYMBOL, side, world.clock.minute + 1))


async def _short_after(world: World, bought: int) -> Trade:
    """Buy by hand; afterwards the trader sells short."""
    await _by_hand(world, bought)
    await _minutes(world, 2)
    _signal(world, "short")
    await _minutes(world, 3)
    (trade,) = world.trader._orders.trades.values()
    assert world.core.state.ledger.positions == {SYMBOL: bought - QUANTITY}
    return trade


def _assert_free(world: World) -> None:
    """Nothing is left of a trade: with the trader, the rules, and the venue."""
    assert not world.trader._orders.trades
    assert not world.trader.decider.keeper.positions
    assert not world.venue.book.open


def test_close_ends_netted_trade() -> None:
    """The account held bitcoin before the short: after a close, the next candidate is traded again."""

    async def test(world: World) -> None:
        await _short_after(world, QUANTITY + 100_000)
        await world.trader.gateway.close(SYMBOL, "close", "test")
        await _minutes(world, 4)
        (closed,) = world.closed.values()
        assert (closed.exit_reason, closed.outside) == ("closed_outside", QUANTITY)
        assert world.warnings.count(ENDED) == 1
        _assert_free(world)
        _signal(world, "short")
        await _minutes(world, 3)
        assert [reason for _, reason in world.decided] == ["", ""]
        assert world.core.state.ledger.positions == {SYMBOL: -QUANTITY}

    _in_world(test)


def test_smaller_position_keeps_its_stop() -> None:
    """Half of the short nets with bitcoin bought by hand: the stop closes the rest and ends the trade."""

    async def test(world: World) -> None:
        trade = await _short_after(world, QUANTITY // 2)
        await _minutes(world, 3)
        assert trade.remaining == QUANTITY // 2
        assert trade.stop_id in world.venue.book.open
        higher = dict.fromkeys(SYMBOLS, bar(50_000, 51_000, 50_000, 51_000))
        await world.minute(world.clock.minute + 1, higher)
        await _minutes(world, 2)
        (closed,) = world.closed.values()
        assert closed.exit_reason == "trailing_stop"
        _assert_free(world)

    _in_world(test)


def test_trader_ends_trade_after_restart() -> None:
    """The position was closed while the trader was down, partly by fills that were never the trade's."""

    async def test(world: World) -> None:
        await _short_after(world, QUANTITY // 4)
        await _by_hand(world, QUANTITY - QUANTITY // 4)
        await _minutes_without_trader(world, 2)
        world.start_trader()
        await world.drain()
        await _minutes(world, 3)
        (closed,) = world.closed.values()
        assert closed.exit_reason == "closed_outside"
        assert 0 < closed.exited < QUANTITY
        _assert_free(world)

    _in_world(test)


def test_other_rules_start_once_flat() -> None:
    """With a position, other rules are refused; after a flatten, the trader starts and its old trade ends."""

    async def test(world: World) -> None:
        await _short_after(world, QUANTITY // 4)
        world.strategies = OTHER_RULES
        with pytest.raises(DataError, match="Trades are open in BTCUSDT"):
            world.start_trader()
        await world.gateway.ask(messages.Flatten("flatten", "test", "test"))
        await _minutes_without_trader(world, 4)
        assert not world.core.state.ledger.positions
        world.closed.clear()
        world.start_trader()
        await _minutes(world, 3)
        assert [each.exit_reason for each in world.closed.values()] == ["closed_outside"]
        _assert_free(world)

    _in_world(test)


def test_other_rules_start_after_unseen_fill() -> None:
    """The trader ended before its entry was filled; the changed rules gave the strategy another version."""

    async def test(world: World) -> None:
        _signal(world, "short")
        await _minutes(world, 1)
        (trade,) = world.trader._orders.trades.values()
        world.strategies = {"by_volume 2": OTHER_RULES[NAME]}
        assert not trade.filled
        assert trade.entry_id in world.core.state.live
        with pytest.raises(DataError, match="Trades are open in BTCUSDT"):
            world.start_trader()
        await _minutes_without_trader(world, 2)
        assert world.core.state.ledger.positions == {SYMBOL: -QUANTITY}
        with pytest.raises(DataError, match="Trades are open in BTCUSDT"):
            world.start_trader()
        await world.gateway.ask(messages.Flatten("flatten", "test", "test"))
        await _minutes_without_trader(world, 4)
        assert not world.core.state.ledger.positions
        world.start_trader()
        await world.drain()
        await _minutes(world, 5)
        assert list(world.closed) == [trade.entry_id]
        _assert_free(world)

    _in_world(test)


_STEPS = st.one_of(
    st.integers(-8, 8).filter(bool).map(lambda quarters: quarters * QUANTITY // 4),
    st.sampled_from(["long", "short", "close", "restart", ""]),
)


@settings(max_examples=25)
@given(steps=st.lists(_STEPS, max_size=12))
def test_flat_account_has_no_trade(steps: list[int | str]) -> None:
    """Orders by hand, closes and restarts among the trader's orders: after a close, no trade is left."""

    async def test(world: World) -> None:
        for number, step in enumerate([*steps, "", "", "close"]):
            if isinstance(step, int):
                await _by_hand(world, step)
            elif step == "close":
                await world.trader.gateway.close(SYMBOL, f"close-{number}", "test")
            elif step == "restart":
                world.start_trader()
                await world.drain()
            elif step:
                _signal(world, step)
            await _minutes(world, 1)
        await _minutes(world, 6)
        assert not world.core.state.ledger.positions
        _assert_free(world)

    _in_world(test)
