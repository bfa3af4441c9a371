"""Figures of the runs of an edition: how long minutes take to the slots, request weight, and the time that
the warehouse is billed for. Where no run was recorded, each says so. Records are read by the caller.
"""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from pipeline_assets.research.daily_report import formats
from pipeline_assets.research.daily_report.parts import Figure, Source
from pipeline_assets.research.daily_report.readers import RunRecord, nothing
from pipeline_assets.wording import counted

SLOTS = "candle_slots_1m"
SLOT_RUNS = Source("metadata of the runs that fill the slots, in Dagster", asset=SLOTS)
_FETCHES = Source("metadata of the runs that fetch candles, in Dagster", asset="raw_candles_1m")
_LOADS = Source("metadata of the runs that load tables, in Dagster", asset="candle_table_15m")
# Snowflake bills a minute at least for each time that the warehouse resumes, and production.sql suspends it
# after a minute without statements.
_LEAST, _IDLE = timedelta(seconds=60), timedelta(seconds=60)
# A first run later than this after the start of a span: Dagster has removed the runs before.
_LATE = timedelta(hours=1)
NOT_READ = "Runs were not read: Dagster keeps no records where the report was made."
_NOT_KEPT = "Dagster keeps no run of this span that says so."
QUANTILES = (0.5, 0.95, 0.99, 1.0)


def run_figures(runs: Sequence[RunRecord] | None, start: datetime) -> tuple[Figure, ...]:
    """Return the figures of weight and of the warehouse's cost over a span from `start`."""
    return _weight(runs, start), _warehouse(runs, start)


def kept_since(runs: Sequence[RunRecord] | None, start: datetime) -> str:
    """Return the time of the first run that Dagster keeps, for a sentence; empty if it keeps all.

    Housekeeping removes runs after days, so figures of a week and a month are of its last days only.
    """
    first = min((each.at for each in runs or ()), default=start)
    return (
        f" since {first:%Y-%m-%d %H:%M}, the first that Dagster keeps"
        if first - start > _LATE
        else ""
    )


def slot_lags(runs: Sequence[RunRecord] | None) -> list[float]:
    """Return the seconds from each minute's close until the slots held it, ascending."""
    found = [each.lag for each in runs or () if each.asset == SLOTS and each.lag is not None]
    return sorted(found)


def quantiles(values: Sequence[float]) -> list[float]:
    """Return the median, the 95th and 99th percentile and the largest value; NaN of nothing."""
    if not values:
        return [math.nan] * len(QUANTILES)
    return [float(each) for each in np.quantile(np.asarray(values), QUANTILES)]


def billed(records: Sequence[RunRecord]) -> tuple[int, timedelta]:
    """Return how often the warehouse resumed for these runs, and the time that it is billed for.

    A run ends a minute of billing at least after its last statement, as the warehouse waits before it
    suspends itself; runs within this minute share the resumption.
    """
    merged: list[tuple[datetime, datetime]] = []
    for each in sorted(records, key=_began):
        begins, ends = _began(each), each.at + _IDLE
        if merged and begins <= merged[-1][1]:
            start, end = merged.pop()
            merged.append((start, max(end, ends)))
        else:
            merged.append((begins, ends))
    total = sum((max(end - start, _LEAST) for start, end in merged), timedelta(0))
    return len(merged), total


def _began(record: RunRecord) -> datetime:
    return record.at - timedelta(seconds=record.warehouse or 0)


def _why(runs: Sequence[RunRecord] | None) -> str:
    return NOT_READ if runs is None else _NOT_KEPT


def _weight(runs: Sequence[RunRecord] | None, start: datetime) -> Figure:
    spent = [each.weight for each in runs or () if each.weight]
    if not spent:
        return nothing("Request weight", _why(runs), _FETCHES)
    since = kept_since(runs, start)
    detail = f"spent by {counted(len(spent), 'run')}{since}; at most {max(spent):,} by one"
    return Figure("Request weight", formats.count(sum(spent)), detail, _FETCHES)


def _warehouse(runs: Sequence[RunRecord] | None, start: datetime) -> Figure:
    label = "Warehouse, billed"
    used = [each for each in runs or () if each.warehouse is not None]
    if not used:
        return nothing(label, _why(runs), _LOADS)
    wakes, total = billed(used)
    minutes, credits = total / timedelta(minutes=1), total / timedelta(hours=1)
    detail = (
        f"estimate: {counted(len(used), 'load')} in {counted(wakes, 'resumption')}"
        f"{kept_since(runs, start)}; {credits:.2f} credits of an X-Small. The account's own bill is not read."
    )
    return Figure(label, f"{minutes:,.0f} min", detail, _LOADS)
