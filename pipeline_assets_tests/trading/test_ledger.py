"""The ledger's average entry price and unrealized profit."""

from itertools import permutations

import msgspec
import pytest

from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.trading.ledger import Ledger
from pipeline_assets_tests.trading.test_core import ORDER, fill_of


@pytest.mark.parametrize(
    ("trades", "entry", "profit"),
    [
        ([(1, 100)], 100, 20),
        ([(1, 100), (3, 200)], 175, -220),
        ([(1, 100), (3, 200), (-2, 500)], 175, -110),
        ([(1, 100), (-3, 110)], 110, -20),
        ([(-2, 130), (-2, 110)], 120, 0),
        ([(1, 100), (-1, 130)], 0, 0),
        ([(1, 100), (-1, 130), (1, 140)], 140, -20),
    ],
)
def test_entry_price_is_average(trades: list[tuple[int, int]], entry: int, profit: int) -> None:
    """A reduction keeps the average, a turn begins a new one; the profit is at a price of 120.

    Trades that are booked late, in any order, change neither.
    """
    for booked in permutations(enumerate(trades, 1)):
        ledger = Ledger()
        for number, (quantity, price) in booked:
            side = "buy" if quantity > 0 else "sell"
            order = msgspec.structs.replace(ORDER, side=side, quantity=abs(quantity) * UNIT)
            ledger.book(fill_of(order, number, price, 0))
        assert ledger.entry_price("BTCUSDT") == entry * UNIT
        assert ledger.open_profit("BTCUSDT", 120 * UNIT) == profit * UNIT
