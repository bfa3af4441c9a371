"""Candle objects on the lake: their keys, and writes that lose nothing. Reading ranges is in lake.py;
what an ingest run remembers is in ingest_state.py.
"""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.outside_text import printable
from pipeline_assets.resources.lake_documents import keep_damaged
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import (
    DamagedObjectError,
    ObjectStoreError,
    PreconditionFailedError,
)
from pipeline_assets.resources.stored_objects import FoundObject, StoredObject, etag_is_of

if TYPE_CHECKING:
    import polars as pl

STAMP = "%Y%m%d_%H%M"
_KEY = re.compile(
    r"ohlcv/(?P<interval>[^/]+)/(?P<symbol>[^/]+)/(?P<stamp>[0-9]{8}_[0-9]{4})\.parquet"
)
_ATTEMPTS = 10
_LOG = logging.getLogger(__name__)
# Many threads wait for S3 at once; if they also encode at once, each object takes twice the CPU, in
# waiting for one another's locks. Two do not.
_ENCODING = BoundedSemaphore(2)


def prefix(interval: Interval, symbol: str | None = None) -> str:
    """Return the prefix of an interval's objects, or of one symbol's."""
    return f"ohlcv/{interval}/" + (f"{symbol}/" if symbol else "")


def object_key(interval: Interval, symbol: str, start: datetime) -> str:
    """Return the key of the object whose window begins at `start` (UTC)."""
    return f"{prefix(interval, symbol)}{start.strftime(STAMP)}.parquet"


def window_start(key: str) -> datetime | None:
    """Return when the window of an object begins, UTC, by its key; None if the key is no candle object's.

    Another program may store `20261332_2500.parquet`, which is no time.
    """
    match = _KEY.fullmatch(key)
    try:
        return datetime.strptime(match["stamp"], STAMP).replace(tzinfo=UTC) if match else None
    except ValueError:
        return None


def foreign_contents(key: str, body: bytes) -> str | None:
    """Return what else an object holds than its key says, or None where both agree.

    An object that was copied over another one is whole, and its digest is right.

    Raises:
        MalformedObjectError: the bytes are no candle object.
    """
    from pipeline_assets.market.encoding import described

    _, interval, symbol, _ = key.split("/")
    found = described(body)
    if found is None or found == (interval, symbol, window_start(key)):
        return None
    held, of, start = found
    return f"it holds {held} candles of {printable(of)} from {start:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class WrittenObject:
    """One object as it stands on the lake after a write.

    `missing` are the spans of a finalized day's grid without a candle, including those before a listing.
    `joined` says whether stored rows were joined with the rows of the writer.
    """

    key: str
    etag: str
    symbol: str
    rows: int
    newest: datetime
    changed: bool
    missing: tuple[Window, ...] = ()
    joined: bool = False


def list_objects(
    store: ObjectStore, interval: Interval, symbol: str, start: datetime, end: datetime
) -> list[StoredObject]:
    """Return the objects of one symbol that can hold open times in [start, end), in window order.

    A day's object begins at midnight, so the listing starts at the day of `start`.
    """
    base = prefix(interval, symbol)
    # No stamp of the day before sorts after its hour 24.
    after = f"{base}{(start.date() - timedelta(days=1)).strftime('%Y%m%d')}_2400"
    found = []
    for stored in store.objects(base, start_after=after):
        begins = window_start(stored.key)
        if begins is None:
            continue
        if begins >= end:
            break
        found.append(stored)
    return found


def objects_by_day(
    store: ObjectStore, interval: Interval, symbols: Sequence[str], span: Window
) -> dict[str, dict[date, list[StoredObject]]]:
    """Return the objects of some symbols and a span by symbol and UTC day, by one listing a symbol."""
    listings = store.each(
        lambda symbol: by_day(list_objects(store, interval, symbol, span.start, span.end)), symbols
    )
    return dict(zip(symbols, listings, strict=True))


