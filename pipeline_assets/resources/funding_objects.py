"""Funding rates on the lake: an object a symbol and month, and writes that lose nothing.

`state/funding/{yyyyMM}.json` remembers by symbol the ETag of each object of a month, and the one that the
warehouse loaded. Which rates are fetched is decided in collection/.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Annotated

from pydantic import TypeAdapter

from pipeline_assets.market.windows import Window
from pipeline_assets.resources.lake_documents import (
    DEFERRED,
    Symbol,
    keep_damaged,
    left_out_alone,
    read_document,
    update_document,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import (
    DamagedObjectError,
    ObjectStoreError,
    PreconditionFailedError,
)
from pipeline_assets.resources.stored_objects import FoundObject

if TYPE_CHECKING:
    import polars as pl

PREFIX = "funding/"
_KEY = re.compile(r"funding/[^/]+/(?P<year>[1-9][0-9]{3})(?P<month>[0-9]{2})\.parquet")
_INDEX = "state/funding/"
_INDEX_KEY = re.compile(_INDEX + r"(?P<year>[1-9][0-9]{3})(?P<month>0[1-9]|1[0-2])\.json")
_ATTEMPTS = 10
_LOG = logging.getLogger(__name__)
# By symbol the ETag of the stored object, and the one that was loaded into the warehouse.
_Index = Annotated[dict[Symbol, tuple[str, str | None]], left_out_alone("the object of")]


@dataclass(frozen=True)
class WrittenMonth:
    """A symbol's object of a month as it stands on the lake after a write."""

    key: str
    etag: str
    rates: "pl.DataFrame"
    changed: bool


@dataclass(frozen=True)
class StoredMonth:
    """A symbol's object of a month as it was read; without an ETag there is none, or a damaged one."""

    rates: "pl.DataFrame"
    etag: str | None = None
    damaged: bool = False


def funding_key(symbol: str, month: date) -> str:
    """Return the key of the object that holds a symbol's rates of a month."""
    return f"{PREFIX}{symbol}/{month:%Y%m}.parquet"


def months_of(window: Window) -> Iterator[date]:
    """Yield the first days of the UTC months that a window touches, ascending."""
    month = window.start.date().replace(day=1)
    last = (window.end - timedelta(microseconds=1)).date()
    while month <= last:
        yield month
        month = (month + timedelta(days=31)).replace(day=1)


def month_window(month: date) -> Window:
    """Return the window of the whole UTC month that begins with this day."""
    start = datetime.fromisoformat(f"{month}T00:00:00+00:00")
    return Window(start, (start + timedelta(days=31)).replace(day=1))


def read_month(store: ObjectStore, symbol: str, month: date) -> "pl.DataFrame | None":
    """Return the stored rates of a symbol and month; None if none were ever stored.

    Raises:
        DamagedObjectError: the object is damaged, or another one's copy.
    """
    key = funding_key(symbol, month)
    found = store.find(key)
    return None if found is None else _decoded(store, key, found, symbol, month)


def stored_month(store: ObjectStore, symbol: str, month: date) -> StoredMonth:
    """Return the stored rates of a symbol and month for a run that may store more.

    A damaged object counts as not stored; the write that replaces it keeps its bytes.
    """
    from pipeline_assets.market.funding import empty_funding

    key = funding_key(symbol, month)
    found = store.find(key)
    if found is None:
        return StoredMonth(empty_funding())
    try:
        return StoredMonth(_decoded(store, key, found, symbol, month), found.etag)
    except DamagedObjectError:
        return StoredMonth(empty_funding(), damaged=True)


def write_month(
    store: ObjectStore, symbol: str, month: date, rates: "pl.DataFrame"
) -> WrittenMonth:
    """Store rates of one symbol and month so that no stored rate is lost.

    Idempotent and safe beside other writers: the stored rates are read and joined with these, and the
    object is replaced only while it is the one that was read (S3 compares the ETag). The same rows give the
    same bytes; where these are stored, nothing is sent. A damaged object counts as not stored; a copy
    of its bytes is kept below `damaged/`.

    Args:
        store: the bucket.
        symbol: of all rows.
        month: the first day of the month of all rows.
        rates: one row at least.

    Raises:
        ObjectStoreError: S3 refuses, or other writers change the object again and again.
    """
    from pipeline_assets.market.funding_encoding import encode_funding, merge_funding

    key = funding_key(symbol, month)
    for _ in range(_ATTEMPTS):
        found = store.find(key)
        held = rates
        if found is not None:
            try:
                held = merge_funding(_decoded(store, key, found, symbol, month), rates)
            except DamagedObjectError as error:
                kept = keep_damaged(store, key, found.body)
                _LOG.warning("%s It is replaced, and its bytes are kept as %s.", error, kept)
        body = encode_funding(held, symbol, month)
        if found is not None and found.intact and found.body == body:
            return WrittenMonth(key, found.etag, held, changed=False)
        try:
            etag = store.put_if(key, body, found.etag if found else None)
        except PreconditionFailedError:
            continue
        return WrittenMonth(key, etag, held, changed=True)
    raise ObjectStoreError(
        f"{store.address(key)} was changed by other writers {_ATTEMPTS} times in a row. Find out which "
        "runs write this symbol at the same time (Dagster's Runs page), then repeat this run."
    )


