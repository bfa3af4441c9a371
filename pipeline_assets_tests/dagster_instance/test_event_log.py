"""The event log stores events where Dagster's own class does, and closes the files of ended runs."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
