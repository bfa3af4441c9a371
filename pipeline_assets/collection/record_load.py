"""Trading records as a sink: which objects of the lake their tables load, and when there is nothing to load.
The statements are in resources/warehouse_records.py.

A load takes in every object that changed since it was loaded, whatever day it is of: an order of yesterday
changes yesterday's object. Where nothing changed, no statement runs and the warehouse sleeps on. A table that
was dropped or emptied is filled again from all objects by the next load that has news.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import takewhile
from typing import Any

from pipeline_assets.collection.due_uploads import load_due
from pipeline_assets.collection.findings import moment
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.resources.loaded_objects import (
    read_loaded,
    read_views,
    write_loaded,
    write_views,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.record_tables import RecordTable
from pipeline_assets.resources.s3_errors import DamagedObjectError
from pipeline_assets.resources.warehouse import LoadResult, Warehouse
from pipeline_assets.resources.warehouse_connection import WarehouseError
from pipeline_assets.resources.warehouse_records import (
    load_objects,
    make_views,
    view_statements,
)
from pipeline_assets.wording import counted

_DAY = re.compile(r"([0-9]{8})(?:/[^/]+)?\.parquet")


@dataclass(frozen=True)
class RecordLoad:
    """The result of a load.

    Attributes:
        values: to report.
        days: how many objects were loaded of each day.
    """

    values: Mapping[str, Any]
    days: Mapping[date, int]


def load_records(
    store: ObjectStore,
    warehouse: Warehouse,
    table: RecordTable,
    days: Collection[date] | None,
    root_run: str,
    *,
    due: datetime | None = None,
    all_again: bool = False,
) -> RecordLoad:
    """Make a table hold the rows of the lake's objects, by one COPY and one MERGE of those that changed.

    May be repeated, after a crash at any point too: loaded objects are noted after the load, and a load that
    is repeated changes no row.

    Args:
        store: the lake.
        warehouse: the schema.
        table: the table.
        days: UTC days of the objects; None for all.
        root_run: the Dagster root run's id.
        due: as `scheduled_load` returns it; a load that was made up to then is left out. None loads anyway.
        all_again: whether objects are loaded that were loaded before, as after rows were deleted.

    Raises:
        ObjectStoreError, WarehouseError: a system does not answer, or an object is damaged. The other objects
            are loaded and noted first, so that damage of one day keeps no other day out of the table.
    """
    held = read_loaded(store, table, warehouse.target)
    if due is not None and held.until is not None and held.until >= due:
        return RecordLoad({"objects": 0, "loaded until": moment(held.until)}, {})
    known = {} if all_again else held.objects
    stored = _stored(store, table, days)
    if known and _changed(stored, known) and warehouse.is_empty(table.name):
        # Somebody dropped the table. Asked before the MERGE, which would hide it from a repeat after a crash.
        days, known = None, {}
        stored = _stored(store, table, days)
    stored, changed, result, damaged = _load(store, warehouse, table, days, root_run, known, stored)
    kept = {} if days is None else held.objects
    loaded = replace(held, objects={**kept, **stored}, until=due or held.until)
    if loaded != held:
        write_loaded(store, table, loaded)
    if damaged:
        raise WarehouseError(
            f"{table.name} is loaded but for {counted(len(damaged), 'damaged object')}. {' '.join(damaged)}"
        )
    values = {"objects": len(changed), **result.values()} if changed else {"objects": 0}
    return RecordLoad(values, Counter(day for key in changed if (day := _day_of(table, key))))


def scheduled_load(clock: Callable[[], datetime], load_minutes: int) -> datetime | None:
    """Return the time up to which a scheduled load is due; None where every scheduled load is.

    Candles wait by the same rule, so that all tables wake the warehouse together.

    Args:
        clock: gives the exchange's time, UTC; read only where loads wait, for reading it costs a request.
        load_minutes: as in the settings, `ingest.load_minutes`.
    """
    quarter = Interval.FIFTEEN_MINUTES
    if load_minutes * 60 <= quarter.span.total_seconds():
        return None
    return load_due(quarter, quarter.floor(clock()) - quarter.span, load_minutes)


def update_views(store: ObjectStore, warehouse: Warehouse, *, again: bool = False) -> bool:
    """Make the views for people unless they were made as this release declares them; return whether.

    May be repeated, after a crash at any point too.

    Args:
        store: the lake, which keeps the digest of the views that were made.
        warehouse: the schema.
        again: make the views anyway, as after the schema was dropped.

    Raises:
        ObjectStoreError, WarehouseError: a system does not answer, or refuses.
    """
    text = "\n".join([warehouse.target, *view_statements(warehouse.sql)])
    digest = hashlib.sha256(text.encode()).hexdigest()
    if not again and read_views(store) == digest:
        return False
    make_views(warehouse)
    write_views(store, digest)
    return True


def _load(
    store: ObjectStore,
    warehouse: Warehouse,
    table: RecordTable,
    days: Collection[date] | None,
    root_run: str,
    loaded: Mapping[str, str],
    stored: dict[str, str],
    attempts: int = 3,
) -> tuple[dict[str, str], list[str], LoadResult, list[str]]:
    """Load what changed; return ETags of sound objects by key, loaded keys, the result, and damages."""
    changed = _changed(stored, loaded)
    try:
        return stored, changed, load_objects(warehouse, table, changed, root_run), []
    except WarehouseError:
        # A finalize run merges the objects of a day into one, and removes these.
        now = _stored(store, table, days)
        if attempts > 1 and not stored.keys() <= now.keys():
            return _load(store, warehouse, table, days, root_run, loaded, now, attempts - 1)
        damaged = _damaged(store, changed)
        if not damaged:
            raise
    sound = [key for key in changed if key not in damaged]
    result = load_objects(warehouse, table, sound, root_run)
    noted = {key: etag for key, etag in stored.items() if key not in damaged}
    return noted, sound, result, list(damaged.values())


def _changed(stored: Mapping[str, str], loaded: Mapping[str, str]) -> list[str]:
    return [key for key, etag in stored.items() if loaded.get(key) != etag]


def _damaged(store: ObjectStore, keys: Collection[str]) -> dict[str, str]:
    """Return what is wrong with the objects that no Parquet reader can read, by key."""
    from pipeline_assets.market.encoding import MalformedObjectError, decode_parquet

    def damage(key: str) -> str:
        try:
            body = store.get(key)
            if body is not None:
                decode_parquet(body)
        except MalformedObjectError as error:
            return str(store.damaged(key, str(error)))
        except DamagedObjectError as error:
            return str(error)
        return ""

    found = zip(keys, store.each(damage, list(keys)), strict=True)
    return {key: why for key, why in found if why}


def _stored(
    store: ObjectStore, table: RecordTable, days: Collection[date] | None
) -> dict[str, str]:
    """Return the ETags of the objects of these days, or of all days, by key."""
    # Days begin with a digit above 1: below some of the prefixes, documents of 1m/ come before.
    first, last = (min(days), max(days) + DAY) if days else (None, None)
    after = f"{table.prefix}{first:%Y%m%d}" if first else f"{table.prefix}2"
    end = f"{table.prefix}{last:%Y%m%d}" if last else f"{table.prefix}3"
    listed = takewhile(lambda each: each.key < end, store.objects(table.prefix, start_after=after))
    return {
        each.key: each.etag
        for each in listed
        if (day := _day_of(table, each.key)) and (days is None or day in days)
    }


def _day_of(table: RecordTable, key: str) -> date | None:
    """Return the UTC day of an object; None for a key that is no object of the table."""
    match = _DAY.fullmatch(key.removeprefix(table.prefix))
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None
