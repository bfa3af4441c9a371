"""The assets of funding rates, a UTC day a partition: the objects on the lake with their check, and the
Snowflake table. The work is in collection/funding.py and funding_table.py.
"""

from collections.abc import Iterator
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetExecutionContext,
    AssetsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.check_results import report
from pipeline_assets.assets.inputs import FetchConfig, LoadConfig, days_of, root_run_of
from pipeline_assets.assets.presentation import metadata
from pipeline_assets.collection.chosen_symbols import Request
from pipeline_assets.collection.fetch_plan import RunKind
from pipeline_assets.collection.funding import collect_funding
from pipeline_assets.collection.funding_table import load_funding
from pipeline_assets.collection.progress import LogProgress, Progress
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.funding_objects import PREFIX
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.settings import Settings

_RATES = (
    f"Funding rates `{PREFIX}{{symbol}}/{{yyyyMM}}.parquet`, one row a settlement, with the mark price. An "
    "ingest run stores what settled since the last one; any other run completes the months of its "
    "partitions, from the archive's monthly files where a month is over. A missing rate is no row."
)
_TABLE = (
    "Table `FUNDING_RATES`: one COPY INTO a landing table from exactly the objects of the partitions' months "
    "that changed, and one MERGE by symbol and funding time that changes only what differs."
)
_CHECKS = {
    layer.COMPLETE: "Every settlement of the day has a stored rate, at intervals of 8, 4 or 1 hours.",
}


def funding_rates() -> AssetsDefinition:
    """Build the asset of the stored rates, with the check `complete`."""

    @asset(
        key=layer.FUNDING_RATES,
        **layer.daily(layer.FUNDING_GROUP),
        kinds={"binance", "parquet", "s3"},
        check_specs=layer.check_specs(layer.FUNDING_RATES, _CHECKS),
        # Two runs would request the same months; the writes themselves bear it.
        pool=layer.FUNDING,
        description=_RATES,
    )
    def rates(
        context: AssetExecutionContext,
        config: FetchConfig,
        progress: ResourceParam[Progress | None],
        exchange: ResourceParam[Exchange],
        store: ResourceParam[ObjectStore],
        settings: ResourceParam[Settings],
    ) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
        kind, keys = RunKind.of(context.run.tags), context.partition_keys
        hour = Interval.ONE_HOUR
        asked = Request(hour, kind, keys, settings.symbols, config.symbols, config.refresh)
        shown = progress or LogProgress(context.log.info)
        found = collect_funding(exchange, store, settings, asked, shown)
        prefix = {"S3 prefix": store.address(PREFIX)}
        yield MaterializeResult(metadata={**metadata(found.values()), **prefix})
        # A rate that the exchange has not is nothing to act on; a symbol that failed is.
        failed = found.plan.failures
        severity = AssetCheckSeverity.ERROR if failed else AssetCheckSeverity.WARN
        yield report(context, layer.FUNDING_RATES, layer.COMPLETE, found.findings(), severity)

    return rates


def funding_table() -> AssetsDefinition:
    """Build the asset of the Snowflake table of funding rates."""
    declared = asset(
        key=layer.FUNDING_TABLE,
        deps=[layer.FUNDING_RATES],
        # Two MERGEs of the same rows would wait for each other.
        pool="snowflake_funding_rates",
        description=_TABLE,
        kinds={"snowflake", "sql"},
        **layer.daily(layer.FUNDING_GROUP),
    )
    return declared(_load)


def _load(
    context: AssetExecutionContext,
    config: LoadConfig,
    warehouse: ResourceParam[Warehouse],
    store: ResourceParam[ObjectStore],
) -> MaterializeResult[Any]:
    days, root_run = days_of(context), root_run_of(context)
    return MaterializeResult(
        metadata=load_funding(store, warehouse, days, root_run, all_again=config.reload)
    )
