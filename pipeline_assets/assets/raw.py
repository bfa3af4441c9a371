"""The asset of the fetch. The choice of candles and of their source is in collection/fetch.py."""

from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.inputs import FetchConfig
from pipeline_assets.assets.presentation import metadata
from pipeline_assets.collection.chosen_symbols import Request
from pipeline_assets.collection.fetch import FetchReport, fetch
from pipeline_assets.collection.fetch_plan import RunKind
from pipeline_assets.collection.findings import failures, moment
from pipeline_assets.collection.progress import LogProgress, Progress
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

_DESCRIPTION = (
    "candles as Binance replied, decimal strings, all symbols in one Parquet under `raw/`. A tick fetches "
    "what is due by the exchange's clock; any other run fetches the whole days of its partitions. Only "
    "closed candles are asked for."
)


def raw_candles(interval: Interval) -> AssetsDefinition:
    """The asset of the fetch of one interval."""

    @asset(
        **layer.options(layer.RAW, interval),
        kinds={"binance", "parquet", "s3"},
        description=f"{interval} {_DESCRIPTION}",
    )
    def raw(
        context: AssetExecutionContext,
        config: FetchConfig,
        exchange: ResourceParam[Exchange],
        store: ResourceParam[ObjectStore],
        settings: ResourceParam[Settings],
        progress: ResourceParam[Progress | None],
    ) -> MaterializeResult[Any]:
        kind, keys = RunKind.of(context.run.tags), context.partition_keys
        asked = Request(interval, kind, keys, settings.symbols, config.symbols, config.refresh)
        reported = progress or LogProgress(context.log.info)
        found = fetch(
            exchange, store, settings, asked, context.run_id, reported, context.run.root_run_id
        )
        return MaterializeResult(metadata=metadata(_metadata(found)))

    return raw


def _metadata(report: FetchReport) -> dict[str, Any]:
    plan = report.plan
    return {
        "rows": report.rows,
        "symbols": len(plan.windows),
        "newest closed candle": moment(plan.newest),
        "rows/s": report.rows_per_second,
        "weight spent": plan.weight,
        "weight allowed a minute": report.weight_allowed,
        "symbol-days stored before": sum(map(len, plan.complete.values())),
        "kind of run": plan.kind.value,
        "replies": report.replies,
        **(report.archive.values() if report.archive else {}),
        **failures(plan),
    }
