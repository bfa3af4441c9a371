"""The asset of the gap ledger, a UTC day a partition, and the checks on it. How it is judged and kept is in
collection/gap_ledger_days.py.
"""

from collections.abc import Iterator
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
    asset,
    asset_check,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.check_results import report
from pipeline_assets.assets.partitions import daily_partitions
from pipeline_assets.assets.presentation import metadata, picture_metadata
from pipeline_assets.collection.gap_ledger_days import (
    false_volume,
    keep_ledger,
    nothing_to_fetch,
    outages,
)
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.partition_keys import partition_days
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.gap_objects import PREFIX
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

CANDLE_GAPS = layer.CANDLE_GAPS
_CHECKS = {
    "nothing_to_fetch": "No closed candle is missing that a backfill might bring.",
    "outages": "The exchange had a candle of every minute, of every symbol that traded.",
}
_DESCRIPTION = (
    "Every candle of the day that should exist and is not stored, of all symbols and intervals, with its "
    f"cause: `{PREFIX}{{yyyyMMdd}}.parquet`. Candles that were not fetched, or were rejected as invalid, can "
    "be filled, and holes of the archive too; outages are the exchange's own."
)
_ZERO_VOLUME = (
    "No quarter of an hour or more without volume that another interval contradicts: such candles are "
    "stored, and false. Materialize their day with `refresh` to fetch it again."
)


def candle_gaps() -> AssetsDefinition:
    """Build the asset of the ledger, with the checks `nothing_to_fetch` and `outages`."""
    declared = asset(
        key=CANDLE_GAPS,
        deps=[layer.key(layer.OBJECTS, interval) for interval in Interval],
        # A 15m or 1h day is finalized, with the reasons for its holes, once it is in the table: the ledger
        # runs after the tables. The tables are no dependency, because the ledger must be written on a
        # night when the warehouse is down. The priority orders only steps that are ready. If a table step
        # waits for another run's load, the ledger runs first and counts confirmed holes as not fetched.
        op_tags={"dagster/priority": "-1"},
        kinds={"polars", "parquet", "s3"},
        check_specs=layer.check_specs(CANDLE_GAPS, _CHECKS),
        description=_DESCRIPTION,
        **layer.daily(layer.GAPS_GROUP),
        # If two ran at once, the one that read first could write last.
        pool="candle_gaps",
    )
    return declared(_judge)


def _judge(
    context: AssetExecutionContext,
    exchange: ResourceParam[Exchange],
    store: ResourceParam[ObjectStore],
    settings: ResourceParam[Settings],
) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
    now = exchange.server_time()
    ledger = keep_ledger(store, settings, partition_days(context.partition_keys, now.date()), now)
    picture = {"completeness of 1m": picture_metadata(ledger.picture)}
    prefix = {"S3 prefix": store.address(PREFIX)}
    yield MaterializeResult(metadata={**metadata(ledger.values), **prefix, **picture})
    findings = {day: nothing_to_fetch(gaps, ledger.gone) for day, gaps in ledger.by_day.items()}
    yield report(context, CANDLE_GAPS, "nothing_to_fetch", findings)
    findings = {day: outages(gaps) for day, gaps in ledger.by_day.items()}
    yield report(context, CANDLE_GAPS, "outages", findings, severity=AssetCheckSeverity.WARN)


def zero_volume_check() -> AssetChecksDefinition:
    """Build the check `zero_volume` on the ledger: by itself, because it reads the days' candles."""

    @asset_check(
        asset=CANDLE_GAPS,
        name="zero_volume",
        partitions_def=daily_partitions,
        description=_ZERO_VOLUME,
    )
    def zero_volume(
        context: AssetCheckExecutionContext,
        exchange: ResourceParam[Exchange],
        store: ResourceParam[ObjectStore],
        settings: ResourceParam[Settings],
    ) -> AssetCheckResult:
        server_time = exchange.server_time()
        days = partition_days(context.op_execution_context.partition_keys, server_time.date())
        findings = {day: false_volume(store, settings, day, server_time) for day in days}
        warn = AssetCheckSeverity.WARN
        return report(context, CANDLE_GAPS, "zero_volume", findings, severity=warn)

    return zero_volume
