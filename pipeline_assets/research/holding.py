"""The prices of every symbol, and the equity of buying and holding all of them beside a backtest. Figures of
the curve are in metrics.py.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline_assets.market.step_tables import to_minute
from pipeline_assets.market.trading_rules import UNIT, Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline_assets.research.candle_blocks import Block

    Array = NDArray[np.float64]


class HoldingPrices:
    """Each symbol's first open, and its last close at each day's end."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self._symbols = symbols
        self._first = np.full(len(symbols), np.nan)
        self._last = np.full(len(symbols), np.nan)
        self._closes: list[Array] = []

    def note(self, block: "Block", grids: Mapping[str, Grid]) -> None:
        """Take the prices of the next block."""
        opens, closes = block.candles[0], block.candles[3]
        start, length = to_minute(block.window.start), opens.shape[1]
        ends = np.append(np.arange(1440 - start % 1440, length, 1440), length)
        found = np.full((len(self._symbols), len(ends)), np.nan)
        for place, symbol in enumerate(self._symbols):
            present = np.flatnonzero(block.flags[place])
            if len(present):
                tick = grids[symbol].tick / UNIT
                if np.isnan(self._first[place]):
                    self._first[place] = opens[place, present[0]] * tick
                at = np.searchsorted(present, ends) - 1
                known = closes[place, present[np.maximum(at, 0)]] * tick
                found[place] = np.where(at >= 0, known, self._last[place])
                self._last[place] = found[place, -1]
            else:
                found[place] = self._last[place]
        self._closes.append(found)

    def curve(self, capital: float) -> "Array":
        """Return the equity of buying every symbol in equal parts and holding it, at each day's end."""
        return holding_curve(self._first, np.concatenate(self._closes, axis=1), capital)


def holding_curve(first: "Array", closes: "Array", capital: float) -> "Array":
    """Return the equity of buying every symbol in equal parts and holding it, without costs.

    Args:
        first: the first open of each symbol; NaN for one without a candle, which is left out.
        closes: (symbols, days), the last close until each day's end; NaN before the first.
        capital: split evenly; a part is cash until its symbol's first candle.
    """
    traded = ~np.isnan(first)
    if not traded.any() or not closes.shape[1]:
        return np.empty(0)
    grown = np.nan_to_num(closes[traded] / first[traded, None], nan=1.0)
    curve: Array = grown.mean(axis=0) * capital
    return curve
