"""A run ends when its process has lost the lease, and frees what it held; a living one is left alone."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path

import pytest
import redis
import yaml
from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    JobDefinition,
    RunsFilter,
    execute_job,
    job,
    op,
    reconstructable,
)
from dagster._core.execution.retries import auto_reexecution_should_retry_run
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from pipeline_assets.dagster_instance.launchers import (
    ProcessRunLauncher,
    WorkerRunLauncher,
    launcher_of,
)
from pipeline_assets.dagster_instance.run_leases import (
    _LOOKS,
    LeaseWatch,
    end_dead_runs,
    leased_executor,
)
from pipeline_assets.local.stack import dagster_environment
from pipeline_assets.resources.leases import LEASE_SECONDS, LeaseStore, lease_key
from pipeline_assets.settings import DagsterSettings, RedisSettings, Settings
from pipeline_assets_tests.fixtures.exchange import die_with_parent
from pipeline_assets_tests.fixtures.redis import RedisServer

POOL = "a_table"
COMMAND = f"""
import sys
from dagster import DagsterInstance, job, op
from pipeline_assets.dagster_instance.run_leases import execute_under_lease
from pipeline_assets.resources.leases import LeaseStore
from pipeline_assets.settings import load_settings

@op(pool={POOL!r})
def load():
    print("holds the pool", flush=True)
    sys.stdin.read()

@job
def loading():
    load()

with DagsterInstance.get() as instance:
    execute_under_lease(loading, LeaseStore(load_settings().redis), {{}}, instance=instance)
"""


@op
def nothing() -> None:
    pass


@job
def waiting() -> None:
    nothing()


@pytest.fixture
def redis_settings(redis_url: str, redis_server: RedisServer) -> RedisSettings:
    return redis_server.settings()


@pytest.fixture(params=["celery", "process"])
def instance(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    redis_settings: RedisSettings,
) -> Iterator[DagsterInstance]:
    """Dagster as dagster.yaml has it, with either launcher."""
    settings = Settings(
        data_dir=tmp_path, redis=redis_settings, dagster={"launcher": request.param}
    )
    for name, value in dagster_environment(settings).items():
        monkeypatch.setenv(name, value)
    with DagsterInstance.get() as made:
        yield made


@contextmanager
def loading_command() -> Iterator["subprocess.Popen[bytes]"]:
    """Provide a command that executes a run itself and does not come out of its pool."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread may hold
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"holds the pool\n"
            yield process
        finally:
            process.kill()


def held(instance: DagsterInstance) -> set[str]:
    """Return the runs that hold the pool."""
    slots = instance.event_log_storage.get_concurrency_info(POOL).claimed_slots
    return {slot.run_id for slot in slots}


def look_as_the_daemon(instance: DagsterInstance) -> None:
    statuses = [DagsterRunStatus.STARTED]
    for record in instance.get_run_records(RunsFilter(statuses=statuses)):
        monitor_started_run(instance, None, record, getLogger())


def test_killed_commands_run_frees_its_pool(
    instance: DagsterInstance, redis_settings: RedisSettings, redis_server: RedisServer
) -> None:
    """A killed command's run ends with its lease and frees its pool, and a live one's does not."""
    watch = LeaseWatch(redis_settings)
    with loading_command() as command:
        [run] = instance.get_runs()
        for _ in range(2):
            assert end_dead_runs(instance, watch) == []
            look_as_the_daemon(instance)
        assert instance.get_run_by_id(run.run_id).status is DagsterRunStatus.STARTED
        assert held(instance) == {run.run_id}
        command.kill()
    # As after the time of a lease.
    redis_server.client().delete(lease_key(run.run_id))
    assert end_dead_runs(instance, watch) == [], "one look does not tell"
    assert end_dead_runs(instance, watch) == [run.run_id]
    assert held(instance) == set()
    ended = instance.get_run_by_id(run.run_id)
    assert ended.status is DagsterRunStatus.FAILURE
    assert not auto_reexecution_should_retry_run(instance, ended, None)
    assert end_dead_runs(instance, watch) == []


def test_daemon_ends_run_without_lease(
    instance: DagsterInstance, redis_settings: RedisSettings
) -> None:
    """Dagster's run monitoring ends a run without a lease at its second look, and no other run."""
    started = DagsterRunStatus.STARTED
    dead, living = (instance.create_run_for_job(waiting, status=started) for _ in range(2))
    LeaseStore(redis_settings).take(living.run_id)
    look_as_the_daemon(instance)
    assert instance.get_run_by_id(dead.run_id).status is started
    look_as_the_daemon(instance)
    assert instance.get_run_by_id(dead.run_id).status is DagsterRunStatus.FAILURE
    assert instance.get_run_by_id(living.run_id).status is started


def test_dead_run_ends_within_promised_time() -> None:
    """A lease and the looks of run monitoring, as often as dagster.yaml has them, fit into that time."""
    repository = Path(__file__).parents[2]
    monitoring = yaml.safe_load((repository / "dagster.yaml").read_text())["run_monitoring"]
    text = (repository / "docs" / "operations.md").read_text("utf-8")
    [promised] = re.findall(r"notices a dead process within (\d+) seconds", text)
    assert LEASE_SECONDS + _LOOKS * monitoring["poll_interval_seconds"] <= int(promised)


def test_silent_redis_kills_no_run(redis_settings: RedisSettings) -> None:
    """While Redis is away no run is called dead."""
    away = redis_settings.model_copy(update={"url": "redis://127.0.0.1:1/0"})
    watch = LeaseWatch(away)
    assert not any(watch.is_dead("a-run") for _ in range(3))


def test_settings_choose_launcher() -> None:
    assert isinstance(launcher_of(Settings()), WorkerRunLauncher)
    process = Settings(dagster=DagsterSettings(launcher="process"))
    assert isinstance(launcher_of(process), ProcessRunLauncher)


def test_process_that_did_not_begin_ends(
    instance: DagsterInstance, redis_settings: RedisSettings
) -> None:
    """Without workers, a launched process that has not begun after four looks is dead."""
    if isinstance(instance.run_launcher, WorkerRunLauncher):
        return
    run = instance.create_run_for_job(waiting, status=DagsterRunStatus.STARTING)
    for looks in (1, 2, 3):
        instance.run_launcher.attend_waiting_run(run, looks)
    assert instance.get_run_by_id(run.run_id).status is DagsterRunStatus.STARTING
    instance.run_launcher.attend_waiting_run(run, 4)
    assert instance.get_run_by_id(run.run_id).status is DagsterRunStatus.FAILURE


SEEN: list[list[str]] = []


def looking_job() -> JobDefinition:
    """Build a job that notes which leases are held, under the executor of all jobs."""
    redis_settings = RedisSettings(url=os.environ["LOOKING_REDIS"])

    @op
    def look() -> None:
        SEEN.append(
            redis.Redis.from_url(redis_settings.url, decode_responses=True).keys("leases:*")
        )

    @job(executor_def=leased_executor(redis_settings))
    def looking() -> None:
        look()

    return looking


def test_executor_holds_lease(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    """A run in a process of its own holds its lease while its steps execute."""
    monkeypatch.setenv("LOOKING_REDIS", redis_url)
    with (
        DagsterInstance.ephemeral() as ephemeral,
        execute_job(reconstructable(looking_job), ephemeral) as executed,
    ):
        assert executed.success
        assert [[lease_key(executed.run_id)]] == SEEN
    assert redis.Redis.from_url(redis_url).keys("leases:*") == []
