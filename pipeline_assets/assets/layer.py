"""The shared parts of all layers' assets: keys, group, partitions, owners. No layer's own work."""

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from dagster import (
    AssetCheckSpec,
    AssetDep,
    AssetKey,
    BackfillPolicy,
    LastPartitionMapping,
    PartitionsDefinition,
)

from pipeline_assets.assets.partitions import backfill_policy, daily_partitions
from pipeline_assets.collection.step_inputs import MAKERS
from pipeline_assets.market.intervals import Interval

OWNERS = ["team:market-data"]
RAW, FORMATTED, OBJECTS = MAKERS.values()
SLOTS, TABLE, FEATURES = "candle_slots", "candle_table", "features"
# For all intervals together: the ledger of missing candles, and its table.
GAPS, GAP_TABLE, GAPS_GROUP = "candle_gaps", "candle_gap_table", "gaps"
# The keys that jobs and sensors need; the assets are declared in the modules of these names.
BACKTEST_REPORT, MODEL = AssetKey("backtest_report"), AssetKey("model")
DRIFT, MODEL_DRIFT = AssetKey("drift"), "model_drift"
CANDLE_GAPS, UNIVERSE = AssetKey(GAPS), AssetKey("universe")
FUNDING, FUNDING_GROUP = "funding_rates", "funding"
FUNDING_RATES, FUNDING_TABLE = AssetKey(FUNDING), AssetKey("funding_table")
CANDIDATES, CANDIDATE_OBJECTS = AssetKey("candidates"), AssetKey("candidate_objects")
DECISIONS, ORDERS = AssetKey("decisions"), AssetKey("orders")
FILLS, POSITIONS = AssetKey("fills"), AssetKey("positions")
# The warehouse's tables of trading records, and the views for people.
CANDIDATE_TABLE, DECISION_TABLE = AssetKey("candidate_table"), AssetKey("decision_table")
INTENT_TABLE, ORDER_TABLE = AssetKey("intent_table"), AssetKey("order_table")
FILL_TABLE, VIEWS = AssetKey("fill_table"), AssetKey("analysis_views")
OUTCOMES, OUTCOME_TABLE = AssetKey("candidate_outcomes"), AssetKey("candidate_outcome_table")
DAY_REPORT, WEEK_REPORT = AssetKey("daily_report"), AssetKey("weekly_report")
MONTH_REPORT = AssetKey("monthly_report")
RECONCILIATION, MATCHES_EXCHANGE = AssetKey("account_reconciliation"), "matches_exchange"
TRADING_TABLES = (CANDIDATE_TABLE, DECISION_TABLE, INTENT_TABLE, ORDER_TABLE, FILL_TABLE)

# The checks of candle objects that are not of one run's rows: of whole days, and of the time that passed.
COMPLETE, CONSISTENT, FRESH = "complete", "consistent", "fresh"
# The check of a model, which makes it current.
PROMOTION = "promotion"
# The check of a day's object of trading records.
READABLE = "readable"


class DailyOptions(TypedDict):
    """Arguments of the `asset` decorator that do not differ between assets."""

    group_name: str
    partitions_def: PartitionsDefinition[Any]
    backfill_policy: BackfillPolicy
    owners: list[str]


class LayerOptions(DailyOptions):
    """Arguments for an asset of an interval, which is named after it."""

    name: str


def name(layer: str, interval: Interval) -> str:
    """Return the name of a layer's asset: it ends in the interval."""
    return f"{layer}_{interval}"


def key(layer: str, interval: Interval) -> AssetKey:
    """Return the asset key of a layer."""
    return AssetKey(name(layer, interval))


def sink(name: str) -> str:
    """Return the layer of a sink, by its name in the registry of intervals."""
    return f"candle_{name}"


def daily(group: str) -> DailyOptions:
    """Return the arguments of an asset with daily partitions."""
    return {
        "group_name": group,
        "partitions_def": daily_partitions,
        "backfill_policy": backfill_policy,
        "owners": OWNERS,
    }


def options(layer: str, interval: Interval) -> LayerOptions:
    """Return the arguments of an asset of an interval."""
    return {"name": name(layer, interval), **daily(f"interval_{interval}")}


def layers(interval: Interval) -> list[str]:
    """Return the layers of an interval, in the order of the data."""
    features = [FEATURES] if interval.has_table else []
    return [RAW, FORMATTED, OBJECTS, *map(sink, interval.definition.sinks), *features]


def check_specs(
    key: AssetKey, descriptions: Mapping[str, str], after: Iterable[AssetKey] = ()
) -> list[AssetCheckSpec]:
    """Return the checks of an asset that have its partitions, by name and description."""
    return [
        AssetCheckSpec(
            name,
            asset=key,
            additional_deps=list(after),
            partitions_def=daily_partitions,
            description=description,
        )
        for name, description in descriptions.items()
    ]


def newest_days(*keys: AssetKey) -> list[AssetDep]:
    """Return dependencies on the newest day: all older ones are thousands of partitions."""
    return [AssetDep(key, partition_mapping=LastPartitionMapping()) for key in keys]
