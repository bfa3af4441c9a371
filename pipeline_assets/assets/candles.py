"""The asset of the format step. The step itself is in collection/format.py."""

from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, ResourceParam, asset

from pipeline_assets.assets import layer
from pipeline_assets.assets.inputs import step_of
from pipeline_assets.assets.presentation import metadata
from pipeline_assets.collection.findings import Table, failures
from pipeline_assets.collection.format import FormatReport, format_rows
from pipeline_assets.collection.step_inputs import Step
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import Output

_DESCRIPTION = (
    "candles typed and sorted, one row per open time, on the grid and inside the window. A row that fails "
    "a rule is rejected, and kept under `set_aside/` with the reason; none is repaired."
)


def candles(interval: Interval) -> AssetsDefinition:
    """The asset of the formatted candles of one interval."""

    @asset(
        **layer.options(layer.FORMATTED, interval),
        deps=[layer.key(layer.RAW, interval)],
        kinds={"polars", "parquet", "s3"},
        description=f"{interval} {_DESCRIPTION}",
    )
    def format_candles(
        context: AssetExecutionContext, store: ResourceParam[ObjectStore]
    ) -> MaterializeResult[Any]:
        step = step_of(context, store, interval, layer.name(layer.FORMATTED, interval))
        return MaterializeResult(metadata=metadata(_metadata(step, format_rows(step))))

    return format_candles


def _metadata(step: Step, report: FormatReport) -> dict[str, Any]:
    values: dict[str, Any] = {
        "rows": report.rows,
        "symbols": len(report.plan.windows),
        "rows set aside": report.reasons.total(),
        "identical rows": report.repeated,
        "candles": step.store.address(step.own.key(Output.FORMATTED)),
    }
    if report.reasons:
        columns = {"reason": "string", "rows": "int"}
        values["set aside"] = step.store.address(step.own.rejected)
        values["reasons"] = Table.of(columns, report.reasons.most_common())
    return values | failures(report.plan)
