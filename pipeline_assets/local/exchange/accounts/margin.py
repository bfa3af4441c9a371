"""Margin: leverage brackets, what positions and orders bind, available balance, liquidation prices. Pure
functions of an account and prices; what follows from them is in matching.py and placing.py.
"""

from collections.abc import Callable
from decimal import Decimal

from pipeline_assets.local.exchange.accounts.model import ZERO, Account, Order, Position

Mark = Callable[[str], Decimal]
AssetOf = Callable[[str], str]

BRACKET_TABLE = """
125 50000 0.004
100 600000 0.005
75 3000000 0.0065
50 12000000 0.01
25 70000000 0.02
20 100000000 0.025
10 230000000 0.05
5 480000000 0.1
4 600000000 0.125
3 800000000 0.15
2 1200000000 0.25
1 1800000000 0.5
"""
"""Largest leverage, largest notional, maintenance margin rate."""


def read_brackets(table: str) -> tuple[tuple[int, int, int, str], ...]:
    """Return the brackets of a table, each with the notional at which it begins."""
    rows = [row.split() for row in table.split("\n") if row]
    floors = [0, *(int(cap) for _, cap, _ in rows)]
    return tuple(
        (int(leverage), floor, int(cap), rate)
        for (leverage, cap, rate), floor in zip(rows, floors, strict=False)
    )


BRACKETS = read_brackets(BRACKET_TABLE)
"""Largest leverage, notional from and to, maintenance margin rate: the same for every contract here."""

LARGEST_LEVERAGE = BRACKETS[0][0]


def deductions() -> tuple[Decimal, ...]:
    """Return by bracket what its maintenance margin is less than rate times notional ("cum")."""
    found, rate = [ZERO], Decimal(BRACKETS[0][3])
    for _, floor, _, text in BRACKETS[1:]:
        found.append(found[-1] + floor * (Decimal(text) - rate))
        rate = Decimal(text)
    return tuple(found)


DEDUCTIONS = deductions()


def bracket_of(notional: Decimal) -> int:
    """Return the place of the bracket that a notional falls into."""
    for place, (_, _, cap, _) in enumerate(BRACKETS):
        if notional <= cap:
            return place
    return len(BRACKETS) - 1


def largest_notional(leverage: int) -> int:
    """Return the largest position that a leverage permits."""
    return max(cap for most, _, cap, _ in BRACKETS if most >= leverage)


def maintenance(notional: Decimal) -> Decimal:
    """Return the maintenance margin of a position."""
    place = bracket_of(notional)
    return notional * Decimal(BRACKETS[place][3]) - DEDUCTIONS[place]


class Margin:
    """One account's margin at one moment."""

    def __init__(self, account: Account, mark: Mark, asset_of: AssetOf) -> None:
        self._account = account
        self._mark = mark
        self._asset_of = asset_of

    def positions(self, asset: str) -> list[Position]:
        """Return the positions that are not empty and have this margin asset."""
        return [each for each in self._account.held() if self._asset_of(each.symbol) == asset]

    def notional(self, position: Position) -> Decimal:
        """Return a position's size at its mark price."""
        return abs(position.amount) * self._mark(position.symbol)

    def unrealized(self, asset: str) -> Decimal:
        """Return the profit of all positions at their mark prices."""
        held = self.positions(asset)
        return sum((each.unrealized(self._mark(each.symbol)) for each in held), ZERO)

    def position_margin(self, position: Position) -> Decimal:
        """Return the initial margin of a position."""
        return self.notional(position) / position.leverage

    def order_margin(self, asset: str) -> Decimal:
        """Return the initial margin of the open orders that would enlarge a position."""
        orders = self._account.open_orders.values()
        return sum(
            (self._one_order(each) for each in orders if self._asset_of(each.symbol) == asset), ZERO
        )

    def _one_order(self, order: Order) -> Decimal:
        if order.reduce_only:
            return ZERO
        position = self._account.position(order.symbol)
        opposite = max(ZERO, -position.amount * order.sign)
        enlarging = max(ZERO, order.remaining - opposite)
        price = order.price or self._mark(order.symbol)
        return enlarging * price / position.leverage

    def isolated_wallets(self, asset: str) -> Decimal:
        """Return the part of the wallet that belongs to isolated positions."""
        return sum((each.isolated_wallet for each in self.positions(asset)), ZERO)

    def cross_equity(self, asset: str, without: Position | None = None) -> Decimal:
        """Return the balance that cross positions share, with their profit, one position left aside."""
        wallet = self._account.wallets.get(asset, ZERO) - self.isolated_wallets(asset)
        for each in self.positions(asset):
            if not each.isolated and each is not without:
                wallet += each.unrealized(self._mark(each.symbol))
        return wallet

    def available(self, asset: str) -> Decimal:
        """Return what new orders may bind."""
        cross = [each for each in self.positions(asset) if not each.isolated]
        bound = sum((self.position_margin(each) for each in cross), ZERO)
        return max(ZERO, self.cross_equity(asset) - bound - self.order_margin(asset))

    def maintenance(self, asset: str, without: Position | None = None) -> Decimal:
        """Return the maintenance margin of the cross positions, one left aside."""
        cross = [
            each for each in self.positions(asset) if not each.isolated and each is not without
        ]
        return sum((maintenance(self.notional(each)) for each in cross), ZERO)

    def liquidation_price(self, position: Position) -> Decimal:
        """Return the mark price at which a position is liquidated, others unchanged; 0 for never."""
        if not position.amount:
            return ZERO
        asset = self._asset_of(position.symbol)
        if position.isolated:
            equity, others = position.isolated_wallet, ZERO
        else:
            equity, others = self.cross_equity(asset, position), self.maintenance(asset, position)
        size = abs(position.amount)
        place = bracket_of(self.notional(position))
        rate = Decimal(BRACKETS[place][3])
        spare = equity - others + DEDUCTIONS[place]
        if position.amount > 0:
            price = (size * position.entry - spare) / (size * (1 - rate))
        else:
            price = (size * position.entry + spare) / (size * (1 + rate))
        return max(ZERO, price)
