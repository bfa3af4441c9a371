"""The warehouse as a sink: which objects of a run its tables load. The statements are in
resources/warehouse.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from pipeline_assets.collection.sinks import mark_loaded
from pipeline_assets.collection.step_inputs import Step, Stored
from pipeline_assets.resources.gap_objects import read_gaps
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse


@dataclass
class TableSink:
    """An interval's table, into which a step loads the objects that its run stored; see `Sink`."""

    step: Step
    warehouse: Warehouse

    @cached_property
    def _stored(self) -> Stored:
        return self.step.stored()

    def load(self) -> dict[str, Any]:
        """Load the run's objects and no others."""
        keys = [key.removeprefix("ohlcv/") for key in self._stored.objects]
        loaded = self.warehouse.load(self.step.own.interval, keys, self.step.own.run)
        return {
            "objects": len(keys),
            "rows read": loaded.rows_loaded,
            "rows inserted": loaded.rows_inserted,
            "rows updated": loaded.rows_updated,
            "COPY (s)": round(loaded.copy_seconds, 3),
            "MERGE (s)": round(loaded.merge_seconds, 3),
        }

    def verify(self) -> dict[str, Any]:
        """Check nothing more: the load has counted the files that its COPY read."""
        return {}

    def mark(self) -> None:
        """See `Sink`."""
        mark_loaded(self.step, self._stored, "table")


def load_ledger(
    store: ObjectStore, warehouse: Warehouse, days: Sequence[date], root_run: str
) -> int:
    """Make the table of gaps hold what the ledger says of these days; return how many gaps.

    Raises:
        ObjectStoreError, WarehouseError: a system does not answer, or a day was never judged.
    """
    ledgers = store.each(lambda day: read_gaps(store, day), days)
    # An object that is absent is the warehouse's to name.
    with_gaps = [
        day for day, gaps in zip(days, ledgers, strict=True) if gaps is None or gaps.height
    ]
    return warehouse.replace_gaps(days, with_gaps, root_run)
