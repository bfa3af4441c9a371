"""The warehouse as a sink: which objects of a run its tables load. The statements are in
resources/warehouse.py.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

from pipeline_assets.collection.due_uploads import load_due
from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.collection.findings import moment
from pipeline_assets.collection.sinks import mark_loaded
from pipeline_assets.collection.step_inputs import Step, Stored
from pipeline_assets.market.windows import day_window
from pipeline_assets.resources.gap_objects import read_gaps
from pipeline_assets.resources.load_times import read_loaded_until, write_loaded_until
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse


@dataclass
class TableSink:
    """An interval's table, into which a step loads the objects that its run stored; see `Sink`.

    An ingest run's objects hold the open day so far, so a load that is left out is made up by the next
    one of that day. Finalizing loads the candles that a day's last load left out.

    Attributes:
        step: the load.
        warehouse: the tables.
        load_minutes: as in the settings, `ingest.load_minutes`.
    """

    step: Step
    warehouse: Warehouse
    load_minutes: int

    @cached_property
    def _stored(self) -> Stored:
        return self.step.stored()

    @cached_property
    def _ingest(self) -> FetchPlan | None:
        """The plan of an ingest run that may have to wait; None for any other run."""
        if timedelta(minutes=self.load_minutes) <= self.step.own.interval.span:
            return None
        plan = self.step.plan_of_stored()
        return plan if plan.is_ingest_run else None

    def _waits_until(self) -> datetime | None:
        """Return the time of the next load, or None if a load is due now."""
        plan = self._ingest
        if plan is None:
            return None
        due = load_due(plan.interval, plan.newest, self.load_minutes)
        if due == plan.newest + plan.interval.span:
            return None
        loaded = read_loaded_until(self.step.store, plan.interval)
        if loaded is None or loaded < due:
            return None
        midnight = day_window(plan.newest.date()).end
        return min(due + timedelta(minutes=self.load_minutes), midnight)

    def load(self) -> dict[str, Any]:
        """Load the run's objects and no others, if a load is due."""
        next_load = self._waits_until()
        if next_load is not None:
            return {"objects": 0, "next load": moment(next_load)}
        keys = [key.removeprefix("ohlcv/") for key in self._stored.objects]
        loaded = self.warehouse.load(self.step.own.interval, keys, self.step.own.run)
        if (plan := self._ingest) is not None:
            # After the load: a run that dies before this write leaves the load to the next run.
            until = plan.newest + plan.interval.span
            write_loaded_until(self.step.store, plan.interval, until)
        return {"objects": len(keys), **loaded.values()}

    def verify(self) -> dict[str, Any]:
        """Check nothing more: the load has counted the files that its COPY read."""
        return {}

    def mark(self) -> None:
        """See `Sink`."""
        mark_loaded(self.step, self._stored, "table")


def load_ledger(
    store: ObjectStore, warehouse: Warehouse, days: Sequence[date], root_run: str
) -> dict[str, int | float]:
    """Make the table of gaps hold what the ledger says of these days; return the values to report.

    Raises:
        ObjectStoreError, WarehouseError: a system does not answer, or a day was never judged.
    """
    ledgers = store.each(lambda day: read_gaps(store, day), days)
    # An object that is absent is the warehouse's to name.
    with_gaps = [
        day for day, gaps in zip(days, ledgers, strict=True) if gaps is None or gaps.height
    ]
    started = time.perf_counter()
    gaps = warehouse.replace_gaps(days, with_gaps, root_run)
    seconds = round(time.perf_counter() - started, 3)
    return {"days": len(days), "gaps": gaps, "replace (s)": seconds}
