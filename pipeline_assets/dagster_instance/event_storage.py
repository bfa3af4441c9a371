"""Remove the traces of ended runs that Dagster keeps beside the runs: log files, check evaluations, events
that no run wrote. Uses Dagster's own tables where its interface has no way; runs are housekeeping's.

Necessary because Dagster 1.13 has no retention for events: `retention` in dagster.yaml is for ticks only
(dagster-io/dagster issue 33785, open; pull request 33863 would add one for events that belong to no
asset), and `delete_run` leaves check evaluations and, in SQLite, the run's file. It can go with the
version that prunes all three.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

from dagster import DagsterInstance

_NO_RUN = ""


def delete_superseded_check_evaluations(instance: DagsterInstance, before: datetime) -> int:
    """Delete evaluations older than `before` (UTC), but the newest of each check and partition.

    `delete_run` leaves them: 1,440 ingest runs of 1m a day leave some 3,000 rows, each with its event.
    May be repeated; a second time finds nothing. On a storage that is no SQL database, nothing.
    """
    import sqlalchemy as db

    from pipeline_assets.dagster_instance.private_storage import AssetCheckExecutionsTable

    storage = _sql_storage(instance)
    if storage is None:
        return 0
    table = AssetCheckExecutionsTable.c
    newest = db.select(db.func.max(table.id)).group_by(
        table.asset_key, table.check_name, table.partition
    )
    old = AssetCheckExecutionsTable.delete().where(
        table.evaluation_event_timestamp < before.replace(tzinfo=None), table.id.not_in(newest)
    )
    with storage.index_connection() as connection:
        return int(connection.execute(old).rowcount)


def delete_superseded_reports(instance: DagsterInstance, before: datetime) -> int:
    """Delete events older than `before` (UTC) that sensors reported outside any run.

    Kept are events that the UI still shows: the newest materialization of each asset and partition,
    and the event of each check evaluation that is kept. To be called after
    `delete_superseded_check_evaluations`. May be repeated; a second time finds nothing.
    """
    import sqlalchemy as db

    from pipeline_assets.dagster_instance.private_storage import (
        AssetCheckExecutionsTable,
        AssetEventTagsTable,
        SqlEventLogStorageTable,
        SqliteEventLogStorage,
    )

    storage = _sql_storage(instance)
    if storage is None:
        return 0
    event = SqlEventLogStorageTable.c
    old = db.and_(event.run_id == _NO_RUN, event.timestamp < before.replace(tzinfo=None))
    shown = db.select(db.func.max(event.id)).group_by(
        event.asset_key, event.partition, event.dagster_event_type
    )
    # A check's event names its asset in its body only: what shows of it is in its own table.
    evaluated = db.select(AssetCheckExecutionsTable.c.evaluation_event_storage_id).where(
        AssetCheckExecutionsTable.c.evaluation_event_storage_id.is_not(None)
    )
    superseded = db.and_(
        old, db.or_(event.asset_key.is_(None), event.id.not_in(shown)), event.id.not_in(evaluated)
    )
    with storage.index_connection() as connection:
        chosen = db.select(event.id).where(superseded)
        tags = AssetEventTagsTable.delete().where(AssetEventTagsTable.c.event_id.in_(chosen))
        connection.execute(tags)
        deleted = int(
            connection.execute(SqlEventLogStorageTable.delete().where(superseded)).rowcount
        )
    if isinstance(storage, SqliteEventLogStorage):
        # It keeps each event twice: in the index, which is what shows, and in a file a run.
        with storage.run_connection(_NO_RUN) as connection:
            connection.execute(SqlEventLogStorageTable.delete().where(old))
    return deleted


def delete_files_of_deleted_runs(instance: DagsterInstance) -> int:
    """Remove the SQLite files of runs that are no more; returns how many there were.

    `delete_run` empties a run's file of events and leaves it at its size, 200 KB an ingest run of 1m. May
    be repeated, and finds what a crash between a deletion and this left. Files are listed before
    runs, so that one of a run that begins meanwhile is not taken for a left one.
    """
    from pipeline_assets.dagster_instance.private_storage import SqliteEventLogStorage

    storage = _sql_storage(instance)
    if not isinstance(storage, SqliteEventLogStorage):
        return 0
    listed = storage.get_all_run_ids()
    runs = set(instance.get_run_ids())
    left = [run_id for run_id in listed if run_id not in runs]
    for run_id in left:
        path = Path(storage.path_for_shard(run_id))
        for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            name.unlink(missing_ok=True)
    return len(left)


def _sql_storage(instance: DagsterInstance) -> Any:
    """Return the instance's event storage if it is one over SQL (SQLite, PostgreSQL, MySQL), else None."""
    from pipeline_assets.dagster_instance.private_storage import (
        LegacyEventLogStorage,
        SqlEventLogStorage,
    )

    storage: Any = instance.event_log_storage
    if isinstance(storage, LegacyEventLogStorage):
        # The storage that `storage:` in dagster.yaml makes: one for runs, events and schedules.
        storage = storage._storage.event_log_storage
    return storage if isinstance(storage, SqlEventLogStorage) else None
