"""The check `parity` on the finished days' candidates. How it is judged is in signals/parity.py."""

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    ResourceParam,
    asset_check,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.candidates import CANDIDATE_OBJECTS
from pipeline_assets.assets.check_results import report
from pipeline_assets.assets.inputs import days_of
from pipeline_assets.assets.partitions import daily_partitions
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.strategies import configured_strategies
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings
from pipeline_assets.signals.parity import judge_days

_DESCRIPTION = (
    "The candidates published for a finished day equal those recomputed from the lake's 1m candles, with the "
    "days before as warm-up. Ties at a threshold are separated from errors."
)


def parity_check() -> AssetChecksDefinition:
    """Build the check `parity` on the finished days' candidates."""

    @asset_check(
        asset=CANDIDATE_OBJECTS,
        name="parity",
        additional_deps=[layer.key(layer.OBJECTS, Interval.ONE_MINUTE)],
        partitions_def=daily_partitions,
        description=_DESCRIPTION,
    )
    def parity(
        context: AssetCheckExecutionContext,
        store: ResourceParam[ObjectStore],
        exchange: ResourceParam[Exchange],
        settings: ResourceParam[Settings],
    ) -> AssetCheckResult:
        strategies = configured_strategies(settings.strategies)
        findings = judge_days(store, strategies, days_of(context), exchange.server_time().date())
        return report(context, CANDIDATE_OBJECTS, "parity", findings)

    return parity
