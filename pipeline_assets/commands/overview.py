"""What is stored, symbol by symbol: objects, rows, freshness, slots, table rows, gaps. Printing it is
in status.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from pipeline_assets import lake
from pipeline_assets.assets.collected import collected_now, listed_symbols
from pipeline_assets.assets.fetch_plan import Listed
from pipeline_assets.market.gaps import expected_frame, expected_open_times, gaps
from pipeline_assets.market.interval import Interval
from pipeline_assets.market.windows import Window, day_window, newest_closed
from pipeline_assets.resources.candle_objects import list_objects
from pipeline_assets.resources.lake_state import read_universe
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.slots import CandleSlots
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Overview:
    """One symbol and interval. `slots` is for 1m only, `table_rows` for the others only."""

    symbol: str
    interval: Interval
    objects: int
    rows: int
    newest: datetime | None
    slots: int | None
    table_rows: int | None
    missing: int


def collected_symbols(settings: Settings, store: ObjectStore) -> list[str]:
    """The symbols of the settings; with `all`, those that the universe last held."""
    if settings.symbols != "all":
        return list(settings.symbols)
    return sorted(collected_now(read_universe(store), settings.symbols))


def days_overview(settings: Settings, days: int, now: datetime) -> list[Overview]:
    """What is stored of the last `days` UTC days, the day of `now` included, of every symbol."""
    symbols = collected_symbols(settings, ObjectStore(settings.s3))
    return overview(settings, symbols, (now - timedelta(days=days - 1)).date(), now)


def overview(
    settings: Settings, symbols: Sequence[str], first: date, server_time: datetime
) -> list[Overview]:
    """What is stored of `symbols` from the day `first` on, against what should be.

    Args:
        settings: the settings.
        symbols: the symbols to look at.
        first: the first UTC day.
        server_time: the exchange's time, UTC; it says which candles are closed.

    Raises:
        ObjectStoreError, SlotsError, WarehouseError: a system does not answer.
    """
    store = ObjectStore(settings.s3)
    slots = CandleSlots(settings.redis).summary(symbols)
    held_slots = dict(zip(slots["symbol"], slots["slots"], strict=True))
    warehouse = Warehouse(settings.snowflake, settings.s3)
    listed = _listed(store, symbols, server_time)
    found: list[Overview] = []
    for interval in Interval:
        minutes = interval is Interval.ONE_MINUTE
        in_table = {} if minutes else warehouse.table_summary(interval)
        newest = newest_closed(interval, server_time, settings.binance.settle)
        window = Window(day_window(min(first, newest.date())).start, newest + interval.span)
        objects = store.each(
            lambda symbol, interval=interval, window=window: list_objects(  # type: ignore[misc]
                store, interval, symbol, window.start, window.end
            ),
            symbols,
        )
        stored = (
            lake.scan(interval, symbols, window.start, window.end, store=store)
            .select("symbol", "open_time")
            .collect()
        )
        missing = _missing(stored, interval, {s: listed[s].clip(interval, window) for s in listed})
        counts = {symbol: (rows, last) for symbol, rows, last in _counts(stored).rows()}
        for symbol, listing in zip(symbols, objects, strict=True):
            rows, last = counts.get(symbol, (0, None))
            summary = in_table.get(symbol)
            found.append(
                Overview(
                    symbol,
                    interval,
                    len(listing),
                    rows,
                    last,
                    held_slots.get(symbol, 0) if minutes else None,
                    None if minutes else (summary.rows if summary else 0),
                    missing.get(symbol, window.candles(interval)),
                )
            )
    return sorted(found, key=lambda each: (each.symbol, list(Interval).index(each.interval)))


def _counts(stored: "pl.DataFrame") -> "pl.DataFrame":
    import polars as pl

    return stored.group_by("symbol").agg(pl.len(), pl.col("open_time").max().alias("newest"))


def _listed(store: ObjectStore, symbols: Sequence[str], server_time: datetime) -> dict[str, Listed]:
    universe = listed_symbols(read_universe(store) or {"symbols": {}}, server_time)
    return {symbol: universe[symbol][0] for symbol in symbols if symbol in universe}


def _missing(
    stored: "pl.DataFrame", interval: Interval, windows: dict[str, Window | None]
) -> dict[str, int]:
    import polars as pl

    expected = {
        symbol: expected_open_times(interval, window, None, None, None) if window else None
        for symbol, window in windows.items()
    }
    found = gaps(stored, interval, expected_frame(expected))
    found = found.group_by("symbol").agg(pl.col("missing").sum())
    return dict.fromkeys(windows, 0) | dict(found.rows())
