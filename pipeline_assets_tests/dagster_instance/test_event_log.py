"""The event log stores events where Dagster's own class does, and closes the files of ended runs."""

import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import AssetMaterialization, DagsterInstance, asset, materialize
from dagster._core.storage.event_log import SqliteEventLogStorage

from pipeline_assets.dagster_instance.event_log import PooledSqliteEventLogStorage

OURS = Path(__file__).parents[2] / "dagster.yaml"


@asset
def candle() -> None:
    """Something to materialize."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    held = yaml.safe_load(OURS.read_text(encoding="utf-8"))
    chosen = {"event_log_storage": held["event_log_storage"], "telemetry": {"enabled": False}}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(chosen), encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def instance(home: Path) -> Iterator[DagsterInstance]:
    with DagsterInstance.get() as held:
        yield held


def open_files(home: Path) -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        if descriptor.is_symlink() and (name := _target(descriptor)).startswith(str(home)):
            found.add(name)
    return found


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:
        return ""  # the one that looked


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


def description(directory: Path, run: str) -> tuple[list[Any], list[Any]]:
    """The tables and indexes of a run's file, and the revision that they are stamped with."""
    with closing(sqlite3.connect(directory / f"{run}.db")) as file:
        tables = file.execute("select type, name, sql from sqlite_master order by 1, 2").fetchall()
        return tables, file.execute("select version_num from alembic_version").fetchall()


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
