"""The slots in Redis as a sink: the newest fifteen minutes of every symbol. How a slot is overwritten is in
resources/slots.py.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pipeline_assets import lake
from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.collection.findings import moment
from pipeline_assets.collection.step_inputs import Step
from pipeline_assets.resources.slots import SLOTS, CandleSlots


@dataclass
class SlotsSink:
    """The slots that a step fills from its formatted candles; see `Sink`."""

    step: Step
    slots: CandleSlots
    _plan: FetchPlan = field(init=False)

    def load(self) -> dict[str, Any]:
        """Write the newest candles of the run."""
        import polars as pl

        written = kept = removed = 0
        # A run over days long past, which may have read a million rows, has no row for a slot.
        with self.step.candles(_has_slots) as formatted:
            self._plan = plan = formatted.plan
            for frame in formatted.frames:
                fresh = frame.filter(pl.col("open_time") >= _oldest(plan))
                if fresh.height:
                    result = self.slots.write(fresh, plan.now())
                    written += result.written
                    kept += result.kept_newer
                    removed += result.removed
        return {
            "slots written": written,
            "slots that held a newer candle": kept,
            "slots removed, later than the exchange's clock": removed,
        }

    def verify(self) -> dict[str, Any]:
        """Fill the slots that Redis lost, or never got, from the lake."""
        plan, filled = self._plan, self._fill_from_lake()
        lag = plan.now() - plan.newest - plan.interval.span
        return {
            "slots filled from the lake": filled,
            "symbols": len(plan.windows),
            "newest open time": moment(plan.newest),
            "lag (s)": round(lag / timedelta(seconds=1), 3),
        }

    def mark(self) -> None:
        """Record nothing: slots hold no finished day."""

    def _fill_from_lake(self) -> int:
        """Fill the slots of minutes before those that the run fetched; return how many.

        Early in an hour an ingest run fetches less than fifteen minutes. In a Redis that was flushed, or was
        down while the objects were stored, the others would be missing until the hour has fifteen.
        """
        import polars as pl

        plan, oldest = self._plan, _oldest(self._plan)
        begins = {symbol: w.start for symbol, w in plan.windows.items() if w.start > oldest}
        held = self.slots.summary(list(begins))
        short = held.filter(pl.col("slots") < SLOTS)["symbol"].to_list()
        if not short:
            return 0
        # The rows just fetched are newer than the lake's. A window that begins later
        # than the others is that of a symbol listed since, which has no earlier candles.
        until = min(begins[symbol] for symbol in short)
        scan = lake.scan(plan.interval, short, oldest, until, store=self.step.store)
        return self.slots.write(scan.collect(), plan.now()).written


def _oldest(plan: FetchPlan) -> datetime:
    """Return the open time of the oldest slot at the plan's newest candle."""
    return plan.newest - (SLOTS - 1) * plan.interval.span


def _has_slots(plan: FetchPlan) -> bool:
    return any(window.end > _oldest(plan) for window in plan.windows.values())
