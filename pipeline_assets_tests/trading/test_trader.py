"""Trader, gateway and paper venue: equal to the backtest of the same candles, and safe to kill anywhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline_assets.market.candidates import Candidate, candidate_id, candidates_of
from pipeline_assets.market.evaluation import evaluate
from pipeline_assets.market.indicators import IndicatorStates
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.step_tables import FundingRate, from_minute, to_minute
from pipeline_assets.market.strategies import indicators_of
from pipeline_assets.market.strategy import Strategy
from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.trading.gateway import GatewayStoppedError
from pipeline_assets.trading.limits import RiskLimits
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets.trading.trades import Trade
from pipeline_assets_tests.research.held_candles import (
    BTC_RULES,
    DAY,
    FIRST,
    backtest,
    documents,
    minutes_of,
)
from pipeline_assets_tests.research.test_backtest import by_volume, rows
from pipeline_assets_tests.trading.paper_bench import FIRST_MINUTE, bar
from pipeline_assets_tests.trading.paper_world import WIDE, Deaths, KilledError, World
from pipeline_assets_tests.trading.test_core import LIMITS

pytestmark = pytest.mark.xdist_group("compiled")

START = FIRST + 5 * DAY + timedelta(hours=7)
SYMBOLS = ("BTCUSDT", "ETHUSDT")
NAME = "by_volume 1"


def _run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 250))


def _candidate(symbol: str, side: str, minute: int) -> Candidate:
    time = from_minute(minute)
    return Candidate(
        id=candidate_id("by_volume", "1", symbol, Interval.ONE_MINUTE, time),
        strategy="by_volume", version="1", symbol=symbol, interval=Interval.ONE_MINUTE,
        side=side, open_time=time, price=1.0, indicators={}, created_at=time + timedelta(seconds=70),
    )  # fmt: skip


def _signalling(minutes: int, share: float) -> pl.DataFrame:
    """Candles, from `START` on with signals at random in their volume, and with some minutes missing."""
    chance = Random(minutes)
    frame = minutes_of(SYMBOLS).filter(pl.col("open_time") < START + timedelta(minutes=minutes))
    past = frame.filter(pl.col("open_time") < START).with_columns(volume=0.0)
    frame = frame.filter(pl.col("open_time") >= START)
    sides = [chance.choice((2.0, -2.0)) * (chance.random() < share) for _ in range(len(frame))]
    kept = [chance.random() > 0.01 for _ in range(len(frame))]
    signalling = frame.with_columns(volume=pl.Series(np.array(sides))).filter(pl.Series(kept))
    return pl.concat([past, signalling]).sort("symbol", "open_time")


def _candidates(strategy: Strategy, frame: pl.DataFrame) -> dict[int, list[Candidate]]:
    """Evaluate the minutes from `START` on one after the other, as the sensor does."""
    past = frame.filter(pl.col("open_time") < START)
    states = IndicatorStates.from_history(indicators_of([strategy]), past)
    found = {}
    fresh = frame.filter(pl.col("open_time") >= START).sort("open_time", "symbol")
    for minute in fresh.partition_by("open_time", maintain_order=True):
        states, values = states.advance(minute)
        time = minute["open_time"][0]
        found[to_minute(time)] = candidates_of(evaluate([strategy], values, time).candidates)
    return found


def _by_minute(frame: pl.DataFrame) -> dict[int, dict[str, Bar]]:
    found: dict[int, dict[str, Bar]] = {}
    columns = ("open_time", "symbol", "open", "high", "low", "close")
    for time, symbol, *prices in frame.select(columns).iter_rows():
        held = Bar(*(Decimal(str(each)) for each in prices))
        found.setdefault(to_minute(time), {})[symbol] = held
    return found


def _row(trade: Trade) -> tuple[Any, ...]:
    exit_minute = from_minute(trade.closed_at // MINUTE) if trade.closed else None
    return (
        trade.symbol,
        "long" if trade.sign > 0 else "short",
        from_minute(trade.signal_minute),
        from_minute(trade.opened_at // MINUTE),
        trade.entry_price / UNIT,
        trade.filled / UNIT,
        exit_minute,
        trade.exit_price / UNIT if trade.closed else None,
        trade.exit_reason or None,
        trade.fee / UNIT,
    )


def _expected(row: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("symbol", "side", "signal_time", "entry_time", "entry_price", "quantity", "exit_time")
    return tuple(row[each] for each in (*names, "exit_price", "exit_reason", "fees"))


RULES: list[dict[str, Any]] = [
    {"stop": "0.001", "target": "0.0012", "opposite_signal": "ignore"},
    {"trailing_stop": "0.0008", "stop": "0.001", "opposite_signal": "exit", "cool_down": 3},
    {"time_limit": 5, "target": "0.001", "opposite_signal": "reverse"},
    {"time_limit": 1, "opposite_signal": "ignore", "side": "long"},
    {"target": "0.002", "leverage": 39, "opposite_signal": "ignore"},
    {"sizing": {"by": "atr", "value": "0.002"}, "leverage": 20, "time_limit": 9},
]


@pytest.mark.parametrize(
    "rules", RULES, ids=["stop", "trail", "reverse", "brief", "liquidation", "atr"]
)
@pytest.mark.parametrize("minutes", [90, pytest.param(1440, marks=pytest.mark.matrix)])
def test_paper_trades_equal_the_backtest(rules: dict[str, Any], minutes: int) -> None:
    """Price, quantity, fee, time and reason, with gaps and funding, and all processes killed on the way."""
    frame = _signalling(minutes, 0.15)
    strategy = by_volume(**rules)
    end = START + timedelta(minutes=minutes)

    def rate(_: str, window: Any) -> list[FundingRate]:
        times = [START + timedelta(minutes=each) for each in range(0, minutes, 7)]
        return [FundingRate(time, Decimal("0.0001"), Decimal(50_000)) for time in times]

    result = backtest(
        frame, [strategy], list(SYMBOLS), rate, documents((FIRST, BTC_RULES)), start=START, end=end
    )

    async def test() -> None:
        world = World({NAME: strategy.rules})
        world.clock.minute = to_minute(START)
        await world.start()
        held, found = _by_minute(frame), _candidates(strategy, frame)
        for number in range(minutes):
            minute = to_minute(START) + number
            bars = held.get(minute, {})
            due = FundingRate(from_minute(minute), Decimal("0.0001"), Decimal(50_000))
            rates = dict.fromkeys(SYMBOLS, due) if number % 7 == 0 else {}
            world.signal(*found.get(minute, []))
            if number % 7 == 3:
                # The fills at the open are on the venue's disk, and perhaps not on the gateway's.
                await world.open(minute, bars, rates)
                await world.stop()
                await world.start()
            await world.minute(minute, bars, rates)
        state, book = world.core.state, world.venue.book
        assert state.ledger.positions == book.positions
        assert set(state.ledger.fills.values()) == {fill for _, fill in book.fills}
        assert max(Counter(each.client_id for each in world.sent).values()) == 1
        opened = [each for each in world.trader._orders.trades.values() if each.filled]
        trades = [*world.closed.values(), *opened]
        expected = rows(result)
        assert len(expected) >= 5
        liquidated = [each for each in expected if each["exit_reason"] == "liquidation"]
        assert liquidated or strategy.rules.leverage <= 20
        assert sorted(_row(each) for each in trades) == sorted(_expected(each) for each in expected)
        assert state.ledger.funding / UNIT == pytest.approx(
            sum(each["funding"] for each in expected)
        )
        await world.stop()

    _run(test)


CALM, RISEN = bar(50_000, 50_010, 49_990, 50_000), bar(50_000, 50_400, 50_000, 50_300)
FALLEN = bar(50_000, 50_000, 49_000, 49_000)
DAY_OF_ALL = {NAME: PositionRules(trailing_stop=Decimal("0.005"), target=Decimal("0.05"))}


async def _short_day(world: World) -> int:
    """Live through an entry, a trailed stop, its fill, a declined and a late candidate; returns the deaths.

    After a death another trader begins at its checkpoint, and the minute comes again.
    """
    minutes = [CALM, CALM, CALM, RISEN, RISEN, FALLEN, CALM]
    arriving = {
        0: [_candidate("BTCUSDT", "long", FIRST_MINUTE)],
        2: [_candidate("BTCUSDT", "long", FIRST_MINUTE + 2)],
        4: [_candidate("ETHUSDT", "short", FIRST_MINUTE + 1)],
    }
    deaths = 0
    for number, each in enumerate(minutes):
        minute, bars = FIRST_MINUTE + number, dict.fromkeys(SYMBOLS, each)
        world.signal(*arriving.get(number, []))
        while True:
            try:
                await world.minute(minute, bars)
            except (KilledError, GatewayStoppedError):
                deaths += 1
                if world.paper.deaths.dead:
                    await world.stop()
                    world.paper.deaths = Deaths()
                    await world.start()
                else:
                    world.deaths.at, world.deaths.dead = -1, False
                    world.start_trader()
            else:
                break
    return deaths


async def _started(world: World | None = None) -> World:
    world = world or World(DAY_OF_ALL)
    world.clock.minute = FIRST_MINUTE - 1
    world.prices = dict.fromkeys(SYMBOLS, CALM)
    await world.start()
    return world


def _in_world(
    test: Callable[[World], Coroutine[Any, Any, None]], limits: RiskLimits = WIDE
) -> None:
    async def run() -> None:
        world = await _started(World(DAY_OF_ALL, limits))
        await test(world)
        await world.stop()

    _run(run)


def test_kill_at_each_write_changes_nothing() -> None:
    """Before and after every write: no decision is lost, none made twice, no order sent twice."""

    async def test() -> None:
        whole = await _started()
        await _short_day(whole)
        await whole.stop()
        expected = [(each.entry_id, each.exit_reason) for each in whole.closed.values()]
        assert [reason for _, reason in expected] == ["trailing_stop"]
        assert Counter(reason for _, reason in whole.decided) == {"": 1, "same_side": 1, "stale": 1}
        writes = whole.deaths.count
        assert writes > 15
        for at in range(1, writes + 1):
            for after in (False, True):
                world = await _started()
                world.deaths = world.store.deaths = Deaths(at, after=after)
                world.start_trader()
                assert await _short_day(world) == 1
                await world.stop()
                assert world.sent == whole.sent, (at, after)
                assert world.decided == whole.decided, (at, after)
                assert {each.id for each in world.published} == {
                    each.id for each in whole.published
                }
                closed = [(each.entry_id, each.exit_reason) for each in world.closed.values()]
                assert closed == expected, (at, after)
                assert not world.venue.book.open, (at, after)

    _run(test)


def test_gateway_kill_loses_no_fill() -> None:
    """Before and after every write of gateway and venue: nothing is sent twice, and the ledgers are equal."""

    async def test() -> None:
        whole = await _started()
        await _short_day(whole)
        await whole.stop()
        writes = whole.paper.deaths.count
        assert writes > 15
        for at in range(1, writes + 1):
            for after in (False, True):
                world = World(DAY_OF_ALL)
                world.paper.deaths = Deaths(at, after=after)
                await _started(world)
                assert await _short_day(world) == 1
                # Doubts about an order that never left are over after minutes.
                for number in range(7, 12):
                    await world.minute(FIRST_MINUTE + number, dict.fromkeys(SYMBOLS, CALM))
                    await asyncio.sleep(0)
                state, book = world.core.state, world.venue.book
                assert set(state.ledger.fills.values()) == {fill for _, fill in book.fills}
                assert max(Counter(each.client_id for each in world.sent).values(), default=0) <= 1
                assert not book.open, (at, after)
                assert not book.positions, (at, after)
                assert world.decided == whole.decided
                await world.stop()

    _run(test)


def test_late_restart_declines_as_stale() -> None:
    """A trader that comes back after minutes accepts nothing of these, and still decides about all."""

    async def test(world: World) -> None:
        world.signal(_candidate("BTCUSDT", "long", FIRST_MINUTE))
        bars = dict.fromkeys(SYMBOLS, CALM)
        world.clock.minute = FIRST_MINUTE + 1
        await world.trader.on_minute(FIRST_MINUTE, bars)
        assert [reason for _, reason in world.decided] == ["stale"]
        assert not world.sent

    _in_world(test)


def test_refused_entry_frees_the_symbol() -> None:
    """A risk limit refuses: the intent is skipped with its reason, and the next signal is judged afresh."""

    async def test(world: World) -> None:
        for minute in (FIRST_MINUTE, FIRST_MINUTE + 1):
            world.signal(_candidate("BTCUSDT", "long", minute))
            await world.minute(minute, dict.fromkeys(SYMBOLS, CALM))
        intents = [each for held in world.store.intents.values() for each in held.intents]
        assert [(each.outcome, each.reason) for each in intents] == 2 * [
            ("skipped", "order_notional")
        ]
        assert [reason for _, reason in world.decided] == ["", ""]
        assert not world.sent

    _in_world(test, replace(LIMITS, order_notional=100 * UNIT))


def test_refused_target_is_sent_again() -> None:
    """One order in ten seconds: the stop comes first, and the target in the next minute."""

    async def test(world: World) -> None:
        world.signal(_candidate("BTCUSDT", "long", FIRST_MINUTE))
        seen = []
        for number in range(4):
            await world.minute(FIRST_MINUTE + number, dict.fromkeys(SYMBOLS, CALM))
            seen.append([each.kind for each in world.sent])
        both = ["market", "stop", "limit"]
        assert seen == [["market"], ["market"], ["market", "stop"], both]
        assert any("orders_per_ten_seconds" in each.lower() for each in world.warnings)

    _in_world(test, replace(WIDE, orders_per_ten_seconds=1))


def test_persons_close_ends_the_trade() -> None:
    """A close at the gateway: the trade ends, and the rules forget the position."""

    async def test(world: World) -> None:
        world.signal(_candidate("BTCUSDT", "long", FIRST_MINUTE))
        bars = dict.fromkeys(SYMBOLS, CALM)
        for number in range(4):
            await world.minute(FIRST_MINUTE + number, bars)
        await world.trader.gateway.close("BTCUSDT", "by-hand", "test")
        await world.drain()
        for number in range(4, 7):
            await world.minute(FIRST_MINUTE + number, bars)
        (trade,) = world.closed.values()
        assert trade.exit_reason == "gateway"
        assert [each.parent for each in world.sent].count("by-hand") == 1
        assert not world.trader.decider.keeper.positions
        assert not world.core.state.ledger.positions

    _in_world(test)


def test_places_without_messages_are_kept() -> None:
    """A partition that had no message yet: what comes while no trader runs is read by the next one."""

    async def test() -> None:
        world = await _started(World(DAY_OF_ALL))
        world.trader.begin_at({0: 7, 3: 4})
        world.trader.take(_candidate("BTCUSDT", "long", FIRST_MINUTE), 0, 9)
        await world.minute(FIRST_MINUTE, dict.fromkeys(SYMBOLS, CALM))
        world.start_trader()
        assert world.trader.offsets == {0: 10, 3: 4}
        await world.stop()

    _run(test)
