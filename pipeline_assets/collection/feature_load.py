"""The features of the candles that a run loaded: which spans are merged, and when there is nothing to merge.
The statement is in resources/warehouse_features.py.
"""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from pipeline_assets.collection.fetch_plan import RunKind
from pipeline_assets.collection.findings import moment
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.funding_objects import month_window, months_of
from pipeline_assets.resources.load_times import Mark, read_loaded_until, write_loaded_until
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse_features import FeatureTable

# The embedded server computes a statement in memory: a week of 15m of 500 symbols takes it 1 GB.
_LONGEST = 7 * DAY


def merge_features(
    store: ObjectStore,
    table: FeatureTable,
    interval: Interval,
    days: Sequence[date],
    kind: RunKind,
    load_minutes: int,
) -> dict[str, Any]:
    """Make the table hold the features of these days, and of the candles that look back into these.

    An ingest run whose load of candles was not due merges nothing, so that the warehouse sleeps on. May
    be repeated, after a crash at any point too: a row that is the same already is not written.

    Args:
        store: the lake, with the notes of loads that wait.
        table: the features.
        interval: of the candles; one that has a table.
        days: UTC days, ascending; those between the first and the last are merged too.
        kind: of the run.
        load_minutes: as in the settings, `ingest.load_minutes`.

    Returns:
        The values to report.

    Raises:
        ObjectStoreError, WarehouseError: a system does not answer, or refuses.
    """
    loads_wait = kind is RunKind.INGEST and timedelta(minutes=load_minutes) > interval.span
    loaded = read_loaded_until(store, interval) if loads_wait else None
    if loaded is not None and loaded == read_loaded_until(store, interval, Mark.FEATURES):
        return {"rows merged": 0, "merged until": moment(loaded)}
    results = [table.merge(interval, span.start, span.end) for span in _spans(days)]
    if loaded is not None:
        # After the MERGE: a run that dies before this write leaves the features to the next run.
        write_loaded_until(store, interval, loaded, Mark.FEATURES)
    report: dict[str, Any] = {
        "rows merged": sum(each.rows_merged for each in results),
        "rows inserted": sum(each.rows_inserted for each in results),
        "rows updated": sum(each.rows_updated for each in results),
        "MERGE (s)": round(sum(each.seconds for each in results), 3),
    }
    newest = [each.newest_available_at for each in results if each.newest_available_at]
    if newest:
        report["newest available_at"] = moment(max(newest))
    return report


def whole_months(days: Sequence[date]) -> list[date]:
    """Return the first and last day of the months of some days: funding rates are completed by months."""
    months = list(months_of(Window(day_window(days[0]).start, day_window(days[-1]).end)))
    return [months[0], (month_window(months[-1]).end - DAY).date()]


def _spans(days: Sequence[date]) -> Iterator[Window]:
    start, end = day_window(days[0]).start, day_window(days[-1]).end
    while start < end:
        yield Window(start, min(start + _LONGEST, end))
        start += _LONGEST
