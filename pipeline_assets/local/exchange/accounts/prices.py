"""The price of a contract at a moment, and the prices it had since another one, from the exchange's candles.

Within a minute the price moves as the open candle shows it (`unfinished` in candles.py): the close moves
straight from open to close, high and low grow steadily. Every answer is a pure function of candle and time,
so fills do not depend on when a client asks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from pipeline_assets.local.exchange.candles import CLOSE, HIGH, LOW, OPEN
from pipeline_assets.local.exchange.intervals import DAY, MINUTE
from pipeline_assets.local.exchange.market import Market

LOOK_BACK_MINUTES = 1440
KEPT = 20_000


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute's path, in units of 10^-places.

    Attributes:
        start: the first millisecond with a price; in a minute after an outage not the full minute.
        end: the last millisecond.
    """

    start: int
    end: int
    open: int
    high: int
    low: int
    close: int
    tick: int
    places: int

    def _share(self, moment: int) -> int:
        # The whole range has been seen when the minute ends, not a millisecond later.
        return MINUTE if moment >= self.end else max(0, moment - self.start)

    def last(self, moment: int) -> int:
        """Return the last price at a moment."""
        move = (self.close - self.open) * self._share(moment)
        return self.open + move // MINUTE // self.tick * self.tick

    def low_seen(self, moment: int) -> int:
        """Return the lowest price of the minute up to a moment."""
        wick = (min(self.open, self.close) - self.low) * self._share(moment)
        return min(self.open, self.last(moment)) - wick // MINUTE // self.tick * self.tick

    def high_seen(self, moment: int) -> int:
        """Return the highest price of the minute up to a moment."""
        wick = (self.high - max(self.open, self.close)) * self._share(moment)
        return max(self.open, self.last(moment)) + wick // MINUTE // self.tick * self.tick

    def low_since(self, after: int, moment: int) -> int:
        """Return the lowest price in (after, moment]."""
        seen = self.low_seen(moment)
        if after < self.start or seen < self.low_seen(after):
            return seen
        return min(self.last(after), self.last(moment))

    def high_since(self, after: int, moment: int) -> int:
        """Return the highest price in (after, moment]."""
        seen = self.high_seen(moment)
        if after < self.start or seen > self.high_seen(after):
            return seen
        return max(self.last(after), self.last(moment))

    def price(self, units: int) -> Decimal:
        """Return a price from its units."""
        return Decimal(units).scaleb(-self.places)


@dataclass(frozen=True, slots=True)
class Touch:
    """When a price was reached first, and the price that was seen then."""

    time: int
    price: Decimal


class Prices:
    """The prices of a market's contracts."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._kept: dict[tuple[str, int], Minute | None] = {}

    def forget(self) -> None:
        """Read candles anew: outages or contracts have changed."""
        self._kept.clear()

    def minute(self, symbol: str, moment: int) -> Minute | None:
        """Return the minute that a moment falls into, or None where it has no trade."""
        start = moment - moment % MINUTE
        key = symbol, start
        if key not in self._kept:
            if len(self._kept) > KEPT:
                self._kept.clear()
            self._kept[key] = self._read(symbol, start)
        return self._kept[key]

    def _read(self, symbol: str, start: int) -> Minute | None:
        contract = self._market.contracts[symbol]
        if not contract.onboard_ms - MINUTE < start < contract.delivery_ms:
            return None
        block = self._market.minutes(symbol, start, start + MINUTE)
        if not len(block.open_times):
            return None
        opened, high, low, close = (int(block.values[row, 0]) for row in (OPEN, HIGH, LOW, CLOSE))
        places = self._market.source.decimals(symbol, "1m", start - start % DAY).price
        first = max(start, int(block.open_times[0]))
        return Minute(
            first, start + MINUTE - 1, opened, high, low, close, contract.tick_units, places
        )

    def last(self, symbol: str, moment: int) -> Decimal | None:
        """Return the last price at a moment, None where there was none for a day."""
        minute = self.minute(symbol, moment)
        if minute is not None and minute.start <= moment:
            return minute.price(minute.last(moment))
        for back in range(1, LOOK_BACK_MINUTES + 1):
            minute = self.minute(symbol, moment - back * MINUTE)
            if minute is not None:
                return minute.price(minute.close)
        return None

    def touch(
        self, symbol: str, price: Decimal, *, falling: bool, after: int, until: int
    ) -> Touch | None:
        """Return when the price fell (or rose) to `price` in (after, until], which is part of one minute."""
        minute = self.minute(symbol, until)
        if minute is None or until < minute.start:
            return None
        units = price.scaleb(minute.places)

        def reached(moment: int) -> bool:
            if falling:
                return minute.low_since(after, moment) <= units
            return minute.high_since(after, moment) >= units

        if not reached(until):
            return None
        first = earliest(reached, max(after + 1, minute.start), until)
        seen = minute.low_since if falling else minute.high_since
        return Touch(first, minute.price(seen(after, first)))

    def extreme(self, symbol: str, *, lowest: bool, after: int, until: int) -> Decimal | None:
        """Return the lowest (or highest) price in (after, until], which is part of one minute."""
        minute = self.minute(symbol, until)
        if minute is None or until < minute.start:
            return None
        seen = minute.low_since if lowest else minute.high_since
        return minute.price(seen(after, until))


def earliest(reached: Callable[[int], bool], low: int, high: int) -> int:
    """Return the first moment at which something holds that holds at `high` and from then on."""
    while low < high:
        middle = (low + high) // 2
        if reached(middle):
            high = middle
        else:
            low = middle + 1
    return low
