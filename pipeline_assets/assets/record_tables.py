"""The assets of trading records in the warehouse: a table each, and the views for people. Which objects are
loaded is decided in collection/record_load.py; columns are in resources/warehouse_sql/.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)

from pipeline_assets.assets import layer
from pipeline_assets.assets.inputs import LoadConfig, days_of, root_run_of
from pipeline_assets.collection.fetch_plan import RunKind
from pipeline_assets.collection.record_load import load_records, scheduled_load, update_views
from pipeline_assets.resources import record_tables
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.record_tables import RecordTable
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.settings import Settings

_LOADED = (
    "One COPY INTO a landing table from exactly the objects that changed, and one MERGE by the key that "
    "writes only what differs; no statement where nothing changed. A scheduled run loads the objects of all "
    "days, any other run those of its partitions."
)
_VIEWS = (
    "The views for people: `V_CANDLES`, `V_CANDIDATES`, `V_DECISIONS`, `V_ORDERS`, `V_FILLS`, `V_OUTCOMES`, "
    "with a comment on every column. Made again only when a release declares another text."
)


def record_table_assets() -> list[AssetsDefinition]:
    """Build the assets of the tables that the quarter-hour job loads, and of the views."""
    tables = {
        layer.CANDIDATE_TABLE: (record_tables.CANDIDATES, layer.CANDIDATES, "candidates"),
        layer.DECISION_TABLE: (record_tables.DECISIONS, layer.DECISIONS, "trading"),
        layer.INTENT_TABLE: (record_tables.INTENTS, layer.DECISIONS, "trading"),
        layer.ORDER_TABLE: (record_tables.ORDERS, layer.ORDERS, "trading"),
        layer.FILL_TABLE: (record_tables.FILLS, layer.FILLS, "trading"),
    }
    loads = [record_table(key, *each) for key, each in tables.items()]
    return [*loads, analysis_views([*tables, layer.OUTCOME_TABLE])]


def record_table(
    key: AssetKey, table: RecordTable, after: AssetKey, group: str
) -> AssetsDefinition:
    """Build the asset of a table of trading records."""

    @asset(
        key=key,
        deps=[after],
        kinds={"snowflake", "sql"},
        # Two MERGEs of the same rows would wait for each other.
        pool=f"snowflake_{table.file}",
        description=f"Table `{table.name}`, from `{table.prefix}`. {_LOADED}",
        **layer.daily(group),
    )
    def load(
        context: AssetExecutionContext,
        config: LoadConfig,
        store: ResourceParam[ObjectStore],
        warehouse: ResourceParam[Warehouse],
        exchange: ResourceParam[Exchange],
        settings: ResourceParam[Settings],
    ) -> MaterializeResult[Any]:
        scheduled = RunKind.of(context.run.tags) is RunKind.INGEST
        partitions = days_of(context)
        minutes = settings.ingest.load_minutes
        loaded = load_records(
            store,
            warehouse,
            table,
            None if scheduled else partitions,
            root_run_of(context),
            due=scheduled_load(exchange.server_time, minutes) if scheduled else None,
            all_again=config.reload,
        )
        others = {day: count for day, count in loaded.days.items() if day not in partitions}
        _report_days(context, key, others)
        return MaterializeResult(metadata=dict(loaded.values))

    return load


def analysis_views(after: Sequence[AssetKey]) -> AssetsDefinition:
    """Build the asset of the views for people."""

    @asset(
        key=layer.VIEWS,
        deps=layer.newest_days(*after),
        kinds={"snowflake", "sql"},
        pool="snowflake_views",
        description=_VIEWS,
        group_name="trading",
        owners=layer.OWNERS,
    )
    def make(
        config: LoadConfig,
        store: ResourceParam[ObjectStore],
        warehouse: ResourceParam[Warehouse],
    ) -> MaterializeResult[Any]:
        made = update_views(store, warehouse, again=config.reload)
        return MaterializeResult(metadata={"views made": made})

    return make


def _report_days(context: AssetExecutionContext, key: AssetKey, days: dict[date, int]) -> None:
    """Report the days that a run loaded beside its own partition.

    Without a run: housekeeping deletes old ingest runs, and their own day alone outlives them.
    """
    for day, objects in days.items():
        context.instance.report_runless_asset_event(
            AssetMaterialization(
                key, partition=str(day), metadata={"objects": objects, "loaded by": context.run_id}
            )
        )
