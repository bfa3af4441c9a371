"""Funding rates of a span, with the missing ones named. Rates are not read here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from pipeline_assets.market.intervals import EPOCH
from pipeline_assets.market.step_tables import FundingRate
from pipeline_assets.market.windows import Window
from pipeline_assets.research.backtest_types import MissingFunding

_HOUR = timedelta(hours=1)
# The exchange's longest interval, and its usual one.
_LONGEST = 8


@dataclass(frozen=True)
class FundingOfSpan:
    """The rates of one symbol, in the order of time. A missing one has a rate of None."""

    rates: Sequence[FundingRate]
    missing: Sequence[MissingFunding]


def completed(symbol: str, rates: Iterable[FundingRate], window: Window) -> FundingOfSpan:
    """Return the rates of a window, and name the missing ones.

    The exchange changes a symbol's interval between 8, 4 and 1 hours, which is no hole. A rate is
    missing between two others if the time between these is longer than 8 hours, or longer than the
    interval before and the interval after. As many are missing as the longer interval allows.
    """
    held = sorted((each for each in rates if each.rate is not None), key=lambda each: each.time)
    first, last = _hour(window.start - timedelta(microseconds=1)) + 1, _hour_up(window.end)
    hours = [first - 1, *(_hour(each.time) for each in held), last]
    steps = [later - earlier for earlier, later in pairwise(hours[1:-1])]
    missing: list[int] = []
    for place, (earlier, later) in enumerate(pairwise(hours)):
        beside = [steps[number] for number in (place - 2, place) if 0 <= number < len(steps)]
        inside = 0 < place < len(hours) - 2
        near = [each for each in beside if each <= _LONGEST]
        interval = max(near, default=min(later - earlier, _LONGEST) if inside else _LONGEST)
        if inside and later - earlier <= max(interval, 1):
            continue
        missing += range(earlier + 1 + -(earlier + 1) % interval, later, interval)
    absent = [FundingRate(EPOCH + hour * _HOUR, None) for hour in missing]
    whole = sorted([*held, *absent], key=lambda each: each.time)
    return FundingOfSpan(whole, _holes(symbol, whole))


def _holes(symbol: str, rates: Sequence[FundingRate]) -> list[MissingFunding]:
    """Return each run of missing rates once."""
    found: list[MissingFunding] = []
    run: list[datetime] = []
    for each in [*rates, None]:
        if each is not None and each.rate is None:
            run.append(each.time)
        elif run:
            found.append(MissingFunding(symbol, run[0], run[-1] + _HOUR, len(run)))
            run = []
    return found


def _hour(moment: datetime) -> int:
    return (moment - EPOCH) // _HOUR


def _hour_up(moment: datetime) -> int:
    return -((EPOCH - moment) // _HOUR)
