"""The private parts of Dagster's event storage that event_log.py and event_storage.py build on, checked when
they are imported. Dagster documents none of its tables.
"""

from pipeline_assets.dagster_instance.private import private_names, require

with private_names():
    from dagster._core.storage.event_log import SqlEventLogStorage
    from dagster._core.storage.event_log.schema import (
        AssetCheckExecutionsTable,
        AssetEventTagsTable,
        SqlEventLogStorageTable,
    )
    from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
    from dagster._core.storage.legacy_storage import LegacyEventLogStorage
    from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
    from dagster._serdes import ConfigurableClassData

    require(
        SqliteEventLogStorage,
        *("_connect", "_initdb", "_has_asset_key_col_on_connection", "conn_string_for_shard"),
        *("path_for_shard", "get_all_run_ids", "run_connection", "index_connection"),
    )
    require(
        AssetCheckExecutionsTable.c,
        *("id", "asset_key", "check_name", "partition"),
        *("evaluation_event_timestamp", "evaluation_event_storage_id"),
    )
    require(
        SqlEventLogStorageTable.c,
        *("id", "run_id", "timestamp", "asset_key", "partition", "dagster_event_type"),
    )
    require(AssetEventTagsTable.c, "event_id")

__all__ = [
    "SQLITE_BUSY_TIMEOUT_SECONDS",
    "AssetCheckExecutionsTable",
    "AssetEventTagsTable",
    "ConfigurableClassData",
    "LegacyEventLogStorage",
    "SqlEventLogStorage",
    "SqlEventLogStorageTable",
    "SqliteEventLogStorage",
]
