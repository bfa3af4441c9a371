"""The passing of time: orders are reached, triggers pulled, positions liquidated, funding paid, contracts
delivered, each at its own moment and in order of time. The result depends on candles and requests only, not
on how often the clock is read.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from pipeline_assets.local.exchange.accounts import events
from pipeline_assets.local.exchange.accounts.algos import TRAILING, falling, trigger
from pipeline_assets.local.exchange.accounts.desk import Desk
from pipeline_assets.local.exchange.accounts.execution import end, end_algo, match
from pipeline_assets.local.exchange.accounts.margin import maintenance
from pipeline_assets.local.exchange.accounts.model import (
    ZERO,
    Account,
    AlgoOrder,
    Order,
    Position,
)
from pipeline_assets.local.exchange.accounts.placing import cancel_all, exchange_order
from pipeline_assets.local.exchange.intervals import HOUR, MINUTE

SETTLED_BY_MS = 1000
MARGIN_CALL_RATIO = Decimal("1.25")


@dataclass(frozen=True)
class Happening:
    """Something due at a moment; `act` checks that it still applies."""

    time: int
    act: Callable[[], None]


class Matching:
    """Moves a desk through time."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def advance(self, now_ms: int) -> None:
        """Let everything happen that is due until `now_ms`, inclusive."""
        desk = self._desk
        while desk.now < now_ms:
            if not desk.later and not any(one.symbols() for one in desk.accounts.values()):
                desk.now = now_ms
                return
            # A chunk never crosses a minute: prices.py knows the path of one minute.
            end_ms = min(now_ms, ((desk.now + 1) // MINUTE + 1) * MINUTE - 1)
            due = list(self._due(desk.now, end_ms))
            if not due:
                desk.now = end_ms
                self._minute_passed()
                continue
            first = min(each.time for each in due)
            desk.now = first
            for each in due:
                if each.time == first:
                    each.act()

    def _due(self, after: int, until: int) -> Iterator[Happening]:
        """Yield what is due in (after, until], as things stand now."""
        desk = self._desk
        if desk.later and desk.later[0][0] <= until:
            yield Happening(max(after + 1, desk.later[0][0]), self._fill_rest)
        for account in desk.accounts.values():
            for symbol in sorted(account.symbols()):
                delivery = desk.contract(symbol).delivery_ms
                if delivery <= until:
                    moment = max(delivery, after + 1)
                    yield Happening(moment, partial(self._deliver, account, symbol))
            for order in account.open_orders.values():
                yield from self._order_due(account, order, after, until)
            for algo in account.open_algos.values():
                yield from self._algo_due(account, algo, after, until)
            for position in account.held():
                yield from self._position_due(account, position, after, until)

    def _order_due(
        self, account: Account, order: Order, after: int, until: int
    ) -> Iterator[Happening]:
        if order.good_till and order.good_till <= until:
            yield Happening(max(order.good_till, after + 1), partial(self._expire, account, order))
        if order.kind != "LIMIT" or any(each[3] is order for each in self._desk.later):
            return
        touch = self._desk.prices.touch(
            order.symbol, order.price, falling=order.side == "BUY", after=after, until=until
        )
        if touch:
            yield Happening(touch.time, partial(self._fill, account, order))

    def _algo_due(
        self, account: Account, algo: AlgoOrder, after: int, until: int
    ) -> Iterator[Happening]:
        if algo.good_till and algo.good_till <= until:
            moment = max(algo.good_till, after + 1)
            yield Happening(moment, partial(self._expire_algo, account, algo))
        price, below = algo.trigger_price, falling(algo)
        if algo.kind == TRAILING:
            if not algo.best:
                return
            price = algo.best * (1 + algo.sign * algo.callback_rate / 100)
            below = algo.side == "SELL"
        touch = self._desk.prices.touch(algo.symbol, price, falling=below, after=after, until=until)
        if touch:
            yield Happening(touch.time, partial(self._trigger, account, algo, touch.price))

    def _position_due(
        self, account: Account, position: Position, after: int, until: int
    ) -> Iterator[Happening]:
        desk = self._desk
        # A settlement lies within a second of a full hour; searching every minute was most of the cost.
        if until - until % HOUR + SETTLED_BY_MS > after:
            for each in desk.funding.settlements(position.symbol, after + 1, until):
                act = partial(self._pay_funding, account, position, each.rate, each.mark_price)
                yield Happening(each.time_ms, act)
        price = desk.margin(account).liquidation_price(position)
        if not price:
            return
        touch = desk.prices.touch(
            position.symbol, price, falling=position.amount > 0, after=after, until=until
        )
        if touch:
            yield Happening(touch.time, partial(self._liquidate, account, position, touch.price))

    # The acts

    def _fill_rest(self) -> None:
        _, _, account, order = heapq.heappop(self._desk.later)
        if order.is_open:
            maker = order.kind == "LIMIT"
            price = order.price if maker else self._desk.price(order.symbol)
            match(self._desk, account, order, price, maker=maker)

    def _fill(self, account: Account, order: Order) -> None:
        if order.is_open:
            match(self._desk, account, order, order.price, maker=True)

    def _trigger(self, account: Account, algo: AlgoOrder, price: Decimal) -> None:
        if algo.is_open:
            trigger(self._desk, account, algo, price)

    def _expire(self, account: Account, order: Order) -> None:
        if order.is_open:
            end(self._desk, account, order, "EXPIRED")

    def _expire_algo(self, account: Account, algo: AlgoOrder) -> None:
        if algo.is_open:
            end_algo(self._desk, account, algo, "EXPIRED")

    def _pay_funding(
        self, account: Account, position: Position, rate: str, mark_price: str
    ) -> None:
        desk = self._desk
        if not position.amount:
            return
        mark = Decimal(mark_price) if mark_price else desk.mark(position.symbol)
        asset = desk.asset_of(position.symbol)
        payment = -position.amount * mark * Decimal(rate)
        desk.pay(account, "FUNDING_FEE", position.symbol, asset, payment)
        if position.isolated:
            position.isolated_wallet += payment
        shown = [(position, mark)] if position.isolated else []
        change = {asset: payment}
        desk.emit(account, events.account_update(account, "FUNDING_FEE", desk.now, change, shown))

    def _liquidate(self, account: Account, position: Position, price: Decimal) -> None:
        if position.amount:
            liquidate(self._desk, account, position.symbol, price)

    def _deliver(self, account: Account, symbol: str) -> None:
        desk, position = self._desk, account.position(symbol)
        for order in list(account.open_orders.values()):
            if order.symbol == symbol:
                end(desk, account, order, "EXPIRED")
        for algo in list(account.open_algos.values()):
            if algo.symbol == symbol:
                end_algo(desk, account, algo, "EXPIRED")
        if position.amount:
            client_id = f"settlement_autoclose-{desk.now}"
            price = desk.mark(symbol)
            exchange_order(desk, account, symbol, client_id, abs(position.amount), price)

    # Once a chunk of time has passed

    def _minute_passed(self) -> None:
        """Follow the price with trailing stops when a minute ends, and call for margin."""
        desk = self._desk
        for account in desk.accounts.values():
            if (desk.now + 1) % MINUTE == 0:
                for algo in account.open_algos.values():
                    if algo.kind == TRAILING:
                        self._trail(algo)
            for position in account.held():
                self._call(account, position)

    def _trail(self, algo: AlgoOrder) -> None:
        """Raise a selling stop's best price to the highest, or lower a buying one's, since it was placed."""
        rising = algo.side == "SELL"
        start = self._desk.now - MINUTE
        after = algo.time if algo.time > start else start
        best = self._desk.prices.extreme(
            algo.symbol, lowest=not rising, after=after, until=self._desk.now
        )
        if best is None:
            return
        if not algo.best and (best - algo.activation_price) * -algo.sign < 0:
            return
        algo.best = (max if rising else min)(algo.best or best, best)

    def _call(self, account: Account, position: Position) -> None:
        """Report a position whose margin is nearly used up, once."""
        desk, asset = self._desk, self._desk.asset_of(position.symbol)
        mark, margin = desk.mark(position.symbol), desk.margin(account)
        needed = maintenance(abs(position.amount) * mark)
        equity, bound = margin.cross_equity(asset), margin.maintenance(asset)
        if position.isolated:
            equity, bound = position.isolated_wallet + position.unrealized(mark), needed
        called = equity < bound * MARGIN_CALL_RATIO
        if called and not position.margin_called:
            desk.emit(account, events.margin_call(account, asset, position, mark, needed, desk.now))
        position.margin_called = called


def liquidate(desk: Desk, account: Account, symbol: str, price: Decimal) -> None:
    """Cancel a symbol's orders and close its position by a liquidation order; a debt is not collected."""
    cancel_all(desk, account, symbol)
    amount = abs(account.position(symbol).amount)
    exchange_order(desk, account, symbol, f"autoclose-{desk.now}", amount, price)
    asset = desk.asset_of(symbol)
    if account.wallets[asset] < ZERO:
        desk.pay(account, "INSURANCE_CLEAR", symbol, asset, -account.wallets[asset])


def deleverage(desk: Desk, account: Account, symbol: str, quantity: Decimal) -> None:
    """Close a part of a position by auto-deleveraging at the price now."""
    exchange_order(desk, account, symbol, "adl_autoclose", quantity, desk.price(symbol))
