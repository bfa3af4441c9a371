"""The private parts of Dagster's storage that event_log.py, event_storage.py and sqlite_storage.py build on,
checked when they are imported. Dagster documents none of its tables.
"""

from pipeline_assets.private_apis import private_imports, require_names

with private_imports("dagster", __name__):
    from dagster._core.storage.event_log import SqlEventLogStorage
    from dagster._core.storage.event_log.schema import (
        AssetCheckExecutionsTable,
        AssetEventTagsTable,
        SqlEventLogStorageMetadata,
        SqlEventLogStorageTable,
    )
    from dagster._core.storage.event_log.sqlite import sqlite_event_log
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
    from dagster._core.storage.legacy_storage import LegacyEventLogStorage
    from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
    from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
    from dagster._core.storage.sql import get_alembic_config
    from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string
    from dagster._serdes import ConfigurableClassData

require_names(
    "dagster",
    SqliteEventLogStorage,
    (
        *("_connect", "_initdb", "_has_asset_key_col_on_connection", "conn_string_for_shard"),
        *("path_for_shard", "get_all_run_ids", "run_connection", "index_connection"),
    ),
    __name__,
)
for _kind, _checks in (
    (SqliteRunStorage, ("has_run_stats_index_cols", "has_backfill_id_column")),
    (SqliteScheduleStorage, ("has_instigators_table", "_has_instigators_table")),
):
    _names = ("connect", "from_local", "has_built_index", *_checks)
    require_names("dagster", _kind, _names, __name__)
require_names(
    "dagster",
    AssetCheckExecutionsTable.c,
    (
        *("id", "asset_key", "check_name", "partition"),
        *("evaluation_event_timestamp", "evaluation_event_storage_id"),
    ),
    __name__,
)
_EVENT_COLUMNS = ("id", "run_id", "timestamp", "asset_key", "partition", "dagster_event_type")
require_names("dagster", SqlEventLogStorageTable.c, _EVENT_COLUMNS, __name__)
require_names("dagster", AssetEventTagsTable.c, ("event_id",), __name__)

__all__ = [
    "SQLITE_BUSY_TIMEOUT_SECONDS",
    "AssetCheckExecutionsTable",
    "AssetEventTagsTable",
    "ConfigurableClassData",
    "LegacyEventLogStorage",
    "SqlEventLogStorage",
    "SqlEventLogStorageMetadata",
    "SqlEventLogStorageTable",
    "SqliteEventLogStorage",
    "SqliteRunStorage",
    "SqliteScheduleStorage",
    "create_db_conn_string",
    "get_alembic_config",
    "sqlite_event_log",
]
