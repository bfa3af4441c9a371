"""The asset `universe`: a daily look at what the exchange lists. The findings are in
collection/listing_changes.py.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetExecutionContext,
    AssetsDefinition,
    DagsterInstance,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    TimestampMetadataValue,
    asset,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.check_results import report
from pipeline_assets.assets.presentation import metadata
from pipeline_assets.collection.listing_changes import entries_finding, look_again
from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.market.partition_keys import partition_days
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

UNIVERSE = layer.UNIVERSE
_LOOKED_AT = "looked at"
ENTRIES = "entries"
_DESCRIPTION = (
    "The exchange's list of symbols: `state/universe.json` as it is now, `state/listings.json` as it ever "
    "was, by symbol and onboard date. Reports the symbols listed and delisted since the last look. "
    "exchangeInfo describes the present only, so an old partition is a look of today too."
)
_CHECKS = {
    ENTRIES: (
        "Every entry of exchangeInfo can be read. One that cannot is left out; a symbol that is already "
        "known keeps its stored entry."
    )
}


def universe() -> AssetsDefinition:
    """The asset of the listings."""
    declared = asset(
        key=UNIVERSE,
        description=_DESCRIPTION,
        **layer.daily("universe"),
        kinds={"binance", "s3"},
        check_specs=layer.check_specs(UNIVERSE, _CHECKS),
        # Nothing waits for it by data, and days are planned by what it has seen.
        op_tags={"dagster/priority": "1"},
    )
    return declared(_note)


def _note(
    context: AssetExecutionContext,
    exchange: ResourceParam[Exchange],
    store: ResourceParam[ObjectStore],
    settings: ResourceParam[Settings],
) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
    seen = look_again(exchange, store, settings, last_look(context.instance))
    reported = {_LOOKED_AT: MetadataValue.timestamp(seen.at)}
    yield MaterializeResult(metadata={**reported, **metadata(seen.values)})
    finding = entries_finding(seen.odd, seen.collected)
    severity = AssetCheckSeverity.ERROR if seen.urgent else AssetCheckSeverity.WARN
    days = partition_days(context.partition_keys, seen.at.date())
    yield report(context, UNIVERSE, ENTRIES, dict.fromkeys(days, finding), severity=severity)


def last_look(instance: DagsterInstance) -> datetime | None:
    """The exchange's time when the asset was materialized last; None if it never was."""
    event = instance.get_latest_materialization_event(UNIVERSE)
    held = event.asset_materialization if event else None
    reported = held.metadata.get(_LOOKED_AT) if held else None
    if not isinstance(reported, TimestampMetadataValue):
        return None
    return from_milliseconds(round(reported.value * 1000))
