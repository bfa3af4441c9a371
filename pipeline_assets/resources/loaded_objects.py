"""The documents that say which objects each table of trading records has loaded, and which views were made.
When a table loads is decided in collection/record_load.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated

from pydantic import TypeAdapter

from pipeline_assets.resources.lake_documents import (
    UtcTime,
    left_out_alone,
    read_document,
    write_document,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.record_tables import RecordTable

_VIEWS, _DIGEST = "state/views.json", "digest"


@dataclass(frozen=True)
class LoadedObjects:
    """The objects that a table has loaded.

    Attributes:
        target: names the account and the schema; another one has loaded nothing.
        objects: by key, the ETag of the object that was loaded.
        until: up to when scheduled loads were due, where loads wait; None before the first.
    """

    target: str = ""
    objects: Annotated[Mapping[str, str], left_out_alone("the object")] = field(
        default_factory=dict
    )
    until: UtcTime | None = None


def read_loaded(store: ObjectStore, table: RecordTable, target: str) -> LoadedObjects:
    """Return what a table of this target has loaded."""
    held = read_document(store, _key(table), _loaded())
    return held if held and held.target == target else LoadedObjects(target)


def write_loaded(store: ObjectStore, table: RecordTable, loaded: LoadedObjects) -> None:
    """Note what a table has loaded; may be repeated."""
    write_document(store, _key(table), _loaded(), loaded)


def read_views(store: ObjectStore) -> str | None:
    """Return the digest of the views that were made; None if it was never noted."""
    held = read_document(store, _VIEWS, TypeAdapter(dict[str, str]))
    return held.get(_DIGEST) if held else None


def write_views(store: ObjectStore, digest: str) -> None:
    """Note the digest of the views that were made; may be repeated."""
    write_document(store, _VIEWS, TypeAdapter(dict[str, str]), {_DIGEST: digest})


def _key(table: RecordTable) -> str:
    return f"state/loaded/{table.file}.json"


@cache
def _loaded() -> TypeAdapter[LoadedObjects]:
    return TypeAdapter(LoadedObjects)
