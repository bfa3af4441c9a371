"""The asset `model`: a model of the candidates of each strategy, and the check that promotes it. Training and
registry are in research/.
"""

from datetime import UTC, datetime
from typing import Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetExecutionContext,
    AssetsDefinition,
    MaterializeResult,
    ResourceParam,
    StaticPartitionsDefinition,
    asset,
    asset_check,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.presentation import metadata, picture_metadata
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.strategies import strategy_names
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.settings import Settings

_DESCRIPTION = (
    "A model of each strategy's candidates, trained on the newest finalized days (PIPELINE_TRAINING__DAYS) "
    "and the feature tables: `models/{strategy}/{model_id}/` holds manifest, model file and model card. The "
    "check `promotion` makes it current. The schedule `models` requests it weekly."
)
_PROMOTION = (
    "The newest model is better than every baseline after costs, out of sample, and calibrated. Only then "
    "does it become current: `models/{strategy}/current.json`."
)
_partitions = StaticPartitionsDefinition(list(strategy_names()))


def model() -> AssetsDefinition:
    """Build the asset of the models, with a partition for each strategy."""
    declared = asset(
        key=layer.MODEL,
        deps=layer.newest_days(
            layer.key(layer.OBJECTS, Interval.ONE_MINUTE),
            layer.FUNDING_RATES,
            *(layer.key(layer.FEATURES, each) for each in Interval if each.has_table),
        ),
        partitions_def=_partitions,
        # A training takes a core and up to two gigabytes.
        pool="model",
        description=_DESCRIPTION,
        group_name="research",
        owners=layer.OWNERS,
        kinds={"s3", "scikitlearn"},
    )
    return declared(_train)


def _train(
    context: AssetExecutionContext,
    store: ResourceParam[ObjectStore],
    warehouse: ResourceParam[Warehouse],
    settings: ResourceParam[Settings],
) -> MaterializeResult[Any]:
    # Imported here: every run loads the definitions, and few train.
    from pipeline_assets.research.stored_model import train_and_store
    from pipeline_assets.resources.warehouse_features import FeatureTable

    table = FeatureTable(warehouse)
    made = train_and_store(store, settings, table.read, context.partition_key, datetime.now(UTC))
    pictures = {name: picture_metadata(each, name) for name, each in made.pictures.items()}
    address = {"model card": store.address(made.card)}
    return MaterializeResult(metadata={**metadata(made.values), **address, **pictures})


def promotion_check() -> AssetChecksDefinition:
    """Build the check `promotion`. Executed by itself in the UI, it promotes without a new training."""

    @asset_check(
        asset=layer.MODEL,
        name=layer.PROMOTION,
        partitions_def=_partitions,
        description=_PROMOTION,
    )
    def promotion(
        context: AssetCheckExecutionContext, store: ResourceParam[ObjectStore]
    ) -> AssetCheckResult:
        from pipeline_assets.research.model_promotion import promote_newest
        from pipeline_assets.research.model_registry import ModelRegistry

        strategy = context.op_execution_context.partition_key
        finding = promote_newest(ModelRegistry(store), strategy, datetime.now(UTC))
        return AssetCheckResult(
            passed=finding.passed,
            # A model that is not good enough is an answer and no fault: the current one stays.
            severity=AssetCheckSeverity.WARN,
            description=finding.description,
            metadata=metadata(finding.metadata),
        )

    return promotion
