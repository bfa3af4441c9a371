"""Windows: the span of an object, the newest closed candle, the span that an ingest run has to read.

No frames here (gaps.py, cleaning.py) and no object keys (resources/candle_objects.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from pipeline_assets.market.intervals import DAY, EPOCH, Interval


@dataclass(frozen=True, order=True)
class Window:
    """A span of open times, UTC: `start` included, `end` excluded."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        """Refuse a span that is empty, reversed or without a zone."""
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError(f"A window needs aware datetimes, got {self.start!r} and {self.end!r}")
        if self.end <= self.start:
            raise ValueError(f"A window must end after it starts, got {self.start} to {self.end}")

    def candles(self, interval: Interval) -> int:
        """Return how many open times of `interval` the window holds."""
        return (self.end - self.start) // interval.span


def joined(windows: Iterable[Window]) -> list[Window]:
    """The same span as few windows: in order of time, neighbours and overlapping ones as one."""
    found: list[Window] = []
    for window in sorted(windows):
        if found and window.start <= found[-1].end:
            found[-1] = Window(found[-1].start, max(found[-1].end, window.end))
        else:
            found.append(window)
    return found


def common(window: Window, others: Iterable[Window]) -> list[Window]:
    """The parts of `window` that others cover, in order of time."""
    return [
        Window(max(window.start, other.start), min(window.end, other.end))
        for other in joined(others)
        if other.start < window.end and other.end > window.start
    ]


def without(window: Window, others: Iterable[Window]) -> list[Window]:
    """The parts of `window` that no other covers, in order of time."""
    covered = common(window, others)
    starts = [window.start, *(each.end for each in covered)]
    ends = [*(each.start for each in covered), window.end]
    return [Window(a, b) for a, b in zip(starts, ends, strict=True) if a < b]


def bounding_window(windows: Sequence[Window]) -> Window:
    """The least window that holds all of these; there must be one at least."""
    return Window(min(each.start for each in windows), max(each.end for each in windows))


def day_window(day: date) -> Window:
    """The window of a whole UTC day."""
    start = datetime.combine(day, time(), tzinfo=UTC)
    return Window(start, start + DAY)


def days_of(window: Window) -> Iterator[date]:
    """The UTC days that a window touches, in order."""
    day = window.start.date()
    while day_window(day).start < window.end:
        yield day
        day += DAY


def newest_closed(interval: Interval, server_time: datetime, settle: timedelta) -> datetime:
    """The open time of the newest candle that counts as closed.

    A candle is closed when `server_time >= close_time + settle`, where the close time is one
    millisecond before the next open time (Binance's kline field 6).
    """
    return interval.floor(server_time - settle + timedelta(milliseconds=1)) - interval.span


def object_window(interval: Interval, moment: datetime, *, finished: bool) -> Window:
    """Return the window of the object that holds the candle with open time `moment`.

    A finalized day has one object. An open day has objects of the span in the registry: for 1m one
    object an hour, so that an ingest run rewrites an hour and not a day; for 15m and 1h one a day.
    """
    span = DAY if finished else interval.definition.open_object
    start = moment - (moment - EPOCH) % span
    return Window(start, start + span)


def ingest_window(interval: Interval, newest: datetime, newest_stored: datetime | None) -> Window:
    """Return the window that an ingest run reads for one symbol.

    The window goes from the oldest due object window to the newest closed candle. Due are the object
    window of that candle; the object window of the candle two before it, if that is on the same day (the
    hour just ended is read once more, since its last candle may have been incomplete); and all object
    windows of the open day since `newest_stored`. With `newest_stored` None the symbol has no candle of
    this day, and the whole open day is due.
    """
    day_start = day_window(newest.date()).start
    since = [newest, max(newest - 2 * interval.span, day_start)]
    since.append(
        day_start if newest_stored is None else max(newest_stored + interval.span, day_start)
    )
    start = object_window(interval, min(since), finished=False).start
    return Window(start, newest + interval.span)
