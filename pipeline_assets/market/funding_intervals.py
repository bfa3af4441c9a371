"""Which funding rates are missing, and when a symbol's interval changed. Frames come in, times go out.

The exchange settles every 8, 4 or 1 hours, counted from midnight UTC, and changes a symbol's interval as
it likes. Between two rates lies an interval or a gap. A distance counts as an interval

* where the archive states it for either rate, or
* where it occurs next to it a second time, or
* where no neighbour contradicts: after a change from 8 hours to 4 and at once to 1, the only 4 is none.

A distance that is greater than those before and after it is a gap: between 4, 8 and 4 hours one rate is
missing. In a gap at a change of interval as few rates are taken to be missing as explain it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from pipeline_assets.market.intervals import EPOCH, HOUR

if TYPE_CHECKING:
    import polars as pl

USUAL_HOURS = 8
# The exchange publishes a rate within seconds of its hour.
PUBLISHED_WITHIN = timedelta(minutes=2)
# The exchange uses 8, 4 and 1; another divisor of the usual one is believed where it repeats.
_USUAL = (1, 4, 8)
_POSSIBLE = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class IntervalChange:
    """The settlement after which the interval is another one, in hours."""

    symbol: str
    time: datetime
    before: int
    after: int


@dataclass(frozen=True)
class _Span:
    """The distance between two rates: how many hours apart rates are due in it."""

    start: int
    end: int
    step: int

    @property
    def whole(self) -> bool:
        return self.end - self.start == self.step


def missing_times(
    rates: "pl.DataFrame", start: datetime, end: datetime, current: int | None = None
) -> list[datetime]:
    """Return the settlements with start <= time < end of which one symbol's rates have none, ascending.

    A settlement is never invented: before the first and after the last rate the nearest interval is
    taken to go on.

    Args:
        rates: one symbol's rates; rows outside the span help to judge its ends.
        start: UTC, such as the start of a day, or a listing.
        end: UTC, excluded, such as now.
        current: the hours between settlements at present, where the exchange stated them.
    """
    first, last = -((EPOCH - start) // HOUR), -((EPOCH - end) // HOUR)
    hours, spans = _spans(rates, current)
    if hours:
        # A rate alone has no distance to another one, but the archive states its interval.
        alone = next(iter(rates["interval_hours"].drop_nulls()), None) or current or USUAL_HOURS
        before = spans[0].step if spans else alone
        after = current or (spans[-1].step if spans else alone)
        spans = [
            _Span(min(first, hours[0]) - 1, hours[0], before),
            *(span for span in spans if not span.whole),
            _Span(hours[-1], max(last, hours[-1]), after),
        ]
    else:
        spans = [_Span(first - 1, last, current or USUAL_HOURS)]
    return [
        EPOCH + hour * HOUR
        for span in spans
        for hour in range(max(span.start + 1, first), min(span.end, last))
        if hour % span.step == 0
    ]


def interval_changes(rates: "pl.DataFrame") -> list[IntervalChange]:
    """Return the changes of one symbol's interval, ascending; a gap is none."""
    _, spans = _spans(rates, None)
    return [
        IntervalChange(str(rates["symbol"][0]), EPOCH + after.start * HOUR, before.step, after.step)
        for before, after in pairwise(spans)
        if before.whole and after.whole and before.step != after.step
    ]


def _spans(rates: "pl.DataFrame", current: int | None) -> tuple[list[int], list[_Span]]:
    """Return the hours of the rates since the epoch, and the span between each two."""
    ordered = rates.sort("funding_time")
    hours = [(each - EPOCH) // HOUR for each in ordered["funding_time"].to_list()]
    stated = ordered["interval_hours"].to_list()
    return hours, [
        _Span(hours[place], hours[place + 1], _step(place, hours, stated, current))
        for place in range(len(hours) - 1)
    ]


def _step(
    place: int, hours: Sequence[int], stated: Sequence[int | None], current: int | None
) -> int:
    """Return how many hours apart rates are due between two rates."""
    start, end = hours[place], hours[place + 1]
    distance = end - start
    known = [each for each in (stated[place], stated[place + 1]) if each is not None]
    if known:
        return distance if distance in known else _fewest(start, end, known)
    before = start - hours[place - 1] if place else None
    after = hours[place + 2] - end if place + 2 < len(hours) else None
    neighbours = [each for each in (before, after) if each is not None]
    repeats = distance in neighbours and distance in _POSSIBLE
    if repeats or (after is None and distance == current):
        return distance
    # At the oldest rates what came before is unknown; at the newest ones a longer distance is a gap.
    contradicted = before is not None and all(each < distance for each in neighbours)
    if distance in _USUAL and not contradicted:
        return distance
    smaller = [each for each in neighbours if each in _POSSIBLE and each < distance]
    return _fewest(start, end, smaller or [current or USUAL_HOURS, 1])


def _fewest(start: int, end: int, steps: Sequence[int]) -> int:
    """Return the longest of these intervals that has a settlement between two hours."""
    for step in sorted(steps, reverse=True):
        if end - 1 - (end - 1) % step > start:
            return step
    return min(steps)
