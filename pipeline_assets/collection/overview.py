"""The state of storage, symbol by symbol: objects, rows, freshness, slots, table rows, gaps. Printing it is
in cli/status.py.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from pipeline_assets import lake
from pipeline_assets.collection.coverage import coverage_of, fetchable
from pipeline_assets.collection.due_uploads import newest_due
from pipeline_assets.collection.lake_coverage import (
    UnreadDays,
    read_known,
    unread_lines,
    without_days,
)
from pipeline_assets.collection.listings import Listed, collected_now, listed_symbols
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window, newest_closed
from pipeline_assets.resources.candle_objects import list_objects
from pipeline_assets.resources.listing_history import read_universe
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import DamagedObjectError
from pipeline_assets.resources.slots import CandleSlots
from pipeline_assets.resources.stored_objects import StoredObject
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.resources.warehouse_statements import TABLES
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl


_LOG = logging.getLogger(__name__)
_OBJECTS_AT_ONCE = 200


@dataclass(frozen=True)
class Overview:
    """One symbol and interval; None where it is unknown.

    `slots` is for 1m only, `table_rows` for the intervals that have a table.
    """

    symbol: str
    interval: Interval
    objects: int | None
    rows: int | None
    newest: datetime | None
    slots: int | None
    table_rows: int | None
    missing: int | None


@dataclass(frozen=True)
class Stored:
    """The lake's content for one symbol and interval, compared with what should be there."""

    objects: int
    rows: int
    newest: datetime | None
    missing: int


LakeOverview = dict[tuple[str, Interval], Stored]
TableRows = dict[Interval, dict[str, int]]


def collected_symbols(settings: Settings, store: ObjectStore) -> list[str]:
    """Return the symbols of the settings; with `all`, those that the universe last held."""
    if settings.symbols != "all":
        return list(settings.symbols)
    return sorted(collected_now(read_universe(store), settings.symbols))


def first_day(days: int, now: datetime) -> date:
    """Return the first of the last `days` UTC days, the day of `now` included."""
    return (now - timedelta(days=days - 1)).date()


def days_overview(
    settings: Settings, days: int, now: datetime, read_at: datetime
) -> list[Overview]:
    """Return what is stored of the last `days` UTC days, the day of `now` included, of every symbol.

    Args:
        settings: the settings.
        days: how many UTC days.
        now: the time up to which candles are counted, UTC.
        read_at: the exchange's time at the call, UTC.

    Raises:
        ObjectStoreError, SlotsError, WarehouseError: a system does not answer.
    """
    store = ObjectStore(settings.s3)
    symbols = collected_symbols(settings, store)
    return combined(
        symbols,
        lake_overview(settings, store, symbols, first_day(days, now), now, read_at=read_at),
        held_slots(settings, symbols),
        table_rows(settings),
    )


def combined(
    symbols: Sequence[str],
    stored: LakeOverview | None,
    slots: Mapping[str, int] | None,
    tables: TableRows | None,
    *,
    gaps_known: bool = True,
) -> list[Overview]:
    """Return one entry a symbol and interval, sorted; None for a part that is unknown.

    Without the exchange's clock, what should be stored is not known: then `gaps_known` is False.
    """

    def entry(symbol: str, interval: Interval) -> Overview:
        found = stored.get((symbol, interval)) if stored is not None else None
        return Overview(
            symbol=symbol,
            interval=interval,
            objects=found.objects if found else None,
            rows=found.rows if found else None,
            newest=found.newest if found else None,
            slots=slots.get(symbol, 0) if slots is not None and interval.has_slots else None,
            table_rows=tables[interval].get(symbol, 0)
            if tables is not None and interval.has_table
            else None,
            missing=found.missing if found and gaps_known else None,
        )

    return [entry(symbol, interval) for symbol in sorted(symbols) for interval in Interval]


def held_slots(settings: Settings, symbols: Sequence[str]) -> dict[str, int]:
    """Return how many slots of each symbol are filled; raises SlotsError if Redis does not answer."""
    summary = CandleSlots(settings.redis).summary(symbols)
    return dict(zip(summary["symbol"], summary["slots"], strict=True))


def table_rows(settings: Settings) -> TableRows:
    """Count the rows in the warehouse by interval and symbol, all days.

    Raises:
        WarehouseError: Snowflake does not answer.
    """
    warehouse = Warehouse(settings.snowflake, settings.s3)
    return {
        interval: {symbol: each.rows for symbol, each in warehouse.table_summary(interval).items()}
        for interval in TABLES
    }


