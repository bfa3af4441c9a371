"""The cost of a day, from the counts of single runs: how often each kind of run comes, and what that is in
dollars. The counts are taken by bench_cost.py, and the table for people is written by cost_table.py.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from pipeline_assets.collection.due_uploads import load_due, newest_due
from pipeline_assets.market.intervals import DAY, EPOCH, Interval

_HERE = Path(__file__).parent
PRICES, COUNTS = _HERE / "cost_prices.json", _HERE / "cost_counts.json"
SYMBOLS = (10, 100, 500, 900)
_DAYS = 30


@dataclass(frozen=True)
class Measured:
    """The mean counts of one kind of run.

    Attributes:
        symbols: how many were collected.
        run: the kind of run.
        runs: how many were counted.
        counts: by name, the mean of a run: S3 requests by kind, bytes, weight, statements and so on.
    """

    symbols: int
    run: str
    runs: int
    counts: dict[str, float]


@dataclass(frozen=True)
class Day:
    """The requests of a day: counts by name, and the wakes of the warehouse."""

    counts: Counter[str]
    wakes: int


def minute_class(newest: datetime, upload_minutes: int) -> str:
    """Return the kind of the ingest run whose newest candle opens at `newest`.

    The runs of an hour's first two minutes read the ended hour once more.
    """
    due = newest_due(Interval.ONE_MINUTE, newest, upload_minutes) == newest
    after = newest.minute < 2 and newest.hour > 0
    return ("upload" if due else "wait") + ("_after_hour" if after else "")


def runs_of_a_day(upload_minutes: int) -> Counter[str]:
    """Return how often each kind of run comes in a day."""
    minutes = (EPOCH + minute * timedelta(minutes=1) for minute in range(24 * 60))
    found = Counter(minute_class(minute, upload_minutes) for minute in minutes)
    return found + Counter({"tick_15m": 96, "tick_1h": 24, "seal": 1, "candidates": 1})


def loads_of_a_day(load_minutes: int) -> dict[Interval, set[datetime]]:
    """Return the times at which each table is loaded."""
    found: dict[Interval, set[datetime]] = {}
    for interval in (Interval.FIFTEEN_MINUTES, Interval.ONE_HOUR):
        opens = (EPOCH + n * interval.span for n in range(DAY // interval.span))
        found[interval] = {load_due(interval, each, load_minutes) for each in opens} - {EPOCH}
    return found


def measured() -> list[Measured]:
    """Return the counts that bench_cost.py has recorded."""
    return [Measured(**each) for each in json.loads(COUNTS.read_text("utf-8"))["runs"]]


@cache
def prices() -> dict[str, Any]:
    """Return the prices, their date and their sources."""
    held: dict[str, Any] = json.loads(PRICES.read_text("utf-8"))
    return held


def counts_of(found: Sequence[Measured], run: str, symbols: int) -> tuple[dict[str, float], bool]:
    """Return the mean counts of a kind of run, and whether they were measured at so many symbols.

    Otherwise they lie on the line through those of the two greatest numbers that were measured, or, of one,
    grow with the symbols.
    """
    of_run = {each.symbols: each.counts for each in found if each.run == run}
    if symbols in of_run:
        return of_run[symbols], True
    *_, few, more = [0, *sorted(of_run)]
    counts = of_run.get(few, {}), of_run[more]
    line = {
        name: counts[0].get(name, 0)
        + (value - counts[0].get(name, 0)) * (symbols - few) / (more - few)
        for name, value in counts[1].items()
    }
    return {name: max(value, 0.0) for name, value in line.items()}, False


def day_of(found: Sequence[Measured], symbols: int, upload_minutes: int, load_minutes: int) -> Day:
    """Return what a day asks for under these settings."""
    loads = loads_of_a_day(load_minutes)
    share = {f"tick_{each}": len(times) / (DAY // each.span) for each, times in loads.items()}
    total: Counter[str] = Counter()
    for run, times in runs_of_a_day(upload_minutes).items():
        counts, _ = counts_of(found, run, symbols)
        for name, value in counts.items():
            loaded = share.get(run, 1.0) if name in ("statements", "files_loaded") else 1.0
            total[name] += round(value * times * loaded)
    # Finalizing wakes the warehouse once more.
    return Day(total, len(set().union(*loads.values())) + 1)


def s3_dollars(day: Day) -> float:
    """Return what a month of such days costs in S3 requests, those of the warehouse's COPY included."""
    price = prices()["s3"]
    writes = day.counts["PUT"] + day.counts["LIST"]
    reads = day.counts["GET"] + day.counts["files_loaded"]
    a_day = writes * price["write_per_1000"] + reads * price["read_per_1000"]
    return float(a_day / 1000 * _DAYS)


def warehouse_minutes(day: Day) -> float:
    """Return the minutes that the warehouse is billed for in a day."""
    price = prices()["snowflake"]
    awake = max(price["least_seconds"], price["load_seconds"] + price["auto_suspend_seconds"])
    return float(day.wakes * awake / 60)


def warehouse_dollars(day: Day) -> float:
    """Return what a month of such days costs in warehouse credits."""
    price = prices()["snowflake"]
    credits = warehouse_minutes(day) / 60 * price["credits_per_hour"]
    return float(credits * price["credit"] * _DAYS)


@dataclass(frozen=True)
class WarehouseUse:
    """The load of the warehouse in a day.

    Attributes:
        seconds: for which it is billed.
        statements: beside those of the loads.
    """

    seconds: float
    statements: int

    @property
    def credits(self) -> float:
        """The credits of the day."""
        return float(self.seconds / 3600 * prices()["snowflake"]["credits_per_hour"])


def warehouse_use(load_minutes: int, *, features: bool, inference: bool) -> WarehouseUse:
    """Return what loads, features and the reads of the inference service ask for in a day.

    A wake is shared: features are merged after the load of each interval, and the service reads them a
    minute after the candle's close. The warehouse suspends itself some time after the last of these.
    """
    price = prices()["snowflake"]
    loads = loads_of_a_day(load_minutes)
    wakes = [sum(at in times for times in loads.values()) for at in set().union(*loads.values())]
    per_table = 1 if features else 0
    begun, seconds = price["load_begins_after_close"], 0.0
    read = price["inference_read_after_close"] + price["inference_read_seconds"]
    # Finalizing wakes the warehouse once more, for both tables, and the service reads nothing then.
    for tables, reads in [*((each, inference) for each in wakes), (len(loads), False)]:
        work = price["load_seconds"] + tables * per_table * price["feature_merge_seconds"]
        if reads:
            work = max(work, read - begun)
        seconds += max(price["least_seconds"], work + price["auto_suspend_seconds"])
    # A MERGE and the query for its span; one read.
    statements = 2 * per_table * (sum(wakes) + len(loads)) + (sum(wakes) if inference else 0)
    return WarehouseUse(seconds, statements)
