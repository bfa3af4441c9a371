"""Decisions, intents, orders, fills and funding payments on the lake: one Parquet object of each kind a UTC
day, made of the documents of trader and gateway. Rows are made of these in record_rows.py; which documents
are new is found in record_news.py.

Every row of a kind has a key. Merging the same rows again changes nothing, in whatever order documents come.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import (
    DamagedObjectError,
    ObjectStoreError,
    PreconditionFailedError,
)

if TYPE_CHECKING:
    import polars as pl

Row = dict[str, Any]
_ATTEMPTS = 10
_REMEDY = (
    "Remove it: the sensor `trading_records` makes the object again of the documents on the lake"
)


class Kind(StrEnum):
    """The kinds of records; each names its prefix."""

    DECISIONS = "decisions"
    INTENTS = "intents"
    ORDERS = "orders"
    FILLS = "fills"
    FUNDING = "funding_payments"


@dataclass(frozen=True)
class _Layout:
    """Columns by name and type (`text`, `flag`, `count`, `float`, `money`, `time`), and the meaning of these.

    Attributes:
        columns: in the object's order.
        key: of the rows with one key, the object has one.
        order: sorts the object; ends with the key.
        newest: the row with the greatest values of these is kept.
    """

    columns: Mapping[str, str]
    key: Sequence[str]
    order: Sequence[str]
    newest: Sequence[str] = ()


def _columns(text: str) -> dict[str, str]:
    """Return columns written as `name:type`; `text` where no type is named."""
    named = (each.partition(":") for each in text.split())
    return {name: kind or "text" for name, _, kind in named}


_COPIED = ("copy_begun", "sequence")
_LAYOUTS = {
    Kind.DECISIONS: _Layout(
        _columns(
            "id candidate_id strategy version symbol interval side open_time:time price:float verdict "
            "reason author decided_at:time model probability:float expected_value:float reasons"
        ),
        ("id",),
        ("open_time", "strategy", "symbol", "id"),
    ),
    Kind.INTENTS: _Layout(
        _columns("decision_id open_time:time action outcome order_id reason"),
        ("decision_id",),
        ("open_time", "decision_id"),
    ),
    Kind.ORDERS: _Layout(
        _columns(
            "account venue client_id symbol side kind quantity:money price:money reduce_only:flag "
            "strategy decision_id parent leverage:count status reason venue_id filled:money sent_at:time "
            "changed_at:time sequence:count copy_begun:time"
        ),
        ("account", "client_id"),
        ("sent_at", "account", "client_id"),
        _COPIED,
    ),
    Kind.FILLS: _Layout(
        _columns(
            "account venue symbol trade_id:count venue_id side quantity:money price:money fee:money "
            "filled_at:time client_id strategy decision_id sequence:count copy_begun:time"
        ),
        ("account", "symbol", "trade_id"),
        ("filled_at", "account", "symbol", "trade_id"),
        _COPIED,
    ),
    Kind.FUNDING: _Layout(
        _columns("account venue symbol paid_at:time amount:money sequence:count copy_begun:time"),
        ("account", "symbol", "paid_at"),
        ("paid_at", "account", "symbol"),
        _COPIED,
    ),
}


@dataclass(frozen=True)
class DayObject:
    """A day's object as it stands: its key, its ETag and its rows."""

    key: str
    etag: str
    rows: "pl.DataFrame"


def object_key(kind: Kind, day: date) -> str:
    """Return the key of a day's object."""
    return f"{kind}/{day:%Y%m%d}.parquet"


def day_of_object(key: str) -> tuple[Kind, date]:
    """Return the kind and the day of an object's key."""
    kind, _, stamp = key.removesuffix(".parquet").partition("/")
    return Kind(kind), date.fromisoformat(stamp)


def columns_of(kind: Kind) -> Mapping[str, str]:
    """Return the columns of a kind, each with its type: `text`, `flag`, `count`, `float`, `money`, `time`."""
    return _LAYOUTS[kind].columns


