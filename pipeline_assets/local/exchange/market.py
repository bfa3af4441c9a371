"""The answer to a klines request: pages over a candle source, up to the clock, from bounded caches.

The protocol around it (parameters, weights, faults) is in server.py; where candles come from is in
synthetic.py and parquet.py.
"""

import json
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pipeline_assets.local.exchange.candles import (
    Block,
    CandleSource,
    aggregate,
    empty_block,
    known,
    render,
)
from pipeline_assets.local.exchange.catalogue import catalogue
from pipeline_assets.local.exchange.intervals import DAY, HOUR, INTERVALS, MINUTE
from pipeline_assets.local.exchange.outages import Outage
from pipeline_assets.local.exchange.synthetic import SyntheticCandles

ROWS_KEPT = 1_000_000
"""Rendered rows in the cache, 190 MB at most: a month of minutes of twenty symbols, so that who measures
a client does not measure this; the live windows of 900 symbols in three intervals are 75 MB."""

DAYS_KEPT = 300_000
"""Minutes in the cache of whole days, some 25 MB: 208 symbol-days, for pages of history."""

HOURS_KEPT = 200_000
"""Minutes in the cache of hours, some 17 MB: the newest hour of thousands of symbols."""

Kept = TypeVar("Kept")


class RecentlyUsed(Generic[Kept]):
    """A cache that forgets what was not asked for longest, once its entries weigh too much."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.weight = 0
        self.entries: OrderedDict[tuple[str, str, int], tuple[int, Kept]] = OrderedDict()

    def get(self, key: tuple[str, str, int]) -> Kept | None:
        """Return the entry, or None."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        self.entries.move_to_end(key)
        return entry[1]

    def put(self, key: tuple[str, str, int], weight: int, value: Kept) -> Kept:
        """Keep and return `value`; an entry weighs at least 1, so that empty ones go too."""
        self.entries[key] = (max(1, weight), value)
        self.weight += max(1, weight)
        while self.weight > self.capacity and len(self.entries) > 1:
            self.weight -= self.entries.popitem(last=False)[1][0]
        return value

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self.weight = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """Rendered candles and their open times, ascending."""

    open_times: "array[int]"
    rows: list[bytes]

    def slice(self, low: int, high: int) -> list[bytes]:
        """Return the rows with low <= open time <= high."""
        return self.rows[bisect_left(self.open_times, low) : bisect_right(self.open_times, high)]


