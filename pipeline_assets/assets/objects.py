"""The asset of the candle objects, with the checks on what a run stored. How they are stored and judged is
in collection/upload.py, finalize.py and upload_findings.py.
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
from pipeline_assets.assets.inputs import step_of
from pipeline_assets.assets.presentation import metadata
from pipeline_assets.collection.findings import Table, failures, moment
from pipeline_assets.collection.upload import UploadReport, upload
from pipeline_assets.collection.upload_findings import window_findings, zero_volume_finding
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.candle_objects import prefix
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

# In the metadata: how many symbol-days may be missing candles that the exchange has.
INCOMPLETE = "symbol-days to fetch again"
_CHECKS = {
    "window": "Every candle of the window that this run read is there, for every symbol.",
    "zero_volume": "No symbol has mostly minutes without a trade. Rows of these minutes are kept.",
}


def candle_objects(interval: Interval) -> AssetsDefinition:
    """The asset of the candle objects of one interval, with the checks `window` and `zero_volume`."""
    key = layer.key(layer.OBJECTS, interval)

    @asset(
        **layer.options(layer.OBJECTS, interval),
        deps=[layer.key(layer.FORMATTED, interval)],
        kinds={"s3", "parquet"},
        check_specs=layer.check_specs(key, _CHECKS),
        description=(
            f"Candle objects `ohlcv/{interval}/{{symbol}}/{{yyyyMMdd_HHmm}}.parquet`. The open day is "
            "rewritten as it grows (1m: every PIPELINE_INGEST__UPLOAD_MINUTES); a finished day is finalized "
            "into one object."
        ),
    )
    def objects(
        context: AssetExecutionContext,
        store: ResourceParam[ObjectStore],
        settings: ResourceParam[Settings],
    ) -> Iterator[MaterializeResult[Any] | AssetCheckResult]:
        step = step_of(context, store, interval, layer.name(layer.OBJECTS, interval))
        stored = upload(step, settings.ingest.upload_minutes)
        yield MaterializeResult(metadata=metadata(_metadata(store, stored)))
        yield report(context, key, "window", window_findings(stored))
        zero = dict.fromkeys(stored.plan.days, zero_volume_finding(stored))
        yield report(context, key, "zero_volume", zero, severity=AssetCheckSeverity.WARN)

    return objects


def _metadata(store: ObjectStore, stored: UploadReport) -> dict[str, Any]:
    plan, newest, rows = stored.plan, stored.newest(), stored.rows()
    columns = {"symbol": "string", "rows": "int", "newest open time": "string"}
    oldest_first = sorted(newest, key=lambda symbol: (newest[symbol], symbol))
    values: dict[str, Any] = {
        "rows": sum(rows.values()),
        "symbols": len(rows),
        "objects": len(stored.written),
        "objects changed": sum(each.changed for each in stored.written),
        "S3 prefix": store.address(prefix(plan.interval)),
        "least fresh symbols": Table.of(
            columns, ((s, rows[s], moment(newest[s])) for s in oldest_first)
        ),
        **failures(plan),
    }
    if stored.finalized:
        values[INCOMPLETE] = stored.incomplete
    if waiting := stored.waiting & plan.windows.keys():
        values["symbols whose upload is not due"] = len(waiting)
    if newest:
        values["newest open time"] = moment(max(newest.values()))
    if (lag := stored.lag()) is not None:
        values["lag (s)"] = round(lag.total_seconds(), 3)
    return values