def schema_of(kind: Kind) -> "pl.Schema":
    """Return the columns of a kind: money and quantities as decimals with eight places, times in UTC."""
    import polars as pl

    kinds: dict[str, pl.DataType] = {
        "text": pl.String(), "flag": pl.Boolean(), "count": pl.Int64(), "float": pl.Float64(),
        "money": pl.Decimal(38, 8), "time": pl.Datetime("us", "UTC"),
    }  # fmt: skip
    return pl.Schema({name: kinds[each] for name, each in _LAYOUTS[kind].columns.items()})


def read_records(store: ObjectStore, kind: Kind, day: date) -> "pl.DataFrame":
    """Return a day's rows; a frame without rows if nothing is stored.

    Raises:
        ObjectStoreError: S3 refuses, or the object is damaged.
    """
    found = _read(store, kind, day)
    return schema_of(kind).to_frame() if found is None else found.rows


def damage_of(store: ObjectStore, kind: Kind, day: date) -> str:
    """Return what is wrong with a day's object; empty if the object is whole or not there.

    Raises:
        ObjectStoreError: S3 refuses.
    """
    try:
        _read(store, kind, day)
    except DamagedObjectError as error:
        return str(error)
    return ""


def records_of(kind: Kind, rows: Iterable[Row]) -> "pl.DataFrame":
    """Return rows as they stand in a day's object: one a key, in the object's order."""
    import polars as pl

    return _merged(kind, pl.DataFrame(list(rows), schema=schema_of(kind), orient="row"))


def merge_records(
    store: ObjectStore, kind: Kind, day: date, rows: Iterable[Row]
) -> DayObject | None:
    """Add rows to a day's object and return the object; None where there are no rows at all.

    Idempotent: the object is written on condition of its ETag, and only if its rows change. The same rows
    give the same bytes.

    Raises:
        ObjectStoreError: S3 refuses, the object is damaged, or other writers came between each time.
    """
    import polars as pl

    added = pl.DataFrame(list(rows), schema=schema_of(kind), orient="row")
    key = object_key(kind, day)
    for _ in range(_ATTEMPTS):
        held = _read(store, kind, day)
        merged = _merged(kind, added if held is None else pl.concat([held.rows, added]))
        if not merged.height or (held is not None and merged.equals(held.rows)):
            return held
        try:
            etag = store.put_if(key, _encoded(merged), held.etag if held else None)
        except PreconditionFailedError:
            continue
        return DayObject(key, etag, merged)
    raise ObjectStoreError(
        f"{store.address(key)} was changed by other writers {_ATTEMPTS} times in a row. Find out whether "
        "two code servers of Dagster use this lake; the next look repeats this."
    )


def _merged(kind: Kind, rows: "pl.DataFrame") -> "pl.DataFrame":
    """Return one row a key, the newest, in the object's order."""
    layout = _LAYOUTS[kind]
    if layout.newest:
        rows = rows.sort(layout.newest, maintain_order=True)
    return rows.unique(layout.key, keep="last", maintain_order=True).sort(layout.order)


def _encoded(rows: "pl.DataFrame") -> bytes:
    body = io.BytesIO()
    rows.rechunk().write_parquet(body, compression="zstd", compression_level=3, statistics=False)
    return body.getvalue()


def _read(store: ObjectStore, kind: Kind, day: date) -> DayObject | None:
    """Return a day's object. A column that an earlier release did not write has no values."""
    import polars as pl

    from pipeline_assets.market.encoding import MalformedObjectError, decode_parquet

    key, schema = object_key(kind, day), schema_of(kind)
    found = store.get_with_etag(key)
    if found is None:
        return None
    body, etag = found
    try:
        rows = decode_parquet(body)
    except MalformedObjectError as error:
        raise store.damaged(key, f"{error} {_REMEDY}") from error
    absent = [name for name in schema if name not in rows.columns]
    rows = rows.with_columns(pl.lit(None, schema[name]).alias(name) for name in absent)
    if rows.select(schema.names()).schema != schema:
        raise store.damaged(key, f"it has the columns {rows.schema}, not {schema}. {_REMEDY}")
    return DayObject(key, etag, rows.select(schema.names()))
