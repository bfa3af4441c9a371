"""The candle intervals that the product collects, and their grid. Windows are in windows.py."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Interval(StrEnum):
    """A candle interval, by the exchange's own name for it.

    Each divides a UTC day, so a day holds whole candles only and the grid starts at the epoch.
    """

    ONE_MINUTE = "1m"
    FIFTEEN_MINUTES = "15m"
    ONE_HOUR = "1h"

    @property
    def span(self) -> timedelta:
        """The time between two open times."""
        return {
            Interval.ONE_MINUTE: timedelta(minutes=1),
            Interval.FIFTEEN_MINUTES: timedelta(minutes=15),
            Interval.ONE_HOUR: timedelta(hours=1),
        }[self]

    @property
    def milliseconds(self) -> int:
        """The time between two open times, in milliseconds."""
        return self.span // timedelta(milliseconds=1)

    @property
    def per_day(self) -> int:
        """How many candles a whole UTC day holds."""
        return DAY // self.span

    def floor(self, moment: datetime) -> datetime:
        """The open time of the candle that `moment` (UTC) falls into."""
        return moment - (moment - EPOCH) % self.span


def to_milliseconds(moment: datetime) -> int:
    """Milliseconds since the epoch of an aware datetime, rounded down."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_milliseconds(value: int) -> datetime:
    """The UTC datetime of milliseconds since the epoch, exact."""
    return EPOCH + timedelta(milliseconds=value)
