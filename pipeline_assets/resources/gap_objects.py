"""The gap ledger on the lake: Parquet by UTC day. Gaps are judged in collection/coverage.py, and loaded into
the warehouse in warehouse.py.
"""

from collections.abc import Iterable
from datetime import date, datetime
from typing import TYPE_CHECKING

from pipeline_assets.resources.day_frames import encode_frame, read_frame
from pipeline_assets.resources.lake_documents import documented_days, written_times
from pipeline_assets.resources.object_store import ObjectStore

if TYPE_CHECKING:
    import polars as pl

PREFIX = "gaps/"


def gaps_key(day: date) -> str:
    """Return the key of the object that holds a day's gaps."""
    return f"{PREFIX}{day:%Y%m%d}.parquet"


def gap_schema() -> "pl.Schema":
    """Return the columns: `first` and `last` open time and the `count` of candles from one to the other."""
    import polars as pl

    time = pl.Datetime("us", "UTC")
    return pl.Schema(
        {
            "day": pl.Date(),
            "symbol": pl.String(),
            "interval": pl.String(),
            "first": time,
            "last": time,
            "count": pl.Int64(),
            "cause": pl.String(),
        }
    )


def write_gaps(store: ObjectStore, day: date, gaps: "pl.DataFrame") -> str:
    """Store all gaps of a day in place of what was known of it; returns the object's key.

    Idempotent: a repeat replaces the object whole, and the same rows, in whatever order, give the same
    bytes. A day without a gap has an object without rows, which says that it was looked at.

    Args:
        store: the bucket.
        day: the UTC day.
        gaps: a frame of `gap_schema()`, of this day alone.
    """
    ordered = gaps.select(gap_schema().names()).sort("symbol", "interval", "first")
    key = gaps_key(day)
    store.put(key, encode_frame(ordered))
    return key


def judged_days(store: ObjectStore) -> list[date]:
    """Return the days of which `write_gaps` stored an object, ascending."""
    return documented_days(store, PREFIX, ".parquet")


def judged_times(store: ObjectStore) -> dict[date, datetime]:
    """Return when the ledger of each judged day was written, by the store's clock, UTC."""
    return written_times(store, PREFIX, ".parquet")


def forget_gaps(store: ObjectStore, days: Iterable[date]) -> None:
    """Remove the ledgers of days that have to be judged again. May be repeated."""
    store.delete([gaps_key(day) for day in days])


def read_gaps(store: ObjectStore, day: date) -> "pl.DataFrame | None":
    """Return what `write_gaps` stored of a day; None if it was never looked at.

    Raises:
        ObjectStoreError: S3 refuses, or the object is damaged.
    """
    remedy = "Remove it and materialize candle_gaps of its day: the ledger is computed anew."
    return read_frame(store, gaps_key(day), gap_schema(), remedy)
