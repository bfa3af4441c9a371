"""Runs without volume that look false, on a day of the lake. How a run is judged is in
market/zero_volume.py, the check that records them in gap_ledger_days.py.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from pipeline_assets import lake
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.windows import Window, day_window, days_of, joined
from pipeline_assets.market.zero_volume import false_zero_volume
from pipeline_assets.resources.day_findings import read_zero_volume, zero_volume_days
from pipeline_assets.resources.object_store import ObjectStore

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class ZeroVolume:
    """Runs of stored candles without volume that another interval contradicts.

    Attributes:
        runs: one entry a run, by symbol, first open time and interval.
        checked: how many finished days of the windows the asset check `zero_volume` has judged.
        unchecked: how many it has not judged: nothing is known of these.
    """

    runs: list[dict[str, Any]]
    checked: int
    unchecked: int


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


def zero_volume_of(
    store: ObjectStore,
    windows: Mapping[Interval, Window],
    symbols: Collection[str],
    at: datetime,
) -> ZeroVolume:
    """Judge again what the asset check found on finished days: a day may have been fetched again since."""
    spans = joined([window for window in windows.values() if window.start < window.end])
    finished = {day for span in spans for day in days_of(span) if day < at.date()}
    recorded = sorted(finished.intersection(zero_volume_days(store)))
    records = store.each(lambda day: read_zero_volume(store, day), recorded)
    # A day whose record is damaged counts as not checked: it may have had false runs.
    checked = {
        day: found for day, found in zip(recorded, records, strict=True) if found is not None
    }

    def judge(day: date) -> list[dict[str, Any]]:
        found = set(symbols).intersection(checked[day])
        return list(false_runs(store, found, day).iter_rows(named=True)) if found else []

    # A run across midnight is found on both days.
    runs = {
        (run["symbol"], run["first"], run["interval"]): run
        for held in map(judge, checked)
        for run in held
        if run["interval"] in windows
    }
    ordered = [run for _, run in sorted(runs.items())]
    return ZeroVolume(ordered, len(checked), len(finished) - len(checked))