def first_stored_day(store: ObjectStore, interval: Interval, symbol: str) -> date | None:
    """Return the UTC day of a symbol's oldest object, or None without one."""
    oldest = next(iter(store.objects(prefix(interval, symbol))), None)
    start = window_start(oldest.key) if oldest else None
    return start.date() if start else None


def read_object(store: ObjectStore, key: str) -> "tuple[pl.DataFrame, str] | None":
    """Return the candles of an object and its ETag, or None; raises DamagedObjectError if it is damaged."""
    found = store.get_with_etag(key)
    return (_decoded(store, key, found[0])[0], found[1]) if found else None


def write_candles(
    store: ObjectStore,
    interval: Interval,
    window: Window,
    candles: "pl.DataFrame",
    expected_etag: str | None,
    *,
    skip_unchanged: bool = False,
) -> WrittenObject:
    """Store one symbol's candles of one window so that no stored candle is lost.

    Idempotent and safe beside other writers: the object is replaced only while it is the one that
    was expected (S3 compares the ETag). Otherwise the stored rows are read and joined with ours,
    ours winning where both have an open time, and the write is tried again upon what was read.
    The same rows give the same bytes, so a repeat writes what is there. A damaged object counts as
    not stored; a copy of its bytes is kept below `damaged/`.

    Args:
        store: the bucket.
        interval: the candles' interval.
        window: what the object covers; with a stored object of a wider window, the wider one.
        candles: rows of one symbol, within the window; at least one.
        expected_etag: the ETag of the object as the caller knows it; None if it knows none.
        skip_unchanged: whether to send nothing if the ETag says that these bytes are stored.
    """
    return _write(store, interval, window, candles, expected_etag, skip_unchanged)[0]


def _write(
    store: ObjectStore,
    interval: Interval,
    window: Window,
    candles: "pl.DataFrame",
    expected_etag: str | None,
    skip_unchanged: bool = False,
) -> "tuple[WrittenObject, pl.DataFrame]":
    """Write as `write_candles`; return the object and the candles that it holds."""
    from pipeline_assets.market.encoding import merge_candles

    symbol = str(candles["symbol"][0])
    key = object_key(interval, symbol, window.start)
    body = _encoded(candles, interval, symbol, window)
    if skip_unchanged and expected_etag and etag_is_of(expected_etag, body):
        return _written(key, expected_etag, candles, changed=False, joined=False), candles
    joined = False
    for _ in range(_ATTEMPTS):
        try:
            etag = store.put_if(key, body, expected_etag)
        except PreconditionFailedError:
            found = store.find(key)
            expected_etag = found.etag if found else None
            if found is None or (held := _rows_of(store, key, found)) is None:
                continue
            stored, stored_window = held
            candles, joined = merge_candles(stored, candles), True
            window = max(window, stored_window, key=lambda each: each.end)
            body = _encoded(candles, interval, symbol, window)
            if body == found.body:
                return _written(key, found.etag, candles, changed=False, joined=joined), candles
        else:
            changed = etag != expected_etag
            return _written(key, etag, candles, changed=changed, joined=joined), candles
    raise ObjectStoreError(
        f"{store.address(key)} was changed by other writers {_ATTEMPTS} times in a row. Find out which "
        "runs write this symbol at the same time (Dagster's Runs page), then repeat this run."
    )


def _encoded(candles: "pl.DataFrame", interval: Interval, symbol: str, window: Window) -> bytes:
    from pipeline_assets.market.encoding import encode_candles

    with _ENCODING:
        return encode_candles(candles, interval, symbol, window)


def _written(
    key: str, etag: str, candles: "pl.DataFrame", *, changed: bool, joined: bool
) -> WrittenObject:
    newest = candles["open_time"].max()
    if not isinstance(newest, datetime):
        raise TypeError(f"{key} would hold no candle")
    symbol = str(candles["symbol"][0])
    return WrittenObject(key, etag, symbol, candles.height, newest, changed, joined=joined)


