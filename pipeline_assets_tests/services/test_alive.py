"""A container's health check says whether the service in it works."""

import os
import time
from pathlib import Path

import pytest

from pipeline_assets.resources.heartbeat import trader_heartbeat
from pipeline_assets.resources.workers import Worker, WorkerRegistry
from pipeline_assets.services import alive
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.redis import free_port


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> Settings:
    redis = {"url": redis_url, "retry_seconds": 0}
    return Settings(_env_file=None, data_dir=tmp_path, redis=redis)


@pytest.mark.parametrize("service", ["trader", "inference"])
def test_service_without_heartbeat_is_dead(settings: Settings, service: str) -> None:
    with pytest.raises(alive.NotAliveError, match=f"{service} has shown no work at all"):
        alive.require_alive(settings, service, "")


def test_old_heartbeat_is_dead(settings: Settings) -> None:
    """A trader that hangs is dead two minutes after its last round."""
    trader_heartbeat(settings.data_dir, settings.trading.account).beat()
    alive.require_alive(settings, "trader", "")
    (file,) = (settings.data_dir / "heartbeats").iterdir()
    past = time.time() - alive.SILENCE_SECONDS - 1
    os.utime(file, (past, past))
    with pytest.raises(alive.NotAliveError, match=r"no work for 12\d s"):
        alive.require_alive(settings, "trader", "")


def test_worker_is_asked_by_name(settings: Settings) -> None:
    """Another worker's report says nothing about this one."""
    WorkerRegistry(settings.redis).beat(Worker("pod-1", ("ingest",), "code"))
    alive.require_alive(settings, "worker", "pod-1")
    with pytest.raises(alive.NotAliveError, match=r"'pod-2' does not report.*pod-1"):
        alive.require_alive(settings, "worker", "pod-2")


def test_command_reports_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The container runtime shows why, without a traceback."""
    monkeypatch.setenv("PIPELINE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PIPELINE_REDIS__URL", f"redis://127.0.0.1:{free_port()}/0")
    monkeypatch.setenv("PIPELINE_REDIS__RETRY_SECONDS", "0")
    for arguments in (["trader"], ["worker", "pod-1"]):
        assert alive.main(arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith(".")
