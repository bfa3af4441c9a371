"""The decisions of a day, as a person or a program asks for them: from documents or from the day's object.
Documents are in decision_store.py, objects in record_objects.py.
"""

from datetime import date
from typing import TYPE_CHECKING

from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.trading.decision_store import read_decisions
from pipeline_assets.trading.record_objects import Kind, read_records, records_of
from pipeline_assets.trading.record_rows import decision_row

if TYPE_CHECKING:
    import polars as pl


def decisions_of_day(store: ObjectStore, day: date, today: date) -> "pl.DataFrame":
    """Return the decisions about the candidates of a UTC day, in the order of their minutes.

    The documents are read for today, where the object is up to a minute behind, and for a day without an
    object: nothing makes objects while Dagster is off.

    Args:
        store: the bucket.
        day: of the candidates' minutes.
        today: by the exchange's clock.

    Raises:
        ObjectStoreError: S3 failed, or the day's object is damaged.
        TraderStateError: a document is of another version.
    """
    if day < today:
        rows = read_records(store, Kind.DECISIONS, day)
        if rows.height:
            return rows
    return records_of(Kind.DECISIONS, map(decision_row, read_decisions(store, day)))
