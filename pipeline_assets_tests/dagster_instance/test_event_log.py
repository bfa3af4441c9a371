"""The event log stores events where Dagster's own class does, and closes the files of ended runs."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from dagster import AssetMaterialization, DagsterInstance, asset, materialize
from dagster._core.storage.event_log import SqliteEventLogStorage

from pipeline_assets.dagster_instance.event_log import PooledSqliteEventLogStorage
from pipeline_assets_tests.fixtures.dagster_home import Description, described, open_files


@asset
def candle() -> None:
    """Something to materialize."""


def test_event_logs_are_interchangeable(home: Path, instance: DagsterInstance) -> None:
    """Dagster's own class reads what ours wrote, and the other way round."""
    ours = instance.event_log_storage
    assert isinstance(ours, PooledSqliteEventLogStorage)
    run = materialize([candle], instance=instance).run_id
    own = SqliteEventLogStorage(str(home / "history" / "runs"))
    reported = [entry.dagster_event_type for entry in own.get_logs_for_run(run)]
    assert reported == [entry.dagster_event_type for entry in ours.get_logs_for_run(run)]
    assert len(reported) > 5
    own.delete_events(run)
    assert not ours.get_logs_for_run(run)


def description(directory: Path, run: str) -> Description:
    return described(directory / f"{run}.db")


def test_run_file_has_dagsters_tables(tmp_path: Path) -> None:
    """A run's file has the same tables and revision, whichever class makes the file."""
    made = []
    for kind in (SqliteEventLogStorage, PooledSqliteEventLogStorage):
        storage = kind(str(tmp_path / kind.__name__))
        assert not storage.get_logs_for_run("a-run")
        made.append(description(tmp_path / kind.__name__, "a-run"))
        storage.dispose()
    assert made[0] == made[1]
    assert len(made[0][1]) == 1


def test_unfinished_run_file_is_completed(tmp_path: Path) -> None:
    """A file whose maker was killed between the tables and their revision is completed."""
    first = PooledSqliteEventLogStorage(str(tmp_path))
    assert not first.get_logs_for_run("a-run")
    whole = description(tmp_path, "a-run")
    first.dispose()
    with closing(sqlite3.connect(tmp_path / "a-run.db")) as file:
        file.execute("delete from alembic_version")
        file.execute("drop table asset_keys")
        file.commit()
    second = PooledSqliteEventLogStorage(str(tmp_path))
    assert not second.get_logs_for_run("a-run")
    second.dispose()
    assert description(tmp_path, "a-run") == whole


def test_many_may_open_a_new_run(tmp_path: Path) -> None:
    """Storages that open a new run's file at once, as processes do, all succeed."""
    storages = [PooledSqliteEventLogStorage(str(tmp_path)) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for run in ("a-run", "another-run", "a-third-run"):
            found = pool.map(lambda storage, run=run: storage.get_logs_for_run(run), storages)
            assert list(found) == [[]] * 4
            assert len(description(tmp_path, run)[1]) == 1
    for storage in storages:
        storage.dispose()


def test_concurrent_reports_are_complete(instance: DagsterInstance) -> None:
    """Events that several threads report at once are all stored."""

    def tell(number: int) -> None:
        instance.report_runless_asset_event(AssetMaterialization("candle", partition=str(number)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tell, range(40)))
    found = instance.fetch_materializations(candle.key, limit=100).records
    assert {record.partition_key for record in found} == {str(number) for number in range(40)}


def test_files_of_many_runs_close(home: Path, instance: DagsterInstance) -> None:
    """Files of many runs do not stay open."""
    runs = [materialize([candle], instance=instance).run_id for _ in range(12)]
    shards = {Path(name).name.split(".")[0] for name in open_files(home / "history" / "runs")}
    assert runs[-1] in shards
    assert runs[0] not in shards
    assert "index" in shards
    instance.event_log_storage.dispose()
    assert not open_files(home / "history" / "runs")
    assert len(instance.event_log_storage.get_logs_for_run(runs[0])) > 5
