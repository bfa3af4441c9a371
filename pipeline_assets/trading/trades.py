"""The trader's trades: an entry, and the orders that protect and end its position. Pure: fills go in, orders
come out. When to act is in trader_orders.py.
"""

from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from pipeline_assets.market.fill_formulas import FillFormulas
from pipeline_assets.market.position_rules import PositionRules
from pipeline_assets.market.position_view import PlannedEntry
from pipeline_assets.market.trading_rules import units
from pipeline_assets.trading.order_ids import child_id, entry_id
from pipeline_assets.trading.order_types import Fill, Kind, Order

# Reasons of exits that are not the trade's own: an order of another caller, and no order that is known.
GATEWAY, OUTSIDE = "gateway", "closed_outside"


class Trade(msgspec.Struct, kw_only=True):
    """One entry and its exits; prices and quantities in 1e-8.

    Attributes:
        entry_id: the client id of the entry.
        sign: 1 for a long, -1 for a short.
        signal_minute: of the candidate, counted from 1970.
        filled, exited: quantities. `value` is the sum of quantity × price of the entry's fills.
        opened_at, closed_at: milliseconds; 0 before.
        stop_at, target_at: prices by the rules; 0 without one.
        stop_id, stop_price: the resting stop; empty and 0 without one.
        replaced: stops that are to be cancelled, since a nearer one rests.
        target_id: the resting target; empty without one.
        exit_id: the exit at the market; empty without one.
        reasons: why a child closes the position, by client id.
        fee: of all fills.
        exit_value: the sum of quantity × price of the exits.
        exit_reason: of the last exit.
        stray_since: the minute since which the position rules do not have the position; 0 while they do.
        outside: quantity that was closed outside the trader, by no order that the trade knows.
        short_since: milliseconds since which the account has less than the trade; 0 while it has all.
        stop_part: the entry's part by which the gateway places the first stop itself; 0 if the trader does.
    """

    entry_id: str
    decision_id: str
    strategy: str
    symbol: str
    sign: int
    quantity: int
    signal_minute: int
    filled: int = 0
    value: int = 0
    exited: int = 0
    exit_value: int = 0
    opened_at: int = 0
    closed_at: int = 0
    stop_at: int = 0
    target_at: int = 0
    stop_id: str = ""
    stop_price: int = 0
    replaced: list[str] = []
    target_id: str = ""
    exit_id: str = ""
    reasons: dict[str, str] = {}
    fee: int = 0
    exit_reason: str = ""
    stray_since: int = 0
    outside: int = 0
    short_since: int = 0
    stop_part: int = 0

    @property
    def entry_price(self) -> int:
        """The average price of the entry; 0 before a fill."""
        return self.value // self.filled if self.filled else 0

    @property
    def exit_price(self) -> int:
        """The average price of the exits; 0 before a fill."""
        return self.exit_value // self.exited if self.exited else 0

    @property
    def closed(self) -> bool:
        """Whether all that was opened is closed again."""
        return 0 < self.filled <= self.exited + self.outside

    @property
    def ended_by_own_order(self) -> bool:
        """Whether the trade is closed, at last by one of its orders or by the venue's liquidation."""
        return self.closed and self.exit_reason not in (GATEWAY, OUTSIDE)

    @property
    def remaining(self) -> int:
        """The quantity that is still open."""
        return max(0, self.filled - self.exited - self.outside)

    @property
    def entry_complete(self) -> bool:
        """Whether no further fill of the entry can come."""
        return 0 < self.quantity <= self.filled

    @property
    def resting(self) -> list[str]:
        """Client ids of the exits that may still rest."""
        children = (*self.replaced, self.stop_id, self.target_id, self.exit_id)
        return [each for each in children if each]

    @classmethod
    def sent(cls, order: Order, signal_minute: int) -> Self:
        """Return the trade that an entry begins."""
        return cls(
            entry_id=order.client_id,
            decision_id=order.decision_id,
            strategy=order.strategy,
            symbol=order.symbol,
            sign=1 if order.side == "buy" else -1,
            quantity=order.quantity,
            signal_minute=signal_minute,
            stop_part=order.stop_part,
        )

    def child_sent(self, order: Order) -> None:
        """Take in an exit that was sent before a crash, by a process that could not note it."""
        if order.client_id in self.reasons:
            return
        if order.kind == "stop":
            self._rest(order)
        elif order.kind == "limit":
            self.target_id, self.reasons[order.client_id] = order.client_id, "target"
        else:
            self.exit_id, self.reasons[order.client_id] = order.client_id, "exit"

    def entry_filled(self, fill: Fill) -> None:
        """Take a fill of the entry in."""
        self.filled += fill.quantity
        self.value += fill.quantity * fill.price
        self.fee += fill.fee
        self.opened_at = self.opened_at or fill.time

    def exit_filled(self, fill: Fill, reason: str) -> None:
        """Take a fill in that makes the position smaller."""
        self.exited += fill.quantity
        self.exit_value += fill.quantity * fill.price
        self.fee += fill.fee
        self.exit_reason = reason
        if self.closed:
            self.closed_at = fill.time

    def closed_outside(self, quantity: int, now: int) -> None:
        """Take in that the account no longer has a part, though no known order closed that part."""
        self.outside += quantity
        self.short_since = 0
        if self.closed:
            self.exit_reason, self.closed_at = OUTSIDE, now

    def protection(
        self, formulas: FillFormulas, rules: PositionRules, again: int = 0
    ) -> list[Order]:
        """Return stop and target for what was filled, as far as these are missing; the stop first.

        The gateway places the first stop of an entry that carries one.

        Args:
            formulas: of the symbol.
            rules: of the strategy.
            again: the minute, if the first ones are at an end: an id is never used for another order.
        """
        self.stop_at, self.target_at = formulas.levels(self.entry_price, self.sign, rules)
        found = []
        if self.stop_id and not rules.trailing_stop:
            # The gateway's stop lies off the first fill's price; the whole entry may have another average.
            self.reasons[self.stop_id] = "stop"
        stop = formulas.stop(self.sign, self.stop_at, self.entry_price, rules)
        if stop > 0 and not self.stop_id and (again or not self.stop_part):
            found.append(self._stop(stop, again, "stop again" if again else "stop"))
        if self.target_at > 0 and not self.target_id:
            purpose = "target again" if again else "target"
            target = self._child(purpose, again, "limit", self.target_at)
            self.target_id = target.client_id
            self.reasons[target.client_id] = "target"
            found.append(target)
        return found

    def refused(self, order: Order) -> None:
        """Take back that an exit was sent; the next minute tries again."""
        self.gone(order.client_id)

    def gone(self, client_id: str) -> None:
        """Forget an exit that does not rest."""
        if client_id in self.replaced:
            self.replaced.remove(client_id)
        elif client_id == self.stop_id:
            self.stop_id, self.stop_price = self.replaced.pop() if self.replaced else "", 0
        elif client_id == self.target_id:
            self.target_id = ""
        elif client_id == self.exit_id:
            self.exit_id = ""

    def trailed(
        self, formulas: FillFormulas, rules: PositionRules, best: int, minute: int
    ) -> Order | None:
        """Return the stop that replaces the resting one; None if nothing changes."""
        if not rules.trailing_stop or not self.stop_id:
            return None
        price = formulas.stop(self.sign, self.stop_at, best, rules)
        if price <= 0 or price == self.stop_price:
            return None
        return self._stop(price, minute - self.signal_minute)

    def _stop(self, price: int, number: int, purpose: str = "stop") -> Order:
        order = self._child(purpose, number, "stop", price)
        self._rest(order)
        return order

    def _rest(self, stop: Order) -> None:
        if self.stop_id and self.stop_id != stop.client_id:
            self.replaced.append(self.stop_id)
        self.stop_id, self.stop_price = stop.client_id, stop.price
        self.reasons[stop.client_id] = "stop" if stop.price == self.stop_at else "trailing_stop"

    def exit(self, reason: str, minute: int) -> Order:
        """Return the order at the market that closes the position."""
        order = self._child("exit", minute - self.signal_minute, "market", 0)
        self.exit_id = order.client_id
        self.reasons[order.client_id] = reason
        return order

    def _child(self, purpose: str, number: int, kind: Kind, price: int) -> Order:
        return Order(
            client_id=child_id(self.entry_id, purpose, number),
            symbol=self.symbol,
            side="sell" if self.sign > 0 else "buy",
            kind=kind,
            quantity=self.filled or self.quantity,
            price=price,
            reduce_only=True,
            strategy=self.strategy,
            decision_id=self.decision_id,
            parent=self.entry_id,
        )


def entry_order(decision_id: str, planned: PlannedEntry, rules: PositionRules) -> Order:
    """Return the order that opens a trade, with the distance to its first stop."""
    parts = [each for each in (rules.stop, rules.trailing_stop) if each]
    return Order(
        client_id=entry_id(decision_id),
        symbol=planned.symbol,
        side="buy" if planned.sign > 0 else "sell",
        kind="market",
        quantity=planned.quantity,
        strategy=planned.strategy,
        decision_id=decision_id,
        leverage=rules.leverage,
        stop_part=units(min(parts)) if parts else 0,
    )


def shared_out(trades: Sequence[Trade], held: Mapping[str, int]) -> list[tuple[Trade, int]]:
    """Return each open trade with the part of its position that the account has, the newest trade first.

    Args:
        trades: the oldest first; the position rules have the newest one.
        held: the account's positions by symbol, in 1e-8, negative for a short.
    """
    left, found = dict(held), []
    for trade in reversed(trades):
        if trade.remaining:
            position = left.get(trade.symbol, 0)
            there = min(trade.remaining, max(0, trade.sign * position))
            left[trade.symbol] = position - trade.sign * there
            found.append((trade, there))
    return found
