"""Trading records in the warehouse: loads the lake's objects into their tables, and makes the views.

Tables and views are declared in record_tables.py. Which objects are loaded is decided in
collection/record_load.py.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline_assets.resources.record_tables import RECORD_TABLES, VIEWS, RecordTable
from pipeline_assets.resources.warehouse import LoadResult, Warehouse
from pipeline_assets.resources.warehouse_connection import execute
from pipeline_assets.resources.warehouse_statements import (
    TABLES,
    SchemaStatements,
    Sql,
    identifier,
    landing_name,
)
from pipeline_assets.resources.write_guard import require_lease

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection


def load_objects(
    warehouse: Warehouse, table: RecordTable, object_keys: Sequence[str], load_id: str
) -> LoadResult:
    """Make a table hold the rows of objects, by one COPY for 1,000 objects and one MERGE.

    May be repeated after a crash at any point, as `Warehouse.load`.

    Args:
        warehouse: the schema.
        table: the table.
        object_keys: keys below the table's prefix, each once.
        load_id: the Dagster root run's id.

    Raises:
        WarehouseError: unreachable, refused, an object absent or unreadable; see its message.
    """
    landing = landing_name(table.name, load_id, datetime.now(UTC).date())
    names = [key.removeprefix(table.prefix) for key in object_keys]
    statements = warehouse.sql.load_with(
        f"{table.file}_merge", identifier(table.name), landing, table.stage, names
    )
    made = [warehouse.sql.stage(table.stage, table.prefix), *_table(warehouse.sql, table)]
    return warehouse.load_objects(table.name, made, statements, len(names))


def view_statements(sql: SchemaStatements) -> list[Sql]:
    """Return the statements that make the views."""
    return [sql.statement(name) for name in VIEWS]


def make_views(warehouse: Warehouse) -> None:
    """Make the views as this release declares them, and the tables that they read; may be repeated.

    Raises:
        WarehouseError: unreachable, or refused; see its message.
    """
    sql = warehouse.sql
    tables = [sql.candle_tables(interval)[-1] for interval in TABLES]
    tables += [text for table in RECORD_TABLES.values() for text in _table(sql, table)]

    def make(connection: "SnowflakeConnection") -> None:
        require_lease()
        execute(connection, view_statements(sql))

    warehouse.change("make the views", tables, make)


def _table(sql: SchemaStatements, table: RecordTable) -> list[Sql]:
    """Return the statements that make a table, or give an older one its new columns."""
    files = [table.file, table.added] if table.added else [table.file]
    return [sql.statement(file, TABLE=identifier(table.name)) for file in files]
