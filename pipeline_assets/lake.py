"""The reader of the lake: candles of many symbols and any span as one Polars frame. Writing is in
resources/candle_objects.py.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline_assets.market.aggregation import without_zero_volume
from pipeline_assets.market.candles import empty_candles
from pipeline_assets.market.interval import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.candle_objects import list_objects
from pipeline_assets.resources.object_store import ObjectStore, StoredObject
from pipeline_assets.settings import settings

if TYPE_CHECKING:
    import polars as pl


def scan(
    interval: str,
    symbols: Sequence[str],
    start: datetime,
    end: datetime,
    *,
    zero_volume: bool = True,
    store: ObjectStore | None = None,
) -> "pl.LazyFrame":
    """The stored candles of `symbols` with start <= open time < end, one row per open time.

    Only the objects that can hold such rows are opened; filters and column selections on the
    result reach into them. `.collect()` gives a frame, `.collect().to_pandas()` one for pandas.

    Example:
        >>> from datetime import datetime, UTC
        >>> from pipeline_assets import lake
        >>> day = datetime(2026, 11, 1, tzinfo=UTC)
        >>> lake.scan("15m", ["BTCUSDT"], day, day.replace(day=8)).collect()  # doctest: +SKIP

    Args:
        interval: "1m", "15m" or "1h".
        symbols: the symbols, in any order.
        start: first open time, an aware datetime.
        end: the open time before which to stop, an aware datetime.
        zero_volume: False leaves out candles without a trade. They are stored all the same.
        store: the bucket; by default that of the settings.

    Returns:
        A lazy frame with the columns and dtypes of `market.candles.candle_schema`, sorted by
        symbol and open time; without rows if nothing is stored.

    Raises:
        ValueError: the interval is unknown, a time has no zone, or `end` is not after `start`.
        ObjectStoreError: the bucket cannot be read.
    """
    wanted = Interval(interval)
    given = Window(start, end)
    # Keys are stamped in UTC; the day of `start` in another zone may be another one.
    window = Window(given.start.astimezone(UTC), given.end.astimezone(UTC))
    store = store or ObjectStore(settings().s3)
    listings = store.each(
        lambda symbol: list_objects(store, wanted, symbol, window.start, window.end),
        sorted(set(symbols)),
    )
    frame = scan_objects(store, [each for listing in listings for each in listing], window)
    return frame if zero_volume else without_zero_volume(frame)


def scan_objects(
    store: ObjectStore, objects: Sequence[StoredObject], window: Window
) -> "pl.LazyFrame":
    """As `scan`, of these objects: for who has listed them already."""
    import polars as pl

    if not objects:
        return empty_candles().lazy()
    addresses = [store.address(each.key) for each in objects]
    return (
        pl.scan_parquet(addresses, glob=False, **store.polars_options())
        .filter(pl.col("open_time").is_between(window.start, window.end, closed="left"))
        # An hour object may overlap the sealed day that absorbs it. Of two rows the one with more
        # trades is the whole candle, as in the warehouse's MERGE.
        .sort(
            *("symbol", "open_time", "trades"),
            descending=[False, False, True],
            maintain_order=True,
        )
        .unique(["symbol", "open_time"], keep="first", maintain_order=True)
    )
