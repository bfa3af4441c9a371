"""Time and memory that the gap ledger needs for months of finalized days of 500 symbols.

The baseline is the same ledger without the marks of finalized days: it has to read the open times of
every object. It is measured over a few days in the same run, and scaled. A day's objects have the same
bytes for every symbol, since objects with marks are not read.
"""

import resource
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from pipeline_assets.collection.lake_coverage import gap_ledger
from pipeline_assets.market.candles import candle_schema
from pipeline_assets.market.encoding import encode_candles
from pipeline_assets.market.gap_causes import Cause
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.candle_objects import object_key
from pipeline_assets.resources.finalized_days import Absence, FinalizedDay, mark_finalized
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings
from pipeline_assets_tests.benchmarks.harness import report
from pipeline_assets_tests.fixtures.s3 import S3Server, make_bucket
from pipeline_assets_tests.fixtures.snowflake import day_of_candles

INTERVAL = Interval.ONE_MINUTE
SYMBOLS = [f"S{number:03d}USDT" for number in range(500)]
FIRST = date(2026, 9, 1)
DAYS, READ_DAYS = 60, 2
# The exchange was away for an hour of one of the days that are read.
OUTAGE = Window(
    day_window(FIRST).start + timedelta(hours=10), day_window(FIRST).start + timedelta(hours=11)
)


def main() -> int:
    with tempfile.TemporaryDirectory() as name, S3Server(Path(name) / "s3") as s3:
        bucket = make_bucket(s3)
        store = ObjectStore(bucket.settings())
        settings = Settings(s3=bucket.settings())
        days = [FIRST + number * DAY for number in range(DAYS)]
        etags = [fill(store, day) for day in days]
        reading, lacking = judged(store, settings, READ_DAYS)
        for day, etag in zip(days, etags, strict=True):
            missing = ((OUTAGE, Absence.CONFIRMED),) if day == FIRST else ()
            mark_finalized(
                store, INTERVAL, day, dict.fromkeys(SYMBOLS, FinalizedDay(etag, missing))
            )
        before = peak_mb()
        seconds, found = judged(store, settings, DAYS)
        after = peak_mb()
    outage = len(SYMBOLS) * OUTAGE.candles(INTERVAL)
    if (lacking, found) != ({Cause.NOT_FETCHED: outage}, {Cause.EXCHANGE_OUTAGE: outage}):
        raise RuntimeError(f"The ledger found {lacking} before the days were marked, then {found}.")
    scaled = reading * DAYS / READ_DAYS
    return (
        0
        if report(
            "gaps.sealed_days",
            seconds,
            f"s to judge {DAYS} finalized days of {len(SYMBOLS)} symbols",
            5,
            ratio=scaled / seconds,
            against=f"reading the open times of every object, {READ_DAYS} days, scaled",
            symbol_days_per_s=len(SYMBOLS) * DAYS / seconds,
            peak_mb_before=before,
            peak_mb=after,
        )
        else 1
    )


def fill(store: ObjectStore, day: date) -> str:
    """Store a day of every symbol; returns the ETag of all these objects."""
    window = day_window(day)
    rows = pl.DataFrame(day_of_candles(SYMBOLS[0], window.start, 1), schema=candle_schema())
    there = rows.filter(~pl.col("open_time").is_between(OUTAGE.start, OUTAGE.end, closed="left"))
    body = encode_candles(there, INTERVAL, SYMBOLS[0], window)
    keys = [object_key(INTERVAL, symbol, window.start) for symbol in SYMBOLS]
    [etag] = set(store.each(lambda key: store.put(key, body), keys))
    return etag


def judged(store: ObjectStore, settings: Settings, days: int) -> tuple[float, dict[str, int]]:
    """Seconds to judge the first days, and how many candles were missing by cause."""
    window = Window(day_window(FIRST).start, day_window(FIRST).start + days * DAY)
    lifetimes = dict.fromkeys(SYMBOLS, (window.start - DAY, None))
    began = time.perf_counter()
    found = gap_ledger(store, settings, INTERVAL, window, lifetimes, window.end + 10 * DAY)
    seconds = time.perf_counter() - began
    return seconds, dict(found.group_by("cause").agg(pl.col("count").sum()).rows())


def peak_mb() -> float:
    """The most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
