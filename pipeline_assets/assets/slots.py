"""The asset of the Redis slots. Writing them is in collection/slots_sink.py."""

from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, ResourceParam, asset

from pipeline_assets.assets import layer
from pipeline_assets.assets.inputs import step_of
from pipeline_assets.collection.sinks import fill
from pipeline_assets.collection.slots_sink import SlotsSink
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.slots import CandleSlots

_DESCRIPTION = (
    "The newest fifteen 1m candles of every symbol: hash `ohlcv:1m:{SYMBOL}`, one slot per minute of open "
    "time modulo 15. A slot is overwritten by the same or a newer open time only, and one of a minute that "
    "has not begun by the exchange's clock is removed; runs of finished days leave the slots alone. Slots "
    "that Redis lost are filled again from the lake."
)


def candle_slots(interval: Interval) -> AssetsDefinition:
    """Build the asset of the Redis slots; raises ValueError for any interval but 1m, which they hold."""
    if interval is not Interval.ONE_MINUTE:
        raise ValueError(f"The Redis slots hold 1m candles only: take the sink from {interval}.")

    @asset(
        **layer.options(layer.SLOTS, interval),
        deps=[layer.key(layer.FORMATTED, interval)],
        kinds={"redis"},
        # Before the uploads: who trades waits for the slots, and the executor orders by name else.
        op_tags={"dagster/priority": "10"},
        description=_DESCRIPTION,
    )
    def slots_of_minutes(
        context: AssetExecutionContext,
        store: ResourceParam[ObjectStore],
        slots: ResourceParam[CandleSlots],
    ) -> MaterializeResult[Any]:
        step = step_of(context, store, interval, layer.name(layer.SLOTS, interval))
        return MaterializeResult(metadata=fill(SlotsSink(step, slots)))

    return slots_of_minutes
