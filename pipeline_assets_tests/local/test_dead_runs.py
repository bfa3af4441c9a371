"""A run that died together with Dagster's code server does not hold up later ones."""

import os
import signal
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import requests
from dagster import DagsterInstance, DagsterRunStatus

from pipeline_assets.local.stack import StackStatus, running_stack
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.airflow import stack_settings
from pipeline_assets_tests.fixtures.s3 import eventually

LAUNCH = """
mutation ($tags: [ExecutionTag!]!) { launchRun(executionParams: {
  selector: {
    repositoryLocationName: "pipeline_assets", repositoryName: "__repository__", jobName: "tick_1m"
  }
  runConfigData: {}, executionMetadata: { tags: $tags }
}) { ... on LaunchRunSuccess { run { runId } } } }"""


def launch_ingest_run(settings: Settings) -> str | None:
    """Launch an ingest run of 1m over GraphQL; return its id, or None while no code server runs."""
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    tags = [{"key": "dagster/partition", "value": day}]
    url = f"http://127.0.0.1:{settings.dagster.webserver_port}/graphql"
    body = {"query": LAUNCH, "variables": {"tags": tags}}
    reply = requests.post(url, json=body, timeout=60)
    return reply.json()["data"]["launchRun"].get("run", {}).get("runId") if reply.ok else None


def pid_of(status: StackStatus, name: str) -> int:
    [pid] = [each.pid for each in status.services if each.name == name]
    assert pid is not None
    return pid


def kill_with_children(pid: int) -> None:
    """Kill all at once, as when memory runs out: no process is left to report another's death."""
    process = psutil.Process(pid)
    process.suspend()
    for each in (process, *process.children(recursive=True)):
        each.kill()


@pytest.mark.matrix
@pytest.mark.timeout(600)
def test_dead_ingest_does_not_block_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ingest run that died with the code server does not block the next."""
    for name in [name for name in os.environ if name.startswith("PIPELINE_")]:
        monkeypatch.delenv(name)
    settings = stack_settings(tmp_path / "data")
    monkeypatch.setenv("DAGSTER_HOME", str(settings.data_dir / "dagster"))
    with running_stack(settings) as status, DagsterInstance.get() as instance:
        exchange = pid_of(status, "exchange")

        def became(run_id: str, status: DagsterRunStatus) -> bool:
            run = instance.get_run_by_id(run_id)
            return run is not None and run.status is status

        os.kill(exchange, signal.SIGSTOP)
        try:
            dead = launch_ingest_run(settings)
            assert dead is not None
            eventually(lambda: became(dead, DagsterRunStatus.STARTED), "it runs", 120)
            kill_with_children(pid_of(status, "code-server"))
        finally:
            os.kill(exchange, signal.SIGCONT)
        later = eventually(lambda: launch_ingest_run(settings), "the code server is back", 120)
        eventually(lambda: became(later, DagsterRunStatus.SUCCESS), "the next tick is done", 240)
        assert became(dead, DagsterRunStatus.FAILURE)
