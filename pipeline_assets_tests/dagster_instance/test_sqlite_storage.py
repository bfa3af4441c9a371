"""Runs, schedules and sensors are stored where Dagster's own classes have them, in files that stay open."""

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from dagster import DagsterInstance
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._core.test_utils import create_run_for_test

from pipeline_assets.dagster_instance.sqlite_storage import (
    PooledSqliteRunStorage,
    PooledSqliteScheduleStorage,
)
from pipeline_assets_tests.fixtures.dagster_home import described, open_files

# By class: Dagster's own class, and the file.
KINDS: list[tuple[Any, Any, str]] = [
    (PooledSqliteRunStorage, SqliteRunStorage, "runs.db"),
    (PooledSqliteScheduleStorage, SqliteScheduleStorage, "schedules.db"),
]
all_kinds = pytest.mark.parametrize(("ours", "dagsters", "file"), KINDS, ids=["runs", "schedules"])


def runs(instance: DagsterInstance) -> set[str]:
    return {run.run_id for run in instance.get_runs()}


def test_runs_are_interchangeable(home: Path, instance: DagsterInstance) -> None:
    """Dagster's own class reads what ours wrote, and the other way round."""
    own = SqliteRunStorage.from_local(str(home / "history"))
    written = create_run_for_test(instance)
    assert [run.run_id for run in own.get_runs()] == [written.run_id]
    own.delete_run(written.run_id)
    assert not runs(instance)


@all_kinds
def test_tables_are_dagsters_own(ours: Any, dagsters: Any, file: str, tmp_path: Path) -> None:
    """A new file has the same tables and revision, whichever class makes the file."""
    for kind in (ours, dagsters):
        kind.from_config_value(None, {"base_dir": str(tmp_path / kind.__name__)})
    made = described(tmp_path / ours.__name__ / file)
    assert made == described(tmp_path / dagsters.__name__ / file)
    assert len(made[1]) == 1


@all_kinds
def test_unfinished_file_is_completed(ours: Any, dagsters: Any, file: str, tmp_path: Path) -> None:
    """A file whose maker was killed between the tables and their revision is completed."""
    dagsters.from_local(str(tmp_path))
    whole = described(tmp_path / file)
    with closing(sqlite3.connect(tmp_path / file)) as opened:
        opened.execute("delete from alembic_version")
        opened.commit()
    ours.from_config_value(None, {"base_dir": str(tmp_path)})
    assert len(described(tmp_path / file)[1]) == len(whole[1])


def test_second_instance_reads_no_migrations(
    home: Path, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code server makes an instance for each evaluation of a sensor; the files stay open in between."""
    written = create_run_for_test(instance)
    before = open_files(home)
    monkeypatch.setattr(ScriptDirectory, "from_config", None)
    with DagsterInstance.get() as second:
        assert runs(second) == {written.run_id}
        assert not second.all_instigator_state()
    assert {Path(name).name for name in open_files(home)} >= {"runs.db", "schedules.db"}
    assert open_files(home) >= before


def test_replaced_file_is_noticed(home: Path, instance: DagsterInstance) -> None:
    """An instance that begins after the data directory was emptied has no runs."""
    create_run_for_test(instance)
    for file in (home / "history").glob("runs.db*"):
        file.unlink()
    with DagsterInstance.get() as second:
        assert not runs(second)
        written = create_run_for_test(second)
        assert runs(second) == {written.run_id}


def _write_run() -> None:
    with DagsterInstance.get() as forked:
        create_run_for_test(forked, run_id="00000000-0000-0000-0000-00000000000a")


def test_forked_process_opens_own_connections(home: Path, instance: DagsterInstance) -> None:
    """A process that is forked while connections are open leaves these to its parent."""
    written = create_run_for_test(instance)
    child = multiprocessing.get_context("fork").Process(target=_write_run)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert runs(instance) == {written.run_id, "00000000-0000-0000-0000-00000000000a"}


def test_unset_home_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a directory the error says what to set."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with pytest.raises(ValueError, match="schedule_storage is not configured: set DAGSTER_HOME"):
        PooledSqliteScheduleStorage.from_config_value(None, {})
