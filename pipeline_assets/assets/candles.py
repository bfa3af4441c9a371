"""The format step: raw rows to typed, sorted, checked candles. What a valid candle is stands in
market/cleaning.py.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, ResourceParam, asset

from pipeline_assets.assets import layer
from pipeline_assets.assets.fetch_plan import FetchPlan
from pipeline_assets.assets.presentation import failures, table
from pipeline_assets.market.candles import empty_candles
from pipeline_assets.market.cleaning import clean
from pipeline_assets.market.interval import Interval
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import (
    formatted_key,
    plan_key,
    raw_key,
    read_document,
    read_frames,
    set_aside_key,
    write_frames,
)

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
        root_run = context.run.root_run_id or context.run_id
        key = formatted_key(interval, root_run)
        set_aside: list[pl.DataFrame] = []
        repeated = 0
        plan = FetchPlan.from_facts(read_document(store, plan_key(interval, root_run)))
        with read_frames(store, raw_key(interval, root_run)) as raw:

            def cleaned() -> Iterator["pl.DataFrame"]:
                nonlocal repeated
                for frame in raw:
                    result = clean(frame, interval, plan.windows)
                    repeated += result.repeated
                    if result.set_aside.height:
                        set_aside.append(result.set_aside)
                    yield result.candles

            rows = write_frames(store, key, empty_candles(), cleaned())
        reasons = _keep_set_aside(store, set_aside_key(interval, root_run), set_aside)
        return MaterializeResult(
            metadata={
                "rows": rows,
                "symbols": len(plan.windows),
                "rows set aside": sum(reasons.values()),
                "identical rows": repeated,
                "candles": store.address(key),
                **_set_aside_metadata(store, set_aside_key(interval, root_run), reasons),
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
