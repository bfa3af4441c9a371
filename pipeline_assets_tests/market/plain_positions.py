"""Position rules, fills and costs in plain Python over decimals: the reference of the compiled step, written
from the rules' description and sharing no code with the step. No tests here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.trading_rules import Fees, TradingRules

CENT = Decimal("0.00000001")


def down(value: Decimal, unit: Decimal = CENT) -> Decimal:
    return (value / unit).to_integral_value(ROUND_FLOOR) * unit


def up(value: Decimal, unit: Decimal = CENT) -> Decimal:
    return (value / unit).to_integral_value(ROUND_CEILING) * unit


@dataclass
class Held:
    """A position, or an entry that waits for its open."""

    owner: int
    side: int
    quantity: Decimal
    signal: int
    margin: Decimal
    due: int = 0
    entry: Decimal = Decimal(0)
    minute: int = 0
    funding: Decimal = Decimal(0)
    best: Decimal = Decimal(0)
    stop: Decimal | None = None
    target: Decimal | None = None
    liquidation: Decimal | None = None


@dataclass
class Plain:
    """The reference: `minute` moves everything on and returns the fills as tuples."""

    rules: list[PositionRules]
    markets: list[TradingRules]
    fees: Fees
    delay: int
    slippage: Decimal
    most: int
    cash: Decimal
    both_touched: int = 0
    missing: int = 0
    late_exits: int = 0
    outcomes: Counter[tuple[int, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        count = len(self.markets)
        self.held: list[Held | None] = [None] * count
        self.pending: list[Held | None] = [None] * count
        self.reversal: list[Held | None] = [None] * count
        self.exit: list[tuple[int, int] | None] = [None] * count
        self.last: list[Decimal | None] = [None] * count
        self.cooling: dict[tuple[int, int], int] = {}
        self.fills: list[tuple[Any, ...]] = []

    def minute(
        self,
        now: int,
        bars: list[tuple[Decimal, ...] | None],
        signals: list[tuple[int, int, int, Decimal]],
        funding: list[tuple[int, Decimal | None, Decimal | None]],
        settled: set[int],
    ) -> None:
        """Funding at the open, each symbol's candle, then the signals of the close."""
        for symbol, rate, mark in funding:
            self._fund(symbol, rate, mark, bars[symbol])
        for symbol, bar in enumerate(bars):
            if bar is None:
                self._drop(symbol, "gap")
                continue
            self._at_open(now, symbol, bar[0])
            if self.held[symbol]:
                self._in_range(now, symbol, bar)
            self.last[symbol] = bar[3]
            if symbol in settled:
                self._drop(symbol, "not_listed")
                if self.held[symbol]:
                    self._close(now, symbol, bar[3], "delisting")
        for owner, symbol, side, atr in signals:
            bar = bars[symbol]
            assert bar is not None
            self.last[symbol] = bar[3]
            outcome = self._decide(now, owner, symbol, side, atr, symbol in settled)
            self.outcomes[owner, outcome] += 1

    def equity(self) -> Decimal:
        """Cash and the open positions at their last close."""
        return self.cash + sum(
            ((self.last[number] or 0) - each.entry) * each.side * each.quantity
            for number, each in enumerate(self.held)
            if each
        )

    def _reserved(self) -> Decimal:
        every = [*self.held, *self.pending, *self.reversal]
        return sum((each.margin for each in every if each), Decimal(0))

    def _fund(
        self,
        symbol: int,
        rate: Decimal | None,
        mark: Decimal | None,
        bar: tuple[Decimal, ...] | None,
    ) -> None:
        each = self.held[symbol]
        if each is None:
            return
        if rate is None:
            self.missing += 1
            return
        price = mark or (bar[0] if bar else self.last[symbol])
        assert price is not None
        paid = down(down(each.quantity * price) * rate) * -each.side
        self.cash += paid
        each.funding += paid

    def _drop(self, symbol: int, why: str) -> None:
        if entry := self.pending[symbol]:
            self.outcomes[entry.owner, why] += 1
            self.outcomes[entry.owner, "accepted"] -= 1
            self.pending[symbol] = None
            self.exit[symbol] = None
        if entry := self.reversal[symbol]:
            self.outcomes[entry.owner, why] += 1
            self.reversal[symbol] = None

    def _at_open(self, now: int, symbol: int, price: Decimal) -> None:
        if each := self.held[symbol]:
            limit = self.rules[each.owner].time_limit
            leaving = self.exit[symbol]
            if leaving and leaving[0] <= now:
                self.late_exits += leaving[0] < now
                self._close(now, symbol, price, "signal")
            elif limit and now - each.minute >= limit:
                self._close(now, symbol, price, "time_limit")
        entry = self.pending[symbol]
        if entry and entry.due <= now:
            self._open(now, symbol, price, entry)

    def _slipped(self, price: Decimal, side: int, symbol: int) -> Decimal:
        tick = self.markets[symbol].tick_size
        lost = up(price * self.slippage, tick)
        return price + lost if side > 0 else max(price - lost, tick)

    def _open(self, now: int, symbol: int, price: Decimal, entry: Held) -> None:
        self.pending[symbol] = None
        rules, market = self.rules[entry.owner], self.markets[symbol]
        tick = market.tick_size
        paid = self._slipped(price, entry.side, symbol)
        value = entry.quantity * paid
        fee = down(value * self.fees.taker)
        self.cash -= fee
        each = Held(
            entry.owner, entry.side, entry.quantity, entry.signal, up(value / rules.leverage)
        )
        each.entry, each.minute, each.best = paid, now, paid
        if rules.stop:
            each.stop = paid - each.side * max(down(paid * rules.stop, tick), tick)
        if rules.target:
            gain = max(down(paid * rules.target, tick), tick)
            each.target = paid + each.side * gain
            if each.target <= 0:
                each.target = None
        bracket = [b for b in market.brackets if b.notional <= value][-1]
        if each.side > 0:
            level = (value - each.margin - bracket.amount) / (each.quantity * (1 - bracket.rate))
            each.liquidation = up(level, tick) if level > 0 else None
        else:
            level = (value + each.margin + bracket.amount) / (each.quantity * (1 + bracket.rate))
            each.liquidation = down(level, tick)
        self.held[symbol] = each
        self.fills.append(
            (now, symbol, each.owner, "entry", each.side, each.quantity, paid, fee, "")
        )

    def _close(self, now: int, symbol: int, price: Decimal, why: str) -> None:
        each = self.held[symbol]
        assert each is not None
        market, paid, rate = self.markets[symbol], price, self.fees.taker
        if why == "target":
            rate = self.fees.maker
        elif why == "liquidation":
            rate = market.liquidation_fee
        elif why != "delisting":
            paid = self._slipped(price, -each.side, symbol)
        profit = (paid - each.entry) * each.side * each.quantity
        fee = down(each.quantity * paid * rate)
        if why == "liquidation":
            profit = max(profit, -each.margin)
            fee = min(fee, each.margin + profit)
        self.cash += profit - fee
        self.cooling[each.owner, symbol] = now + self.rules[each.owner].cool_down
        self.held[symbol] = None
        if following := self.reversal[symbol]:
            leaving = self.exit[symbol]
            assert leaving is not None
            following.due = leaving[0]
            self.pending[symbol], self.reversal[symbol] = following, None
        self.exit[symbol] = None
        fill = (now, symbol, each.owner, "exit", -each.side, each.quantity, paid, fee, why)
        self.fills.append((*fill, profit, each.funding))

    def _in_range(self, now: int, symbol: int, bar: tuple[Decimal, ...]) -> None:
        each = self.held[symbol]
        assert each is not None
        price, high, low, _ = bar
        long = each.side > 0
        rules, tick = self.rules[each.owner], self.markets[symbol].tick_size
        stop, why = each.stop, "stop"
        if rules.trailing_stop:
            lost = max(down(each.best * rules.trailing_stop, tick), tick)
            trail = each.best - each.side * lost
            if stop is None or (trail > stop if long else trail < stop):
                stop, why = trail, "trailing_stop"

        def reached(level: Decimal | None, worse: bool, at: Decimal) -> bool:
            if level is None:
                return False
            return at <= level if worse == long else at >= level

        worst, best = (low, high) if long else (high, low)
        if reached(each.liquidation, True, price):
            return self._close(now, symbol, price, "liquidation")
        if reached(stop, True, price):
            return self._close(now, symbol, price, why)
        if reached(each.target, False, price):
            return self._close(now, symbol, price, "target")
        stopped, liquidated = reached(stop, True, worst), reached(each.liquidation, True, worst)
        won = reached(each.target, False, best)
        if stopped or liquidated:
            self.both_touched += won
            first = stopped and (not liquidated or reached(each.liquidation, False, stop or price))
            level = stop if first else each.liquidation
            assert level is not None
            return self._close(now, symbol, level, why if first else "liquidation")
        if won:
            assert each.target is not None
            return self._close(now, symbol, each.target, "target")
        each.best = max(each.best, high) if long else min(each.best, low)
        return None

    def _size(
        self, owner: int, symbol: int, atr: Decimal, freed: Decimal
    ) -> tuple[Decimal, Decimal, str]:
        """Quantity and margin of an entry, and what becomes of the signal."""
        rules, market, price = self.rules[owner], self.markets[symbol], self.last[symbol]
        assert price is not None
        sizing = rules.sizing
        wealth = max(self.equity(), Decimal(0))
        if sizing.by == "notional":
            quantity = sizing.value / price
        elif sizing.by == "equity":
            quantity = down(wealth * sizing.value) / price
        elif atr <= 0:
            return Decimal(0), Decimal(0), "no_atr"
        else:
            quantity = down(wealth * sizing.value) / atr
        quantity = min(quantity, market.max_quantity)
        free = max(self.cash - self._reserved() + freed, Decimal(0))
        affordable = down(free * rules.leverage / (1 + rules.leverage * self.fees.taker)) / price
        why = "below_minimum"
        if down(quantity, market.step_size) > down(affordable, market.step_size):
            quantity, why = affordable, "insufficient_margin"
        quantity = down(quantity, market.step_size)
        if quantity < market.min_quantity or quantity * price < market.min_notional:
            return Decimal(0), Decimal(0), why
        return quantity, up(quantity * price / rules.leverage), "accepted"

    def _decide(  # noqa: C901, PLR0911, PLR0912
        self, now: int, owner: int, symbol: int, side: int, atr: Decimal, settled: bool
    ) -> str:
        rules = self.rules[owner]
        allowed = {"both": (1, -1), "long": (1,), "short": (-1,)}[rules.side]
        if each := self.held[symbol] or self.pending[symbol]:
            if each.owner != owner:
                return "position_held"
            if each.side == side:
                return "same_side"
            if self.exit[symbol]:
                return "exit_pending"
            if rules.opposite_signal == "ignore":
                return "opposite_ignored"
            self.exit[symbol] = (now + self.delay, now)
            if rules.opposite_signal == "reverse" and side in allowed:
                quantity, margin, outcome = self._size(owner, symbol, atr, each.margin)
                if outcome == "accepted":
                    self.reversal[symbol] = Held(owner, side, quantity, now, margin)
                else:
                    self.outcomes[owner, outcome] += 1
            return "accepted"
        if settled:
            return "not_listed"
        if side not in allowed:
            return "side_not_allowed"
        if now < self.cooling.get((owner, symbol), 0):
            return "cooling_down"
        busy = [h or p for h, p in zip(self.held, self.pending, strict=True) if h or p]
        if (
            len(busy) >= self.most
            or sum(b.owner == owner for b in busy if b) >= rules.max_positions
        ):
            return "position_limit"
        quantity, margin, outcome = self._size(owner, symbol, atr, Decimal(0))
        if outcome == "accepted":
            entry = Held(owner, side, quantity, now, margin, due=now + self.delay)
            self.pending[symbol] = entry
        return outcome