def note_stored(store: ObjectStore, month: date, etags: Mapping[str, str]) -> None:
    """Remember the objects of a month that are stored, for the load; may be repeated."""

    def change(held: dict[str, tuple[str, str | None]] | None) -> dict[str, tuple[str, str | None]]:
        index = dict(held or {})
        for symbol, etag in sorted(etags.items()):
            if symbol not in index or index[symbol][0] != etag:
                index[symbol] = (etag, index[symbol][1] if symbol in index else None)
        return index

    if etags:
        update_document(store, _index_key(month), _index_kind(), change)


def noted_months(store: ObjectStore) -> list[date]:
    """Return the first days of the UTC months that have stored rates, ascending."""
    found = (_INDEX_KEY.fullmatch(each.key) for each in store.objects(_INDEX))
    return sorted(date(int(each["year"]), int(each["month"]), 1) for each in found if each)


def objects_to_load(store: ObjectStore, month: date, *, all_again: bool = False) -> dict[str, str]:
    """Return by symbol the ETag of the month's objects that the warehouse has not loaded."""
    index = read_document(store, _index_key(month), _index_kind()) or {}
    return {symbol: etag for symbol, (etag, loaded) in index.items() if all_again or loaded != etag}


def note_loaded(store: ObjectStore, month: date, etags: Mapping[str, str]) -> None:
    """Remember that the warehouse loaded these objects; one that was replaced meanwhile is loaded again."""

    def change(held: dict[str, tuple[str, str | None]] | None) -> dict[str, tuple[str, str | None]]:
        index = dict(held or {})
        loaded = {symbol: etags[symbol] for symbol in index.keys() & etags.keys()}
        return index | {symbol: (index[symbol][0], etag) for symbol, etag in loaded.items()}

    update_document(store, _index_key(month), _index_kind(), change)


def read_rates(store: ObjectStore, symbols: Iterable[str], window: Window) -> "pl.DataFrame":
    """Return the stored rates of these symbols within a window, by symbol and time.

    Raises:
        DamagedObjectError: an object is damaged.
    """
    import polars as pl

    from pipeline_assets.market.funding import FUNDING_KEY, empty_funding

    listed = store.each(lambda symbol: _stored_months(store, symbol, window), symbols)
    wanted = [each for found in listed for each in found]
    frames = store.each(lambda each: read_month(store, *each), wanted)
    rates = pl.concat([empty_funding(), *(frame for frame in frames if frame is not None)])
    within = pl.col("funding_time").is_between(window.start, window.end, closed="left")
    return rates.filter(within).sort(FUNDING_KEY)


def _stored_months(store: ObjectStore, symbol: str, window: Window) -> list[tuple[str, date]]:
    """Return the months of a symbol that have an object and touch a window, ascending."""
    found = []
    for each in store.objects(f"{PREFIX}{symbol}/"):
        match = _KEY.fullmatch(each.key)
        if match and 1 <= int(match["month"]) <= 12:
            month = date(int(match["year"]), int(match["month"]), 1)
            whole = month_window(month)
            if whole.start < window.end and window.start < whole.end:
                found.append((symbol, month))
    return found


def _decoded(
    store: ObjectStore, key: str, found: FoundObject, symbol: str, month: date
) -> "pl.DataFrame":
    from pipeline_assets.market.encoding import MalformedObjectError
    from pipeline_assets.market.funding_encoding import decode_funding

    try:
        return decode_funding(store.verified(key, found), symbol, month)
    except MalformedObjectError as error:
        raise store.damaged(key, str(error)) from error


def _index_key(month: date) -> str:
    return f"{_INDEX}{month:%Y%m}.json"


@cache
def _index_kind() -> TypeAdapter[dict[str, tuple[str, str | None]]]:
    return TypeAdapter(_Index, config=DEFERRED)