def lake_overview(
    settings: Settings,
    store: ObjectStore,
    symbols: Sequence[str],
    first: date,
    server_time: datetime,
    progress: Callable[[], None] = lambda: None,
    *,
    read_at: datetime | None = None,
    unread: list[str] | None = None,
) -> LakeOverview:
    """Return what the lake holds of `symbols` from the day `first` on, against what should be there.

    Args:
        settings: the settings.
        store: the lake.
        symbols: the symbols to count.
        first: the first UTC day.
        server_time: the exchange's time, UTC; it says which candles are closed.
        progress: called after each listing and each batch of objects.
        read_at: the exchange's time at the call, if `server_time` is an earlier one. Ingest runs may have
            stored later minutes since, which are not wrong.
        unread: takes what to tell about days whose marks a newer release wrote; nothing of these counts as
            missing. Without it, such a day raises.

    Raises:
        ObjectStoreError: the lake does not answer.
        NewerVersionError: a newer release wrote a document.
    """
    import polars as pl

    listed = _listed(store, symbols, server_time)
    found: LakeOverview = {}
    for interval in Interval:
        newest = newest_closed(interval, server_time, settings.binance.settle)
        window = Window(day_window(min(first, newest.date())).start, newest + interval.span)

        def look(
            symbol: str, interval: Interval = interval, window: Window = window
        ) -> list[StoredObject]:
            listing = list_objects(store, interval, symbol, window.start, window.end)
            progress()
            return listing

        objects = store.each(look, symbols)
        stored = _open_times(store, [each for some in objects for each in some], window, progress)
        lifetimes = {s: (each.listed_at, each.delisted_at) for s, each in listed.items()}
        days: UnreadDays | None = None if unread is None else {}
        known = read_known(store, interval, window, newest, read_at or server_time, days)
        due = newest_due(interval, newest, settings.ingest.upload_minutes)
        ledger = coverage_of(stored, interval, window, lifetimes, due, known)
        if unread is not None and days:
            unread += unread_lines(interval, days)
            ledger = without_days(ledger, interval, days)
        missing = dict.fromkeys(listed, 0) | dict(
            fetchable(ledger).group_by("symbol").agg(pl.col("count").sum()).rows()
        )
        counts = {symbol: (rows, last) for symbol, rows, last in _counts(stored).rows()}
        for symbol, listing in zip(symbols, objects, strict=True):
            rows, last = counts.get(symbol, (0, None))
            found[symbol, interval] = Stored(
                len(listing), rows, last, missing.get(symbol, window.candles(interval))
            )
    return found


def _open_times(
    store: ObjectStore,
    objects: Sequence[StoredObject],
    window: Window,
    progress: Callable[[], None],
) -> "pl.DataFrame":
    """Return the symbol and open time of every row of these objects within the window."""
    import polars as pl

    frames = [lake.scan_objects(store, [], window).select("symbol", "open_time").collect()]
    for start in range(0, len(objects), _OBJECTS_AT_ONCE):
        frames += _readable(store, objects[start : start + _OBJECTS_AT_ONCE], window)
        progress()
    # A symbol's objects may be in two batches, and a finalize may be between them.
    return pl.concat(frames).unique()


def _readable(
    store: ObjectStore, objects: Sequence[StoredObject], window: Window
) -> "list[pl.DataFrame]":
    """Return the rows of these objects, at most one frame, without damaged objects, as in `gaps`."""
    left = list(objects)
    while left:
        rows = lake.scan_objects(store, left, window).select("symbol", "open_time")
        try:
            return [rows.collect()]
        except DamagedObjectError as error:
            damaged = error
        whole = [each for each in left if each.key != damaged.key]
        if len(whole) == len(left):
            # An object that a finalize wrote meanwhile.
            raise damaged
        left = whole
        _LOG.warning("Its candles count as not stored: %s", damaged)
    return []


def _counts(stored: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    return stored.group_by("symbol").agg(pl.len(), pl.col("open_time").max().alias("newest"))


def _listed(store: ObjectStore, symbols: Sequence[str], server_time: datetime) -> dict[str, Listed]:
    universe = listed_symbols(read_universe(store) or {"symbols": {}}, server_time)
    return {symbol: universe[symbol][0] for symbol in symbols if symbol in universe}
