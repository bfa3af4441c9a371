"""The newest fifteen minutes of every symbol in Redis. How a slot is overwritten is in
resources/slots.py.
"""

from datetime import datetime, timedelta
from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, ResourceParam, asset

from pipeline_assets import lake
from pipeline_assets.assets import layer
from pipeline_assets.assets.inputs import Step
from pipeline_assets.assets.presentation import moment
from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.slots import SLOTS, CandleSlots
from pipeline_assets.resources.staging import Output


def candle_slots(interval: Interval) -> AssetsDefinition:
    """The asset of the Redis slots; raises ValueError for any interval but 1m, which they hold."""
    if interval is not Interval.ONE_MINUTE:
        raise ValueError(f"The Redis slots hold 1m candles only: take the sink from {interval}.")

    @asset(
        **layer.options(layer.SLOTS, interval),
        deps=[layer.key(layer.FORMATTED, interval)],
        kinds={"redis"},
        # Before the uploads: who trades waits for the slots, and the executor orders by name else.
        op_tags={"dagster/priority": "10"},
        description=(
            "The newest fifteen 1m candles of every symbol: hash `ohlcv:1m:{SYMBOL}`, one slot per "
            "minute of open time modulo 15. A slot is overwritten by the same or a newer open time "
            "only, and one of a minute that has not ended by the exchange's clock is removed; runs of "
            "finished days leave the slots alone. Slots that Redis lost are filled again from the lake."
        ),
    )
    def fill_slots(
        context: AssetExecutionContext,
        store: ResourceParam[ObjectStore],
        slots: ResourceParam[CandleSlots],
    ) -> MaterializeResult[Any]:
        import polars as pl

        step = Step.of(context, store, interval, layer.name(layer.SLOTS, interval))
        written = kept = removed = 0
        # Of runs over days long past, which may have read a million rows, none can be a slot's.
        with step.rows(Output.FORMATTED, _has_slots) as formatted:
            plan = formatted.plan
            for frame in formatted.frames:
                fresh = frame.filter(pl.col("open_time") >= _oldest(plan))
                if fresh.height:
                    result = slots.write(fresh, plan.now())
                    written += result.written
                    kept += result.kept_newer
                    removed += result.removed
        return MaterializeResult(
            metadata={
                "slots written": written,
                "slots filled from the lake": _fill_from_lake(plan, store, slots),
                "slots that held a newer candle": kept,
                "slots removed, later than the exchange's clock": removed,
                "symbols": len(plan.windows),
                "newest open time": moment(plan.newest),
                "lag (s)": round(
                    (plan.now() - plan.newest - interval.span) / timedelta(seconds=1), 3
                ),
            }
        )

    return fill_slots


def _oldest(plan: FetchPlan) -> datetime:
    """The open time of the oldest slot at the plan's newest candle."""
    return plan.newest - (SLOTS - 1) * plan.interval.span


def _has_slots(plan: FetchPlan) -> bool:
    return any(window.end > _oldest(plan) for window in plan.windows.values())


def _fill_from_lake(plan: FetchPlan, store: ObjectStore, slots: CandleSlots) -> int:
    """Fill the slots of minutes before those that the run fetched; returns how many.

    Early in an hour a tick fetches less than fifteen minutes. A Redis that was flushed, or was down
    while the objects were stored, would lack the others until the hour has fifteen.
    """
    import polars as pl

    oldest = _oldest(plan)
    begins = {symbol: w.start for symbol, w in plan.windows.items() if w.start > oldest}
    held = slots.summary(list(begins))
    lacking = held.filter(pl.col("slots") < SLOTS)["symbol"].to_list()
    if not lacking:
        return 0
    # What was fetched just now is newer than what the lake holds of it. A window that begins later
    # than the others is that of a symbol listed since, which has no earlier candles.
    until = min(begins[symbol] for symbol in lacking)
    stored = lake.scan(plan.interval, lacking, oldest, until, store=store).collect()
    return slots.write(stored, plan.now()).written
