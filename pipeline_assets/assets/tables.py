"""The load into Snowflake: which objects, and what came of it. The statements are in
resources/warehouse.py.
"""

from datetime import date
from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, ResourceParam, asset

from pipeline_assets.assets import layer
from pipeline_assets.assets.inputs import Step
from pipeline_assets.assets.partitions import backfill_policy, daily_partitions
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.finalized_days import SealedDay, mark_sealed
from pipeline_assets.resources.gap_objects import read_gaps
from pipeline_assets.resources.object_store import ObjectStore
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
        step = Step.of(context, store, interval, layer.name(layer.TABLE, interval))
        stored = step.stored()
        keys = [key.removeprefix("ohlcv/") for key in stored["objects"]]
        loaded = warehouse.load(interval, keys, step.own.run)
        for day, marks in stored["sealed"].items():
            sealed = {symbol: SealedDay.from_dict(facts) for symbol, facts in marks.items()}
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


def candle_gap_table() -> AssetsDefinition:
    """The asset of the Snowflake table of gaps."""

    @asset(
        name=layer.GAP_TABLE,
        group_name=layer.GAPS_GROUP,
        partitions_def=daily_partitions,
        backfill_policy=backfill_policy,
        owners=layer.OWNERS,
        deps=[layer.GAPS],
        kinds={"snowflake", "sql"},
        # Two loaders would each delete the rows that they see, and insert all.
        pool="snowflake_candle_gaps",
        description=(
            "Table `CANDLE_GAPS`: the candles that are not stored, with the cause. Of the run's days all "
            "rows are replaced in one transaction by what the objects `gaps/{yyyyMMdd}.parquet` say."
        ),
    )
    def load_gap_table(
        context: AssetExecutionContext,
        store: ResourceParam[ObjectStore],
        warehouse: ResourceParam[Warehouse],
    ) -> MaterializeResult[Any]:
        days = [date.fromisoformat(key) for key in context.partition_keys]
        ledgers = store.each(lambda day: read_gaps(store, day), days)
        # An object that is absent is the warehouse's to name.
        with_gaps = [
            day for day, gaps in zip(days, ledgers, strict=True) if gaps is None or gaps.height
        ]
        root_run = context.run.root_run_id or context.run_id
        rows = warehouse.replace_gaps(days, with_gaps, root_run)
        return MaterializeResult(metadata={"days": len(days), "gaps": rows})

    return load_gap_table
