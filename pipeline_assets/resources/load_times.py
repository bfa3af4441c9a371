"""The document that says how far ingest runs have loaded an interval's table. When a load is due is decided
in collection/table_sink.py; how a document is read and checked is in lake_documents.py.
"""

from datetime import datetime

from pydantic import TypeAdapter

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.lake_documents import UtcTime, read_document, write_document
from pipeline_assets.resources.object_store import ObjectStore

_DOCUMENT: TypeAdapter[dict[str, datetime]] = TypeAdapter(dict[str, UtcTime])
_UNTIL = "until"


def _key(interval: Interval) -> str:
    return f"state/{interval}.loaded.json"


def read_loaded_until(store: ObjectStore, interval: Interval) -> datetime | None:
    """Return the end of the candles that the table holds; None if it was never noted."""
    held = read_document(store, _key(interval), _DOCUMENT)
    return held.get(_UNTIL) if held else None


def write_loaded_until(store: ObjectStore, interval: Interval, until: datetime) -> None:
    """Note the end of the candles that the table holds; may be repeated."""
    write_document(store, _key(interval), _DOCUMENT, {_UNTIL: until})
