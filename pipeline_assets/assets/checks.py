"""The checks on the candle objects that are not of one run's rows: of whole days, and of freshness. How they
are judged is in collection/day_checks.py and freshness.py.
"""

from collections.abc import Iterator

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    ResourceParam,
    asset_check,
    multi_asset_check,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.check_results import report
from pipeline_assets.assets.inputs import step_of
from pipeline_assets.assets.presentation import metadata
from pipeline_assets.collection import day_checks as use_case
from pipeline_assets.collection.freshness import judge_interval
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

_COMPLETE = {
    layer.COMPLETE: "No candle is missing on the lake, from listing to the newest closed one.",
}
_CONSISTENT = {
    layer.CONSISTENT: (
        "High and low enclose open and close; 15m and 1h candles equal the aggregates of 1m: prices and "
        "trades exactly, volumes to 1e-9 relative."
    ),
}


def day_checks(interval: Interval) -> AssetChecksDefinition:
    """Build the checks `complete` and `consistent` on the candle objects of one interval."""
    key, minutes = (
        layer.key(layer.OBJECTS, interval),
        layer.key(layer.OBJECTS, Interval.ONE_MINUTE),
    )
    # In a run of all intervals the minutes have to be stored before they are compared with.
    after = [] if interval is Interval.ONE_MINUTE else [minutes]
    name = f"day_checks_{interval}"

    @multi_asset_check(
        name=name,
        can_subset=True,
        specs=[
            *layer.check_specs(key, _COMPLETE),
            *layer.check_specs(key, _CONSISTENT, after),
        ],
    )
    def check_days(
        context: AssetCheckExecutionContext, store: ResourceParam[ObjectStore]
    ) -> Iterator[AssetCheckResult]:
        # In the UI each check can be executed by itself.
        selected = {each.name for each in context.selected_asset_check_keys}
        found = use_case.check_days(step_of(context, store, interval, name))
        for check, findings in found.items():
            if check in selected:
                yield report(context, key, check, findings)

    return check_days


def freshness_check(interval: Interval) -> AssetChecksDefinition:
    """Build the check `fresh`, for a person who wants to know at once; the sensor reports it by itself."""

    @asset_check(asset=layer.key(layer.OBJECTS, interval), name=layer.FRESH)
    def fresh(
        store: ResourceParam[ObjectStore],
        exchange: ResourceParam[Exchange],
        settings: ResourceParam[Settings],
    ) -> AssetCheckResult:
        """Every symbol's newest stored candle is the newest that the exchange has closed."""
        verdict = judge_interval(store, settings, interval, exchange.server_time())
        finding = verdict.finding(seen=verdict.stored)
        return AssetCheckResult(
            passed=finding.passed,
            description=finding.description,
            metadata=metadata(finding.metadata),
        )

    return fresh
