"""The assets of the Snowflake tables of features. Which days are merged is in collection/feature_load.py, the
features themselves are declared in research/features/.
"""

from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, ResourceParam, asset

from pipeline_assets.assets import layer
from pipeline_assets.assets.inputs import days_of
from pipeline_assets.collection.feature_load import merge_features, whole_months
from pipeline_assets.collection.fetch_plan import RunKind
from pipeline_assets.collection.run_names import FUNDING_BACKFILL_JOB
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.resources.warehouse_features import FeatureTable
from pipeline_assets.settings import Settings

_MADE = (
    "one row a candle, with its return, volatility, trend, range, volume, its relation to Bitcoin and the "
    "market, and its funding. One MERGE computes the rows of the run's days in the warehouse, and those that "
    "look back into these; beside a load of funding rates, the rows of whole months. A value whose history "
    "has a hole is null. `AVAILABLE_AT` is the earliest time at "
    "which a decision may use a row."
)


def features(interval: Interval) -> AssetsDefinition:
    """Build the asset of an interval's table of features."""

    @asset(
        **layer.options(layer.FEATURES, interval),
        deps=[layer.key(layer.TABLE, interval), layer.FUNDING_TABLE],
        kinds={"snowflake", "sql"},
        # Two MERGEs of the same rows would wait for each other.
        pool=f"snowflake_features_{interval}",
        description=f"Table `FEATURES_{interval.upper()}`: {_MADE}",
    )
    def merge(
        context: AssetExecutionContext, store: ResourceParam[ObjectStore],
        warehouse: ResourceParam[Warehouse], settings: ResourceParam[Settings],
    ) -> MaterializeResult[Any]:  # fmt: skip
        if not settings.features.enabled:
            return MaterializeResult(metadata={"switched off by": "PIPELINE_FEATURES__ENABLED"})
        table = FeatureTable(warehouse, settings.features.load_lag_seconds)
        days = days_of(context)
        kind = RunKind.of(context.run.tags)
        if _loads_rates(context):
            days = whole_months(days)
        merged = merge_features(store, table, interval, days, kind, settings.ingest.load_minutes)
        return MaterializeResult(metadata=merged)

    return merge


def _loads_rates(context: AssetExecutionContext) -> bool:
    """Return whether the run completes funding rates, as the job does and a backfill in the UI may."""
    selected = context.run.asset_selection or ()
    return context.run.job_name == FUNDING_BACKFILL_JOB or layer.FUNDING_TABLE in selected
