"""The trader with gateway and paper venue: equal to the backtest of the same candles, and safe to kill anywhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline_assets.market.candidates import Candidate, candidate_id
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.step_tables import FundingRate, from_minute, to_minute
from pipeline_assets.market.trading_rules import UNIT
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
from pipeline_assets_tests.trading.paper_world import Deaths, KilledError, World

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
    """Candles from `START` on, signals at random in their volume, and some minutes missing."""
    chance = Random(minutes)
    inside = pl.col("open_time").is_between(
        START, START + timedelta(minutes=minutes), closed="left"
    )
    frame = minutes_of(SYMBOLS).filter(inside)
    sides = [chance.choice((2.0, -2.0)) * (chance.random() < share) for _ in range(len(frame))]
    kept = [chance.random() > 0.01 for _ in range(len(frame))]
    return frame.with_columns(volume=pl.Series(np.array(sides))).filter(pl.Series(kept))


def _by_minute(frame: pl.DataFrame) -> dict[int, dict[str, tuple[Bar, float]]]:
    found: dict[int, dict[str, tuple[Bar, float]]] = {}
    columns = ("open_time", "symbol", "open", "high", "low", "close", "volume")
    for time, symbol, *prices, volume in frame.select(columns).iter_rows():
        held = Bar(*(Decimal(str(each)) for each in prices))
        found.setdefault(to_minute(time), {})[symbol] = (held, volume)
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
]


@pytest.mark.parametrize("rules", RULES, ids=["stop", "trail", "reverse"])
@pytest.mark.parametrize("minutes", [90, pytest.param(1440, marks=pytest.mark.matrix)])
def test_paper_trades_equal_the_backtest(rules: dict[str, Any], minutes: int) -> None:
    """Price, quantity, fee, time and reason, with gaps and funding, and all processes killed on the way."""
    frame = _signalling(minutes, 0.15)
    strategy = by_volume(**rules)
    end = START + timedelta(minutes=minutes)

    def rate(_: str, window: Any) -> list[FundingRate]:
        times = [START + timedelta(minutes=each) for each in range(0, minutes, 30)]
        return [FundingRate(time, Decimal("0.0001"), Decimal(50_000)) for time in times]

    result = backtest(
        frame, [strategy], list(SYMBOLS), rate, documents((FIRST, BTC_RULES)), start=START, end=end
    )

    async def test() -> None:
        world = World({NAME: strategy.rules})
        world.clock.minute = to_minute(START)
        await world.start()
        held = _by_minute(frame)
        for number in range(minutes):
            minute = to_minute(START) + number
            bars = {symbol: each for symbol, (each, _) in held.get(minute, {}).items()}
            due = FundingRate(from_minute(minute), Decimal("0.0001"), Decimal(50_000))
            rates = dict.fromkeys(SYMBOLS, due) if number % 30 == 0 else {}
            for symbol, (_, volume) in held.get(minute, {}).items():
                if volume:
                    world.signal(_candidate(symbol, "long" if volume > 0 else "short", minute))
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
        assert sorted(_row(each) for each in trades) == sorted(_expected(each) for each in expected)
        assert state.ledger.funding / UNIT == pytest.approx(
            sum(each["funding"] for each in expected)
        )
        await world.stop()

    _run(test)
