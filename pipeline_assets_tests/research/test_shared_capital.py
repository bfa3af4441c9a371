"""One account under several strategies and symbols, against an account in plain Python that was written from
docs/backtests.md alone: market orders, funding, gaps, limits, and capital that runs short.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline_assets.market.position_rules import FractionOfEquity, PositionRules
from pipeline_assets.market.step_tables import FillModel, FundingRate
from pipeline_assets.market.strategy import (
    Declaration,
    Strategy,
    StrategyParameters,
    above,
    below,
)
from pipeline_assets.market.trading_rules import TradingRules
from pipeline_assets_tests.market.series import candles
from pipeline_assets_tests.research.held_candles import FIRST, backtest, documents

pytestmark = pytest.mark.xdist_group("compiled")

SYMBOLS = ("AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT")
COLUMNS = ("volume", "quote_volume")
TICK, STEP, TAKER, SLIPPAGE = (Decimal(each) for each in ("0.01", "0.001", "0.0005", "0.0002"))
RULES = TradingRules(TICK, STEP, STEP, Decimal(10**6), Decimal(5))
CAPITAL, SHARE, LEVERAGE, MOST, MINUTES = Decimal(1000), Decimal("0.9"), 2, 3, 1500
RATE = Decimal("0.0003")


def market(chance: np.random.Generator) -> pl.DataFrame:
    """Random candles with gaps; each strategy's signals are in a column of its own."""
    frames = []
    for place, symbol in enumerate(SYMBOLS):
        close = np.round(100 * (place + 1) * np.exp(chance.normal(0, 1e-3, MINUTES).cumsum()), 2)
        signals = {
            name: pl.Series(chance.choice([-2.0, 0.0, 2.0], MINUTES, p=[0.02, 0.96, 0.02]))
            for name in COLUMNS
        }
        whole = candles(close.tolist(), symbol=symbol, first=FIRST).with_columns(
            open=pl.col("close").shift(1).fill_null(pl.col("close")),
            high=(pl.col("close") * 1.003).round(2),
            low=(pl.col("close") * 0.997).round(2),
            **signals,
        )
        frames.append(whole.filter(pl.Series(chance.random(MINUTES) < 0.98)))
    return pl.concat(frames)


@dataclass
class Held:
    """A position, or an entry to come while `entry` is None."""

    owner: int
    side: int
    quantity: Decimal
    margin: Decimal
    due: int
    entry: Decimal | None = None
    opened: int = 0
    fees: Decimal = Decimal(0)
    funding: Decimal = Decimal(0)
    exit_due: int | None = None


@dataclass
class Account:
    """The account in plain Python."""

    cash: Decimal = CAPITAL
    held: dict[str, Held] = field(default_factory=dict)
    last: dict[str, Decimal] = field(default_factory=dict)
    trades: list[tuple[Any, ...]] = field(default_factory=list)
    outcomes: Counter[tuple[int, str]] = field(default_factory=Counter)

    def equity(self) -> Decimal:
        """The cash and the open positions at the last close."""
        return self.cash + sum(
            (self.last[symbol] - each.entry) * each.quantity * each.side
            for symbol, each in self.held.items()
            if each.entry is not None
        )

    def fund(self, symbol: str) -> None:
        each = self.held.get(symbol)
        if each is not None and each.entry is not None:
            paid = -each.side * each.quantity * Decimal(100) * RATE
            self.cash += paid
            each.funding += paid

    def fill(self, minute: int, symbol: str, price: Decimal | None) -> None:
        each = self.held.get(symbol)
        if each is None:
            return
        if price is None:
            if each.entry is None:
                self.outcomes[each.owner, "gap"] += 1
                self.outcomes[each.owner, "accepted"] -= 1
                del self.held[symbol]
            return
        if each.entry is not None and each.exit_due is not None and each.exit_due <= minute:
            at = slipped(price, -each.side)
            profit = (at - each.entry) * each.quantity * each.side
            fee = at * each.quantity * TAKER
            self.cash += profit - fee
            net = profit - fee - each.fees + each.funding
            self.trades.append((symbol, each.owner, each.opened, minute, float(at), float(net)))
            del self.held[symbol]
        elif each.entry is None and each.due <= minute:
            each.entry, each.opened = slipped(price, each.side), minute
            each.margin = each.entry * each.quantity / LEVERAGE
            each.fees = each.entry * each.quantity * TAKER
            self.cash -= each.fees

    def signal(self, minute: int, owner: int, symbol: str, side: int) -> str:
        if symbol in self.held:
            return self.second_signal(minute, owner, self.held[symbol], side)
        if len(self.held) >= MOST:
            return "position_limit"
        price = self.last[symbol]
        free = self.cash - sum(each.margin for each in self.held.values())
        most = max(free, Decimal(0)) / (price * (Decimal(1) / LEVERAGE + TAKER))
        wanted = max(self.equity(), Decimal(0)) * SHARE / price
        quantity = min(wanted, most).quantize(STEP, ROUND_DOWN)
        if quantity < STEP or quantity * price < RULES.min_notional:
            return "insufficient_margin" if most < wanted else "below_minimum"
        self.held[symbol] = Held(owner, side, quantity, quantity * price / LEVERAGE, minute + 2)
        return "accepted"

    def second_signal(self, minute: int, owner: int, each: Held, side: int) -> str:
        if each.owner != owner:
            return "position_held"
        if each.side == side:
            return "same_side"
        if each.exit_due is not None:
            return "exit_pending"
        each.exit_due = minute + 2
        return "accepted"


