"""The asset `backtest_report`: a report for each strategy. The backtest and the page are made in
research/.
"""

from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    MaterializeResult,
    ResourceParam,
    StaticPartitionsDefinition,
    asset,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.presentation import metadata, picture_metadata
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.strategies import strategy_names
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

_DESCRIPTION = (
    "A backtest of each strategy over the newest finalized days (PIPELINE_BACKTEST__REPORT_DAYS), with the "
    "parameters, rules, symbols and account of the settings: `reports/backtest/{strategy}.html`, one file "
    "to open in a browser. The sensor `backtest_reports` requests it after each finished day. Names with "
    "several entries in the settings are run together, over shared capital."
)


def backtest_report() -> AssetsDefinition:
    """Build the asset of the reports, with a partition for each strategy."""
    declared = asset(
        key=layer.BACKTEST_REPORT,
        deps=layer.newest_days(layer.key(layer.OBJECTS, Interval.ONE_MINUTE), layer.FUNDING_RATES),
        partitions_def=StaticPartitionsDefinition(list(strategy_names())),
        # A backtest takes a core and hundreds of megabytes.
        pool="backtest_report",
        description=_DESCRIPTION,
        group_name="research",
        owners=layer.OWNERS,
        kinds={"s3", "polars"},
    )
    return declared(_make_report)


def _make_report(
    context: AssetExecutionContext,
    store: ResourceParam[ObjectStore],
    settings: ResourceParam[Settings],
) -> MaterializeResult[Any]:
    # Imported here: every run loads the definitions, and few need the engine.
    from pipeline_assets.research.stored_report import store_report

    made = store_report(store, settings, context.partition_key)
    picture = {"equity and drawdown": picture_metadata(made.picture, "equity and drawdown")}
    address = {"report": store.address(made.key)}
    return MaterializeResult(metadata={**metadata(made.values), **address, **picture})
