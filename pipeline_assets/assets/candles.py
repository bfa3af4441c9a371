"""The format step: raw rows to typed, sorted, checked candles. What a valid candle is stands in
market/cleaning.py.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, ResourceParam, asset

from pipeline_assets.assets import layer
from pipeline_assets.assets.inputs import Step
from pipeline_assets.assets.presentation import failures, table
from pipeline_assets.market.candles import empty_candles
from pipeline_assets.market.cleaning import clean
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import Output, write_frames

if TYPE_CHECKING:
    import polars as pl


def candles(interval: Interval) -> AssetsDefinition:
    """The asset of the formatted candles of one interval."""

    @asset(
        **layer.options(layer.FORMATTED, interval),
        deps=[layer.key(layer.RAW, interval)],
        kinds={"polars", "parquet", "s3"},
        description=(
            f"{interval} candles typed and sorted, one row per open time, on the grid and inside the "
            "window. A row that fails a rule is set aside under `set_aside/` with the reason; none is "
            "repaired."
        ),
    )
    def format_candles(
        context: AssetExecutionContext, store: ResourceParam[ObjectStore]
    ) -> MaterializeResult[Any]:
        step = Step.of(context, store, interval, layer.name(layer.FORMATTED, interval))
        own, key = step.own, step.own.key(Output.FORMATTED)
        set_aside: list[pl.DataFrame] = []
        reasons: Counter[str] = Counter()
        repeated = 0
        with step.rows(Output.RAW) as raw:

            def cleaned() -> Iterator["pl.DataFrame"]:
                nonlocal repeated, reasons
                for frame in raw.frames:
                    result = clean(frame, interval, raw.plan.windows)
                    repeated += result.repeated
                    if result.set_aside.height:
                        set_aside.append(result.set_aside)
                    yield result.candles
                # Before the candles are seen: who reads them reads these too.
                reasons = _keep_set_aside(store, own.set_aside, set_aside)
                step.keep_plan(raw.plan, raw.source)

            rows = write_frames(store, key, empty_candles(), cleaned())
        plan = raw.plan
        return MaterializeResult(
            metadata={
                "rows": rows,
                "symbols": len(plan.windows),
                "rows set aside": sum(reasons.values()),
                "identical rows": repeated,
                "candles": store.address(key),
                **_set_aside_metadata(store, own.set_aside, reasons),
                **failures(plan),
            }
        )

    return format_candles


def _keep_set_aside(store: ObjectStore, key: str, frames: "list[pl.DataFrame]") -> Counter[str]:
    """Store the rows that failed a rule; returns how many for each reason. A repeat replaces them."""
    if not frames:
        return Counter()
    write_frames(store, key, frames[0].clear(), frames)
    return Counter(reason for frame in frames for reason in frame["reason"])


def _set_aside_metadata(store: ObjectStore, key: str, reasons: Counter[str]) -> dict[str, Any]:
    if not reasons:
        return {}
    columns = {"reason": "string", "rows": "int"}
    return {"set aside": store.address(key), "reasons": table(columns, reasons.most_common())}
