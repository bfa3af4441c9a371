"""Closed minutes out of the slots, one after the other, for the paper venue and the trader. Pure: the caller
reads the slots.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.trading.paper_book import MINUTE

# A symbol may have no trade, or its candle may come with the next run: it is not waited for any longer.
DEADLINE = 40_000


@dataclass
class MinuteFeed:
    """Hands out each minute once, in order.

    Attributes:
        after: the newest minute that was handed out, counted from 1970; -1 begins with the newest closed.
        earliest: how long after a minute's close it is handed out at the earliest, in milliseconds.
    """

    after: int = -1
    earliest: int = 0
    _present: set[str] = field(init=False, default_factory=set)

    def expects(self, now: int) -> bool:
        """Return whether a minute may be due: if not, the slots need not be read."""
        return self._closed(now) > self.after

    def _closed(self, now: int) -> int:
        return (now - self.earliest) // MINUTE - 1

    def due(
        self, now: int, slots: Mapping[str, Iterable[Mapping[str, Any]]]
    ) -> list[tuple[int, dict[str, Bar]]]:
        """Return the minutes that are due, with their candles by symbol; a symbol without one has a gap.

        Args:
            now: the exchange's time in milliseconds.
            slots: the stored candles by symbol, times in milliseconds.
        """
        closed = self._closed(now)
        if self.after < 0:
            self.after = closed - 1
        by_minute: dict[int, dict[str, Bar]] = {}
        for symbol, candles in slots.items():
            for candle in candles:
                minute = candle["open_time"] // MINUTE
                if self.after < minute <= closed:
                    by_minute.setdefault(minute, {})[symbol] = _bar(candle)
        found = []
        for minute in sorted(by_minute):
            bars = by_minute[minute]
            late = now >= (minute + 1) * MINUTE + DEADLINE
            if not (late or self._present <= bars.keys()):
                break
            found.append((minute, bars))
            self._present, self.after = set(bars), minute
        return found


def _bar(candle: Mapping[str, Any]) -> Bar:
    return Bar(*(Decimal(repr(candle[name])) for name in ("open", "high", "low", "close")))
