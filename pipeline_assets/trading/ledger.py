"""The ledger: every fill once, keyed by symbol and trade id, and every funding payment once.

Positions and the account's result are derived from these and from nothing else.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.trading.order_types import Fill


@dataclass
class Ledger:
    """Fills and payments, and the sums of these.

    Attributes:
        fills: by symbol and trade id.
        positions: quantity by symbol in 1e-8, negative for a short; symbols without a position are absent.
        cash: what fills, fees and funding changed, in 1e-8 of the quote asset.
        executed: filled quantity by symbol and the venue's order id, in 1e-8.
        last_price: the newest fill's price by symbol, for a symbol without any candle.
        newest: the newest fill's time by symbol, by the venue's clock.
        last_trade: the greatest trade id by symbol; a venue counts the trades of a symbol upwards.
    """

    fills: dict[tuple[str, int], Fill] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    cash: int = 0
    fees: int = 0
    funding: int = 0
    executed: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    last_price: dict[str, int] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    last_trade: dict[str, int] = field(default_factory=dict)
    # By symbol: quantity times average entry price of the open position, undivided so that it stays exact.
    _entries: dict[str, int] = field(default_factory=dict)
    _payments: set[tuple[str, int]] = field(default_factory=set)

    def has(self, fill: Fill) -> bool:
        """Return whether a fill is booked."""
        return (fill.symbol, fill.trade_id) in self.fills

    def has_payment(self, symbol: str, time: int) -> bool:
        """Return whether a funding payment is booked."""
        return (symbol, time) in self._payments

    def book(self, fill: Fill) -> None:
        """Add a fill; one that is booked already changes nothing."""
        if self.has(fill):
            return
        self.fills[fill.symbol, fill.trade_id] = fill
        is_late = self.is_late(fill)
        before = self.positions.get(fill.symbol, 0)
        position = before + fill.signed
        if is_late:
            self._enter_anew(fill.symbol)
        else:
            self._enter(fill, before, position)
        if position:
            self.positions[fill.symbol] = position
        else:
            self.positions.pop(fill.symbol, None)
        self.cash -= fill.signed * fill.price // UNIT + fill.fee
        self.fees += fill.fee
        self.executed[fill.symbol, fill.venue_id] += fill.quantity
        self.last_price[fill.symbol] = fill.price
        self.newest[fill.symbol] = max(fill.time, self.newest.get(fill.symbol, 0))
        self.last_trade[fill.symbol] = max(fill.trade_id, self.last_trade.get(fill.symbol, 0))

    def is_late(self, fill: Fill) -> bool:
        """Return whether a later trade of the fill's symbol is booked."""
        return fill.trade_id < self.last_trade.get(fill.symbol, 0)

    def in_order(self, symbol: str) -> list[Fill]:
        """Return a symbol's fills in the order in which the venue made them."""
        fills = [each for each in self.fills.values() if each.symbol == symbol]
        return sorted(fills, key=lambda fill: (fill.time, fill.trade_id))

    def _enter_anew(self, symbol: str) -> None:
        self._entries.pop(symbol, None)
        position = 0
        for each in self.in_order(symbol):
            self._enter(each, position, position + each.signed)
            position += each.signed

    def _enter(self, fill: Fill, before: int, after: int) -> None:
        """Carry the position's entry on: a reduction keeps its average price, a turn begins a new one."""
        entry = self._entries.pop(fill.symbol, 0)
        if before * fill.signed >= 0:
            entry += fill.quantity * fill.price
        elif before * after > 0:
            entry = entry * abs(after) // abs(before)
        else:
            entry = abs(after) * fill.price
        if after:
            self._entries[fill.symbol] = entry

    def entry_price(self, symbol: str) -> int:
        """Return the average entry price of a symbol's open position; 0 without one."""
        position = abs(self.positions.get(symbol, 0))
        return self._entries.get(symbol, 0) // position if position else 0

    def open_profit(self, symbol: str, price: int) -> int:
        """Return a symbol's unrealized profit at a price, without fees and funding; 0 without a position."""
        position = self.positions.get(symbol, 0)
        entry = self._entries.get(symbol, 0)
        return (position * price - (entry if position > 0 else -entry)) // UNIT

    def pay(self, symbol: str, time: int, amount: int) -> None:
        """Add a funding payment; one that is booked already changes nothing."""
        if self.has_payment(symbol, time):
            return
        self._payments.add((symbol, time))
        self.cash += amount
        self.funding += amount

    def result(self, price_of: Callable[[str], int]) -> int:
        """Return profit and loss since the ledger's beginning, open positions at the given prices.

        Args:
            price_of: a symbol's price in 1e-8, or 0: such a symbol counts at its newest fill's price.
        """
        open_value = sum(
            quantity * (price_of(symbol) or self.last_price[symbol]) // UNIT
            for symbol, quantity in self.positions.items()
        )
        return self.cash + open_value

    def difference(self) -> str | None:
        """Return the first symbol whose position is not the sum of its fills, as a sentence, or None."""
        sums: dict[str, int] = defaultdict(int)
        for fill in self.fills.values():
            sums[fill.symbol] += fill.signed
        for symbol in sorted(sums.keys() | self.positions.keys()):
            if sums[symbol] != self.positions.get(symbol, 0):
                return (
                    f"{symbol}: the position is {self.positions.get(symbol, 0)}, and its fills "
                    f"sum up to {sums[symbol]} (in 1e-8)"
                )
        return None