def finalize_day(
    store: ObjectStore,
    interval: Interval,
    day: date,
    candles: "pl.DataFrame",
    stored: Sequence[StoredObject],
) -> WrittenObject:
    """Store a finished day of one symbol as one object and remove what it absorbs.

    Idempotent after a crash at any point: the day's object is written before the objects that it
    absorbs are removed. It holds the fetched rows and every other stored row. Readers keep one row per
    open time meanwhile, and the next call absorbs objects that were left over.

    Args:
        store: the bucket.
        interval: the candles' interval.
        day: the finished UTC day.
        candles: the fetched rows of one symbol and that day; may be empty if `stored` is not.
        stored: the objects of that symbol and day, as listed.
    """
    from pipeline_assets.market.encoding import merge_candles

    window = day_window(day)
    whole_key = object_key(interval, _symbol_of(candles, stored), window.start)
    whole_etag = next((each.etag for each in stored if each.key == whole_key), None)
    joined = False
    damaged = ""
    # Fetched rows win. Where they are all of the day, no stored row can add to them.
    whole = candles.height == window.candles(interval)
    for each in () if whole else stored:
        found = store.find(each.key)
        if found is None:
            continue
        if (held := _rows_of(store, each.key, found)) is None:
            damaged = each.key
        else:
            candles, joined = merge_candles(held[0], candles), True
    if damaged and candles.is_empty():
        raise store.damaged(damaged, "nothing of its day was fetched that could replace it")
    written, candles = _write(store, interval, window, candles, whole_etag)
    absorbed = [each.key for each in stored if each.key != whole_key]
    if absorbed:
        store.delete(absorbed)
    missing = _missing(interval, window, candles)
    return replace(written, missing=missing, joined=joined or written.joined)


def _missing(interval: Interval, window: Window, candles: "pl.DataFrame") -> tuple[Window, ...]:
    """Return the spans of a window's grid without a candle, in order of time."""
    if candles.height == window.candles(interval):
        return ()
    from pipeline_assets.market.gaps import expected_frame, expected_open_times, gaps

    expected = expected_open_times(interval, window, None, None, None)
    found = gaps(candles, interval, expected_frame({candles["symbol"][0]: expected}))
    return tuple(Window(start, end) for _, start, end, _ in found.rows())


def _rows_of(
    store: ObjectStore, key: str, found: FoundObject
) -> "tuple[pl.DataFrame, Window] | None":
    """Return the candles of an object that is about to be replaced, and its window; None if it is damaged.

    A damaged object counts as not stored, or no run could write its symbol any more. Its bytes are
    kept.
    """
    try:
        return _decoded(store, key, store.verified(key, found))
    except DamagedObjectError as error:
        kept = keep_damaged(store, key, found.body)
        _LOG.warning("%s It is replaced, and its bytes are kept as %s.", error, kept)
        return None


def _decoded(store: ObjectStore, key: str, body: bytes) -> "tuple[pl.DataFrame, Window]":
    from pipeline_assets.market.encoding import MalformedObjectError, decode_candles

    try:
        decoded = decode_candles(body)
        foreign = foreign_contents(key, body)
    except MalformedObjectError as error:
        raise store.damaged(key, str(error)) from error
    if foreign:
        raise store.damaged(key, foreign)
    return decoded


def _symbol_of(candles: "pl.DataFrame", stored: Sequence[StoredObject]) -> str:
    if candles.height:
        return str(candles["symbol"][0])
    return stored[0].key.split("/")[2]


def by_day(stored: Sequence[StoredObject]) -> dict[date, list[StoredObject]]:
    """Return objects by the UTC day in which their window begins."""
    days: dict[date, list[StoredObject]] = {}
    for each in stored:
        begins = window_start(each.key)
        if begins is not None:
            days.setdefault(begins.date(), []).append(each)
    return days
