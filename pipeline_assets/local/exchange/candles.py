"""Candles as whole numbers: blocks, their aggregation, the open candle, and their JSON rows.

All sums are of integers, so an aggregate's decimal strings are exact. Where the numbers come from
is in synthetic.py and parquet.py; which of them a request gets is in market.py.
"""

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline_assets.local.exchange.contracts import Contract

OPEN, HIGH, LOW, CLOSE, VOLUME, QUOTE, TRADES, TAKER, TAKER_QUOTE = range(9)
SUMMED = slice(VOLUME, TAKER_QUOTE + 1)

Numbers = NDArray[np.int64]


class Block(NamedTuple):
    """Candles of one symbol and interval, ascending.

    Attributes:
        open_times: int64, shape (n,), ms.
        values: shape (9, n): open, high, low, close, volume, quote volume, trades, taker buy
            volume, taker buy quote volume, in units of the `Decimals`. int64, or object where a
            file's numbers do not fit.
    """

    open_times: Numbers
    values: Numbers

    def between(self, start: int, end: int) -> "Block":
        """Return the candles with start <= open time < end."""
        first, last = np.searchsorted(self.open_times, (start, end))
        return Block(self.open_times[first:last], self.values[:, first:last])


class Decimals(NamedTuple):
    """How many places the units of a block's prices, volumes and quote volumes have."""

    price: int
    volume: int
    quote: int


class CandleSource(Protocol):
    """Where candles come from: every candle there will ever be, the clock left aside."""

    contracts: dict[str, Contract]

    def candles(self, symbol: str, interval: str, day: int) -> Block | None:
        """Return the candles of the UTC day that begins at `day` ms, or None: aggregate them from 1m."""

    def decimals(self, symbol: str, interval: str, day: int) -> Decimals:
        """Return the units of that day's block (of its minutes, where they are aggregated)."""

    def lifetime(self, symbol: str) -> tuple[int, int]:
        """Return the first open time of the symbol, and the moment after its last minute, ms."""

    def description(self) -> dict[str, object]:
        """Return what /control/state tells about this source."""


def empty_block() -> Block:
    """No candles."""
    return Block(np.empty(0, np.int64), np.empty((9, 0), np.int64))


def aggregate(minutes: Block, span: int) -> Block:
    """Return the candles of `span` ms that these shorter candles make up; none for an empty span."""
    if not len(minutes.open_times):
        return minutes
    buckets = minutes.open_times // span * span
    starts = np.flatnonzero(np.diff(buckets, prepend=-1))
    ends = np.append(starts[1:], len(buckets)) - 1
    values = minutes.values
    gathered = np.empty((9, len(starts)), values.dtype)
    gathered[OPEN] = values[OPEN, starts]
    gathered[HIGH] = np.maximum.reduceat(values[HIGH], starts)
    gathered[LOW] = np.minimum.reduceat(values[LOW], starts)
    gathered[CLOSE] = values[CLOSE, ends]
    gathered[SUMMED] = np.add.reduceat(values[SUMMED], starts, axis=1)
    return Block(buckets[starts], gathered)


def unfinished(block: Block, elapsed: int, span: int, tick: int) -> Block:
    """Return what is seen of a block's only candle `elapsed` ms after its open.

    Every sum and the range grow steadily to the finished values, and the close moves straight from
    the open, so a candle taken too early is short in volume and not just different.
    """
    share = max(0, min(elapsed, span))
    o, h, low, c, *sums = (int(value) for value in block.values[:, 0])
    close = o + (c - o) * share // span // tick * tick
    high = max(o, close) + (h - max(o, c)) * share // span // tick * tick
    lowest = min(o, close) - (min(o, c) - low) * share // span // tick * tick
    sums = [value * share // span for value in sums]
    if sums[0] == 0:
        sums = [0] * len(sums)
    elif sums[TRADES - VOLUME] == 0 < block.values[TRADES, 0]:
        sums[TRADES - VOLUME] = 1
    column = np.array([[o, high, lowest, close, *sums]], block.values.dtype).T
    return Block(block.open_times[:1], column)


def known(block: Block, known_ms: int, span: int, tick: int) -> Block:
    """Return a block's candles that opened by `known_ms` (the first at least), the last of them cut."""
    count = max(1, int(np.searchsorted(block.open_times, known_ms, side="right")))
    last = Block(block.open_times[count - 1 : count], block.values[:, count - 1 : count])
    cut = unfinished(last, known_ms - int(last.open_times[0]), span, tick)
    values = np.hstack((block.values[:, : count - 1], cut.values))
    return Block(block.open_times[:count], values)


def render(block: Block, span: int, decimals: Decimals) -> list[bytes]:
    """Return each candle as Binance's twelve-field JSON array, without blanks."""
    count = len(block.open_times)
    if not count:
        return []
    price, volume, quote = decimals
    columns: list[Numbers] = [block.open_times]
    fields = ["%d"]
    for position, precision in enumerate((price,) * 4 + (volume, quote, 0, volume, quote)):
        values = block.values[position]
        scale = 10**precision
        columns += [values // scale, values % scale] if precision else [values]
        if position == TRADES:
            fields.append("%d")
        else:
            fields.append(f'"%d.%0{precision}d"' if precision else '"%d"')
        if position == VOLUME:
            columns.append(block.open_times + (span - 1))
            fields.append("%d")
    # One % over all rows: a format call a row costs twice as much, and pages are made of rows.
    row = "[" + ",".join(fields) + ',"0"]\n'
    numbers = np.stack(columns, axis=1).ravel().tolist()
    return (row * count % tuple(numbers)).encode().split(b"\n")[:-1]
