"""Funding rates of a span, with the missing ones named. Readers of the lake are in readers.py."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline_assets.market.funding_intervals import missing_times
from pipeline_assets.market.step_tables import FundingRate
from pipeline_assets.market.windows import Window
from pipeline_assets.research.backtest_types import FundingReader, MissingFunding

_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class FundingOfSpan:
    """The rates of one symbol, in the order of time. A missing one has a rate of None."""

    rates: Sequence[FundingRate]
    missing: Sequence[MissingFunding]


def completed(symbol: str, rates: Iterable[FundingRate], window: Window) -> FundingOfSpan:
    """Return the rates of a window, and name the missing ones by the rule of market/funding_intervals.py."""
    import polars as pl

    held = sorted((each for each in rates if each.rate is not None), key=lambda each: each.time)
    known = pl.DataFrame(
        {
            "symbol": [symbol] * len(held),
            "funding_time": [each.time for each in held],
            "interval_hours": [each.interval_hours for each in held],
        },
        schema={
            "symbol": pl.String,
            "funding_time": pl.Datetime("us", "UTC"),
            "interval_hours": pl.Int64,
        },
    )
    absent = [FundingRate(each, None) for each in missing_times(known, window.start, window.end)]
    whole = sorted([*held, *absent], key=lambda each: each.time)
    return FundingOfSpan(whole, _holes(symbol, whole))


def listed_rates(
    symbol: str, funding: FundingReader, listings: Iterable[Window], window: Window
) -> FundingOfSpan:
    """Return the rates of a window while a symbol was listed, the missing ones named."""
    rates: list[FundingRate] = []
    missing: list[MissingFunding] = []
    for each in listings:
        start, end = max(each.start, window.start), min(each.end, window.end)
        if start < end:
            found = completed(symbol, funding(symbol, Window(start, end)), Window(start, end))
            rates += found.rates
            missing += found.missing
    return FundingOfSpan(rates, missing)


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
