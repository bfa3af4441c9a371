"""Runs without volume that look false, on a day of the lake. How a run is judged is in
market/zero_volume.py, the check that records them in gap_ledger_days.py.
"""

from collections.abc import Collection
from datetime import date
from typing import TYPE_CHECKING

from pipeline_assets import lake
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.market.zero_volume import false_zero_volume
from pipeline_assets.resources.object_store import ObjectStore

if TYPE_CHECKING:
    import polars as pl


def false_runs(store: ObjectStore, symbols: Collection[str], day: date) -> "pl.DataFrame":
    """Return the false runs without volume that have a candle in a UTC day.

    A run may begin on the day before and end on the day after: its first and last open time say so.
    The neighbouring days are read for those symbols only that have no volume at the day's edge.

    Args:
        store: the lake.
        symbols: to judge.
        day: of the lake; what is not stored contradicts nothing.

    Returns:
        A frame as `false_zero_volume` gives it.

    Raises:
        ObjectStoreError: the bucket cannot be read.
    """
    import polars as pl

    window = day_window(day)
    candles = _candles(store, symbols, window)
    at_edge = {
        symbol
        for interval, held in candles.items()
        for symbol in held.filter(
            pl.col("volume") == 0,
            pl.col("open_time").is_in([window.start, window.end - interval.span]),
        )["symbol"]
    }
    found = false_zero_volume(
        {
            interval: held.filter(~pl.col("symbol").is_in(list(at_edge)))
            for interval, held in candles.items()
        }
    )
    if not at_edge:
        return found
    wider = _candles(store, at_edge, Window(window.start - DAY, window.end + DAY))
    of_day = (pl.col("first") < window.end) & (pl.col("last") >= window.start)
    return pl.concat([found, false_zero_volume(wider).filter(of_day)]).sort(
        "symbol", "first", maintain_order=True
    )


def _candles(
    store: ObjectStore, symbols: Collection[str], window: Window
) -> "dict[Interval, pl.DataFrame]":
    return {
        interval: lake.scan(interval, sorted(symbols), window.start, window.end, store=store)
        .select("symbol", "open_time", "volume")
        .collect()
        for interval in Interval
    }