def slipped(price: Decimal, side: int) -> Decimal:
    """The price of a market order: worse by the slippage, rounded to a tick against it."""
    moved = price * (1 + side * SLIPPAGE)
    return moved.quantize(TICK, ROUND_UP if side > 0 else ROUND_DOWN)


def by_hand(frame: pl.DataFrame) -> Account:
    account = Account()
    rows = {
        (time, symbol): (Decimal(str(opened)), Decimal(str(close)), signals)
        for time, symbol, opened, close, *signals in frame.select(
            "open_time", "symbol", "open", "close", *COLUMNS
        ).iter_rows()
    }
    for minute in range(MINUTES):
        found = {
            symbol: rows[key]
            for symbol in SYMBOLS
            if (key := (FIRST + timedelta(minutes=minute), symbol)) in rows
        }
        if minute % 480 == 0:
            for symbol in SYMBOLS:
                account.fund(symbol)
        for symbol in SYMBOLS:
            opened, close, _ = found.get(symbol, (None, account.last.get(symbol), None))
            account.fill(minute, symbol, opened)
            account.last[symbol] = close
        for owner in range(len(COLUMNS)):
            for symbol, (_, _, signals) in found.items():
                if side := int(np.sign(signals[owner])):
                    account.outcomes[owner, account.signal(minute, owner, symbol, side)] += 1
    return account


@pytest.mark.parametrize("seed", range(3))
def test_account_equals_plain_python(seed: int) -> None:
    """Trades, outcomes of signals and the equity at the end, of two strategies on four symbols."""
    frame = market(np.random.default_rng(seed))
    rules = PositionRules(sizing=FractionOfEquity(value=SHARE), leverage=LEVERAGE)
    chosen = [
        Strategy(
            name,
            "1",
            StrategyParameters(),
            Declaration((), long=above(name, 1.0), short=below(name, -1.0)),
            rules,
        )
        for name in COLUMNS
    ]

    def funding(_: str, window: Any) -> list[FundingRate]:
        times = [FIRST + timedelta(hours=8 * number) for number in range(4)]
        return [
            FundingRate(each, RATE, Decimal(100))
            for each in times
            if window.start <= each < window.end
        ]

    result = backtest(
        frame,
        chosen,
        SYMBOLS,
        funding=funding,
        read_documents=documents((FIRST, RULES)),
        start=FIRST,
        end=FIRST + timedelta(minutes=MINUTES),
        capital=CAPITAL,
        model=FillModel(max_positions=MOST),
    )
    plain = by_hand(frame)
    minutes = lambda time: (time - FIRST) // timedelta(minutes=1)  # noqa: E731
    found = sorted(
        (
            each["symbol"],
            COLUMNS.index(each["strategy"]),
            minutes(each["entry_time"]),
            minutes(each["exit_time"]),
            each["exit_price"],
            each["net"],
        )
        for each in result.trades.to_pylist()
        if not each["open"]
    )
    expected = sorted(plain.trades)
    assert len(expected) > 30
    assert [each[:5] for each in found] == [each[:5] for each in expected]
    assert [each[5] for each in found] == pytest.approx([each[5] for each in expected], abs=1e-6)
    outcomes = {
        (owner, outcome): count
        for owner, name in enumerate(COLUMNS)
        for outcome, count in result.counts.outcomes[f"{name} 1"].items()
        if count
    }
    assert outcomes == {key: count for key, count in plain.outcomes.items() if count}
    assert {"position_held", "position_limit", "gap"} <= {outcome for _, outcome in outcomes}
    final = result.metrics["total"]["final_equity"]
    assert final == pytest.approx(float(plain.equity()), abs=1e-5)
