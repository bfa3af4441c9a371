"""What the assets of all layers share: their keys, group, partitions, owners. No layer's own work."""

from typing import Any, TypedDict

from dagster import AssetKey, BackfillPolicy, PartitionsDefinition

from pipeline_assets.assets.partitions import backfill_policy, daily_partitions
from pipeline_assets.market.intervals import Interval

OWNERS = ["team:market-data"]
RAW, FORMATTED, OBJECTS, SLOTS, TABLE = (
    "raw_candles",
    "candles",
    "candle_objects",
    "candle_slots",
    "candle_table",
)
# Of all intervals together: the ledger of what is missing, and its table.
GAPS, GAP_TABLE, GAPS_GROUP = "candle_gaps", "candle_gap_table", "gaps"
# The keys that jobs and sensors need; the assets are declared in the modules of these names.
CANDLE_GAPS, UNIVERSE = AssetKey(GAPS), AssetKey("universe")
CANDIDATES, CANDIDATE_OBJECTS = AssetKey("candidates"), AssetKey("candidate_objects")


class LayerOptions(TypedDict):
    """Arguments of the `asset` decorator that do not differ between layers."""

    name: str
    group_name: str
    partitions_def: PartitionsDefinition[Any]
    backfill_policy: BackfillPolicy
    owners: list[str]


def name(layer: str, interval: Interval) -> str:
    """The name of a layer's asset: it ends in the interval."""
    return f"{layer}_{interval}"


def key(layer: str, interval: Interval) -> AssetKey:
    """The asset key of a layer."""
    return AssetKey(name(layer, interval))


def sink(name: str) -> str:
    """The layer of a sink, by its name in the registry of intervals."""
    return f"candle_{name}"


def options(layer: str, interval: Interval) -> LayerOptions:
    """What every asset of an interval has in common."""
    return {
        "name": name(layer, interval),
        "group_name": f"interval_{interval}",
        "partitions_def": daily_partitions,
        "backfill_policy": backfill_policy,
        "owners": OWNERS,
    }


def layers(interval: Interval) -> list[str]:
    """The layers of an interval, in the order of the data."""
    return [RAW, FORMATTED, OBJECTS, *map(sink, interval.definition.sinks)]
