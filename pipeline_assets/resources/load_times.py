"""The documents that say how far ingest runs have loaded an interval's candles, and merged their features.
When a load is due is decided in collection/table_sink.py and feature_load.py; how a document is read and
checked is in lake_documents.py.
"""

from datetime import datetime
from enum import StrEnum

from pydantic import TypeAdapter

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.lake_documents import UtcTime, read_document, write_document
from pipeline_assets.resources.object_store import ObjectStore

_DOCUMENT: TypeAdapter[dict[str, datetime]] = TypeAdapter(dict[str, UtcTime])
_UNTIL = "until"


class Mark(StrEnum):
    """The tables whose loads are noted, by the name in the document's key."""

    CANDLES = "loaded"
    FEATURES = "features"


def _key(interval: Interval, mark: Mark) -> str:
    return f"state/{interval}.{mark}.json"


def read_loaded_until(
    store: ObjectStore, interval: Interval, mark: Mark = Mark.CANDLES
) -> datetime | None:
    """Return the end of the candles that the table holds; None if it was never noted."""
    held = read_document(store, _key(interval, mark), _DOCUMENT)
    return held.get(_UNTIL) if held else None


def write_loaded_until(
    store: ObjectStore, interval: Interval, until: datetime, mark: Mark = Mark.CANDLES
) -> None:
    """Note the end of the candles that the table holds; may be repeated."""
    write_document(store, _key(interval, mark), _DOCUMENT, {_UNTIL: until})