class Market:
    """The candles of an exchange as its clients see them."""

    def __init__(self, source: CandleSource, outages: Sequence[Outage] = ()) -> None:
        self.source = source
        self.contracts = source.contracts
        self.outages = tuple(outages)
        self._rendered: RecentlyUsed[Rows] = RecentlyUsed(ROWS_KEPT)
        self._days: RecentlyUsed[Block] = RecentlyUsed(DAYS_KEPT)
        self._hours: RecentlyUsed[Block] = RecentlyUsed(HOURS_KEPT)

    def set_outages(self, outages: Sequence[Outage]) -> None:
        """Change what happened."""
        self.outages = tuple(outages)
        for cache in (self._rendered, self._days, self._hours):
            cache.clear()

    def rows(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[list[Any]]:
        """Return the truth: every finished candle with start_ms <= open time < end_ms, clock left aside.

        Returns:
            Rows of Binance's twelve fields as a client decodes them from JSON.
        """
        found = self.rendered(symbol, interval, start_ms, end_ms)
        rows: list[list[Any]] = json.loads(b"[" + b",".join(found) + b"]")
        return rows

    def rendered(self, symbol: str, interval: str, start_ms: int, end_ms: int) -> list[bytes]:
        """Return what `rows` returns, each row still a JSON array."""
        span = INTERVALS[interval]
        first, end = self.source.lifetime(symbol)
        low, high = max(start_ms, first - first % span), min(end_ms, end) - 1
        return self._oldest(symbol, interval, low, high, (end_ms - start_ms) // span + 1)

    def page(
        self,
        symbol: str,
        interval: str,
        start_ms: int | None,
        end_ms: int | None,
        limit: int,
        now_ms: int,
        settling_ms: int = 0,
    ) -> list[bytes]:
        """Return the rows of one reply, ascending, each a JSON array.

        Args:
            symbol: one of `contracts`.
            interval: one of INTERVALS.
            start_ms: first open time; None takes the newest rows.
            end_ms: last open time, included; None is no bound.
            limit: most rows.
            now_ms: the exchange's clock; the candle it falls into is returned unfinished.
            settling_ms: how long after its close a candle is still served short.
        """
        span = INTERVALS[interval]
        first, end = self.source.lifetime(symbol)
        low = max(start_ms or 0, first - first % span)
        high = min(now_ms, end - 1, now_ms if end_ms is None else end_ms)
        known_ms = now_ms - settling_ms
        finished = known_ms - known_ms % span - span
        forming = range(max(finished + span, low + -low % span), high + 1, span)
        high = min(high, finished)
        if start_ms is not None:
            closed = self._oldest(symbol, interval, low, high, limit)
            if len(closed) == limit:
                return closed
            return (closed + self._forming(symbol, interval, forming, now_ms, known_ms))[:limit]
        partial = self._forming(symbol, interval, forming, now_ms, known_ms)
        closed = self._newest(symbol, interval, low, high, max(0, limit - len(partial)))
        return (closed + partial)[-limit:]

    def _oldest(self, symbol: str, interval: str, low: int, high: int, most: int) -> list[bytes]:
        """Return the first `most` finished candles with low <= open time <= high."""
        found: list[bytes] = []
        part = part_span(interval)
        for start in range(low - low % part, high + 1, part):
            found += self._part(symbol, interval, start).slice(low, high)
            if len(found) >= most:
                break
        return found[:most]

    def _newest(self, symbol: str, interval: str, low: int, high: int, most: int) -> list[bytes]:
        """Return the last `most` finished candles with low <= open time <= high."""
        found: list[bytes] = []
        part = part_span(interval)
        for start in range(high - high % part, low - part, -part):
            if len(found) >= most:
                break
            found = self._part(symbol, interval, start).slice(low, high) + found
        return found[-most:] if most else []

    def _forming(
        self, symbol: str, interval: str, open_times: range, now_ms: int, known_ms: int
    ) -> list[bytes]:
        """Return the rows of the candles that opened at these times, as far as `known_ms` knows them."""
        rows: list[bytes] = []
        for start in open_times:
            day = start - start % DAY
            end = min(start + INTERVALS[interval], now_ms + 1)
            block = None if interval == "1m" else self._native(symbol, interval, day)
            if block is None:
                block, span = self.minutes(symbol, start, end), MINUTE
            else:
                block, span = block.between(start, start + 1), INTERVALS[interval]
            if len(block.open_times):
                seen = known(block, known_ms, span, self.contracts[symbol].tick_units)
                seen = aggregate(seen, INTERVALS[interval])
                decimals = self.source.decimals(symbol, interval, day)
                rows += render(seen, INTERVALS[interval], decimals)
        return rows

    def minutes(self, symbol: str, start: int, end: int) -> Block:
        """Return the 1m candles with start <= open time < end, both in one UTC day.

        Hours are kept apart from days: an ingest run of many symbols needs the newest hour of each again
        every minute, and their days would not fit the cache.
        """
        if start // HOUR == (end - 1) // HOUR:
            return self._hour(symbol, start - start % HOUR).between(start, end)
        return self._day(symbol, start - start % DAY).between(start, end)

    def _hour(self, symbol: str, start: int) -> Block:
        """Return the 1m candles of the hour that begins at `start`."""
        key = (symbol, "1m", start)
        kept = self._hours.get(key)
        if kept is None:
            hour = self._day(symbol, start - start % DAY).between(start, start + HOUR)
            # A view would keep its whole day in memory.
            kept = self._hours.put(key, 60, Block(hour.open_times.copy(), hour.values.copy()))
        return kept

    def _day(self, symbol: str, start: int) -> Block:
        """Return the 1m candles of the day that begins at `start`."""
        key = (symbol, "1m", start)
        kept = self._days.get(key)
        if kept is None:
            kept = self._days.put(key, 1440, self._native(symbol, "1m", start) or empty_block())
        return kept

    def _native(self, symbol: str, interval: str, day: int) -> Block | None:
        """Return the day's candles where the source itself has the interval, outages taken out."""
        block = self.source.candles(symbol, interval, day)
        if block is not None:
            for outage in self.outages:
                block = outage.remaining(symbol, block)
        return block

    def _part(self, symbol: str, interval: str, start: int) -> Rows:
        """Return the rendered candles of the part of a day that begins at `start` ms."""
        key = (symbol, interval, start)
        kept = self._rendered.get(key)
        if kept is not None:
            return kept
        span = INTERVALS[interval]
        day = start - start % DAY
        block = None if interval == "1m" else self._native(symbol, interval, day)
        if block is None:
            minutes = self._day(symbol, day)
            block = minutes if interval == "1m" else aggregate(minutes, span)
        block = block.between(start, start + part_span(interval))
        rows = render(block, span, self.source.decimals(symbol, interval, day))
        part = Rows(array("q", block.open_times.tolist()), rows)
        return self._rendered.put(key, len(rows), part)


def part_span(interval: str) -> int:
    """Return how long a part is that is rendered and cached as one: an hour of 1m, else a day.

    An ingest run of many symbols reads an hour of minutes of each, and rendering their whole day would
    cost twenty-four times that.
    """
    return HOUR if interval == "1m" else DAY


def synthetic_market(
    universe: int | Sequence[str] = 30, seed: int = 1, outages: Sequence[Outage] = ()
) -> Market:
    """Return the market that `exchange --symbols … --seed …` serves, for comparison in tests."""
    return Market(SyntheticCandles(catalogue(universe), seed), outages)
