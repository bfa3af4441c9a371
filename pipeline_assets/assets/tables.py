"""The assets of the Snowflake tables. Loading them is in collection/table_sink.py."""

from typing import Any

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, ResourceParam, asset

from pipeline_assets.assets import layer
from pipeline_assets.assets.inputs import days_of, root_run_of, step_of
from pipeline_assets.collection.sinks import fill
from pipeline_assets.collection.table_sink import TableSink, load_ledger
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.settings import Settings

_CANDLES = (
    "one COPY INTO a landing table from exactly the objects that this run stored, and one MERGE by symbol "
    "and open time that changes only what differs. Ingest runs load every PIPELINE_INGEST__LOAD_MINUTES."
)
_GAPS = (
    "Table `CANDLE_GAPS`: the candles that are not stored, with the cause. All rows of the run's days are "
    "replaced in one transaction by the objects `gaps/{yyyyMMdd}.parquet`."
)


def candle_table(interval: Interval) -> AssetsDefinition:
    """Build the asset of an interval's Snowflake table."""

    @asset(
        **layer.options(layer.TABLE, interval),
        deps=[layer.key(layer.OBJECTS, interval)],
        kinds={"snowflake", "sql"},
        # One loader a table at a time: two MERGEs of the same rows would wait for each other.
        pool=f"snowflake_candles_{interval}",
        description=f"Table `CANDLES_{interval.upper()}`: {_CANDLES}",
    )
    def load_table(
        context: AssetExecutionContext,
        store: ResourceParam[ObjectStore],
        warehouse: ResourceParam[Warehouse],
        settings: ResourceParam[Settings],
    ) -> MaterializeResult[Any]:
        step = step_of(context, store, interval, layer.name(layer.TABLE, interval))
        sink = TableSink(step, warehouse, settings.ingest.load_minutes)
        return MaterializeResult(metadata=fill(sink))

    return load_table


def candle_gap_table() -> AssetsDefinition:
    """Build the asset of the Snowflake table of gaps."""

    @asset(
        name=layer.GAP_TABLE,
        **layer.daily(layer.GAPS_GROUP),
        deps=[layer.GAPS],
        kinds={"snowflake", "sql"},
        # Two loaders would each delete the rows that they see, and insert all.
        pool="snowflake_candle_gaps",
        description=_GAPS,
    )
    def load_gap_table(
        context: AssetExecutionContext,
        store: ResourceParam[ObjectStore],
        warehouse: ResourceParam[Warehouse],
    ) -> MaterializeResult[Any]:
        loaded = load_ledger(store, warehouse, days_of(context), root_run_of(context))
        return MaterializeResult(metadata=dict(loaded))

    return load_gap_table
