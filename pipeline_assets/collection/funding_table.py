"""The warehouse's table of funding rates: which objects it loads. The statements are in
resources/warehouse.py.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.funding_objects import (
    PREFIX,
    funding_key,
    months_of,
    note_loaded,
    noted_months,
    objects_to_load,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.resources.warehouse_statements import FUNDING_TABLE


def load_funding(
    store: ObjectStore,
    warehouse: Warehouse,
    days: Sequence[date],
    root_run: str,
    *,
    all_again: bool = False,
) -> dict[str, Any]:
    """Make the table hold the rates of the months of these days; loads the objects that changed since.

    A table that was dropped or emptied is filled again from all months by the next load that has news.

    May be repeated, after a crash at any point too: what was loaded is noted after the load, and a load that
    is repeated changes no row.

    Args:
        store: the lake.
        warehouse: the tables.
        days: UTC days, ascending.
        root_run: the Dagster root run's id.
        all_again: whether objects are loaded that were loaded before, such as after rows were deleted.

    Raises:
        ObjectStoreError, WarehouseError: a system does not answer, or an object cannot be read.
    """
    span = Window(day_window(days[0]).start, day_window(days[-1]).end)
    due = {month: objects_to_load(store, month, all_again=all_again) for month in months_of(span)}
    if any(due.values()) and warehouse.is_empty(FUNDING_TABLE):
        # Asked before the MERGE, which would hide it from a repeat after a crash.
        due = {
            month: objects_to_load(store, month, all_again=True) for month in noted_months(store)
        }
    keys = [
        funding_key(symbol, month).removeprefix(PREFIX)
        for month, etags in due.items()
        for symbol in sorted(etags)
    ]
    loaded = warehouse.load_funding(keys, root_run)
    for month, etags in due.items():
        if etags:
            note_loaded(store, month, etags)
    return {"objects": len(keys), **loaded.values()}
