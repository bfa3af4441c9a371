"""The asset `drift`, a UTC day a partition, and the check `model_drift`. The comparison is in research/."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from dagster import (
    AllPartitionMapping,
    AssetCheckResult,
    AssetCheckSeverity,
    AssetDep,
    AssetExecutionContext,
    AssetsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.check_results import report
from pipeline_assets.assets.presentation import metadata, picture_metadata
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.partition_keys import partition_days
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.settings import Settings

_DESCRIPTION = (
    "The drift of each strategy's current model by the day's end: live features of a week against those of "
    "the training, the shares of outcomes, and the probabilities against closed trades of four weeks. "
    "Documents `drift/{strategy}/{yyyyMMdd}.json`. The schedule `model_drift` requests yesterday daily."
)
_CHECKS = {
    layer.MODEL_DRIFT: (
        "No feature, share of outcomes or calibration of a current model moved away from its training. The "
        "description names those that did, and what could not be compared."
    )
}


def drift() -> AssetsDefinition:
    """Build the asset, with the check `model_drift`."""
    declared = asset(
        key=layer.DRIFT,
        deps=[
            *(layer.key(layer.FEATURES, each) for each in Interval if each.has_table),
            AssetDep(layer.MODEL, partition_mapping=AllPartitionMapping()),
            layer.DECISIONS,
            layer.FILLS,
        ],
        check_specs=layer.check_specs(layer.DRIFT, _CHECKS),
        kinds={"s3", "snowflake", "polars"},
        description=_DESCRIPTION,
        pool="drift",
        **layer.daily("research"),
    )
    return declared(_measure)


def _measure(
    context: AssetExecutionContext,
    store: ResourceParam[ObjectStore],
    warehouse: ResourceParam[Warehouse],
    settings: ResourceParam[Settings],
) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
    # Imported here: every run loads the definitions, and one a day measures drift.
    from pipeline_assets.research.drift_days import DriftSources, keep_drift
    from pipeline_assets.resources.warehouse_features import FeatureTable
    from pipeline_assets.trading.traded_decisions import read_day, read_trades

    sources = DriftSources(
        store,
        FeatureTable(warehouse).read,
        lambda day: read_day(store, day),
        lambda days: read_trades(store, settings.trading.account, days),
    )
    days = partition_days(context.partition_keys, datetime.now(UTC).date())
    measured = {day: keep_drift(sources, settings, day) for day in days}
    newest = measured[days[-1]]
    name = "drift of features"
    picture = {name: picture_metadata(newest.picture, name)} if newest.picture else {}
    yield MaterializeResult(metadata={**metadata(newest.values), **picture})
    findings = {day: each.finding for day, each in measured.items()}
    yield report(
        context, layer.DRIFT, layer.MODEL_DRIFT, findings, severity=AssetCheckSeverity.WARN
    )
