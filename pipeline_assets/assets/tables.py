"""The load into Snowflake: which objects, and what came of it. The statements are in
resources/warehouse.py.
"""

from datetime import date
from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, ResourceParam, asset

from pipeline_assets.assets import layer
from pipeline_assets.market.interval import Interval
from pipeline_assets.resources.lake_state import SealedDay, mark_sealed
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import read_document, stored_objects_key
from pipeline_assets.resources.warehouse import Warehouse


def candle_table(interval: Interval) -> AssetsDefinition:
    """The asset of an interval's Snowflake table."""

    @asset(
        **layer.options(layer.TABLE, interval),
        deps=[layer.key(layer.OBJECTS, interval)],
        kinds={"snowflake", "sql"},
        # One loader a table at a time: two MERGEs of the same rows would wait for each other.
        pool=f"snowflake_candles_{interval}",
        description=(
            f"Table `CANDLES_{interval.upper()}`: one COPY INTO a landing table from exactly the "
            "objects that this run stored, and one MERGE by symbol and open time that changes only "
            "what differs."
        ),
    )
    def load_table(
        context: AssetExecutionContext,
        store: ResourceParam[ObjectStore],
        warehouse: ResourceParam[Warehouse],
    ) -> MaterializeResult[Any]:
        root_run = context.run.root_run_id or context.run_id
        stored = read_document(store, stored_objects_key(interval, root_run))
        keys = [key.removeprefix("ohlcv/") for key in stored["objects"]]
        loaded = warehouse.load(interval, keys, root_run)
        for day, marks in stored["sealed"].items():
            sealed = {symbol: SealedDay.from_facts(facts) for symbol, facts in marks.items()}
            mark_sealed(store, interval, date.fromisoformat(day), sealed)
        return MaterializeResult(
            metadata={
                "objects": len(keys),
                "rows read": loaded.rows_loaded,
                "rows inserted": loaded.rows_inserted,
                "rows updated": loaded.rows_updated,
                "COPY (s)": round(loaded.copy_seconds, 3),
                "MERGE (s)": round(loaded.merge_seconds, 3),
            }
        )

    return load_table
