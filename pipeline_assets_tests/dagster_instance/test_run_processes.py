"""A run whose process is dead ends, and frees what it held; one that lives is left alone."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from pathlib import Path

import psutil
import pytest
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter, job, op
from dagster._core.execution.retries import auto_reexecution_should_retry_run
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from pipeline_assets.dagster_instance.run_processes import (
    PROCESS_TAG,
    end_dead_runs,
    own_process_tags,
)
from pipeline_assets.local.stack import dagster_environment
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.exchange import die_with_parent

POOL = "a_table"
COMMAND = f"""
import sys
from dagster import DagsterInstance, job, op
from pipeline_assets.dagster_instance.run_processes import own_process_tags

@op(pool={POOL!r})
def load():
    print("holds the pool", flush=True)
    sys.stdin.read()

@job
def loading():
    load()

with DagsterInstance.get() as instance:
    loading.execute_in_process(instance=instance, tags=own_process_tags())
"""


@op
def nothing() -> None:
    pass


@job
def waiting() -> None:
    nothing()


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    """Dagster as dagster.yaml has it."""
    environment = dagster_environment(Settings(data_dir=tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    with DagsterInstance.get() as made:
        yield made


@contextmanager
def loading_command() -> Iterator["subprocess.Popen[bytes]"]:
    """A command that executes a run itself and does not come out of its pool."""
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
    """The runs that hold the pool."""
    slots = instance.event_log_storage.get_concurrency_info(POOL).claimed_slots
    return {slot.run_id for slot in slots}


def look_as_the_daemon(instance: DagsterInstance) -> None:
    statuses = [DagsterRunStatus.STARTED]
    for record in instance.get_run_records(RunsFilter(statuses=statuses)):
        monitor_started_run(instance, None, record, getLogger())


def test_killed_commands_run_frees_its_pool(
    instance: DagsterInstance,
) -> None:
    """A killed command's run ends and frees its pool, and a live one's does not."""
    with loading_command() as command:
        [run] = instance.get_runs()
        assert end_dead_runs(instance) == []
        look_as_the_daemon(instance)
        assert instance.get_run_by_id(run.run_id).status is DagsterRunStatus.STARTED
        assert held(instance) == {run.run_id}
        command.kill()
    assert end_dead_runs(instance) == [run.run_id]
    assert held(instance) == set()
    ended = instance.get_run_by_id(run.run_id)
    assert ended.status is DagsterRunStatus.FAILURE
    assert not auto_reexecution_should_retry_run(instance, ended, None)
    assert end_dead_runs(instance) == []


@pytest.fixture
def dead_process_tags(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The tags of a process that has ended."""
    with subprocess.Popen(["sleep", "60"]) as process, monkeypatch.context() as patch:
        dead = psutil.Process(process.pid)
        patch.setattr(psutil, "Process", lambda: dead)
        patch.setattr("os.getpid", lambda: dead.pid)
        tags = own_process_tags()
        process.kill()
    return tags


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
def test_run_ends_with_its_process(
    instance: DagsterInstance, dead_process_tags: dict[str, str], status: str
) -> None:
    """However far a run came, it ends with its process."""
    run = instance.create_run_for_job(
        waiting, tags=dead_process_tags, status=DagsterRunStatus(status)
    )
    assert end_dead_runs(instance) == [run.run_id]
    assert instance.get_run_by_id(run.run_id).status is DagsterRunStatus.FAILURE


def test_daemon_ends_killed_commands_run(
    instance: DagsterInstance, dead_process_tags: dict[str, str]
) -> None:
    """The daemon ends the run of a killed command that is not repeated."""
    started = DagsterRunStatus.STARTED
    run = instance.create_run_for_job(waiting, tags=dead_process_tags, status=started)
    look_as_the_daemon(instance)
    ended = instance.get_run_by_id(run.run_id)
    assert ended.status is DagsterRunStatus.FAILURE
    assert not auto_reexecution_should_retry_run(instance, ended, None)


def test_unknown_processes_are_left_alone(
    instance: DagsterInstance, dead_process_tags: dict[str, str]
) -> None:
    """A run whose process is not known to be dead is left alone."""
    _, pid, created, mark = dead_process_tags[PROCESS_TAG].split()
    for tags in (
        {},
        own_process_tags(),
        {PROCESS_TAG: f"another-host {pid} {created} {mark}"},
    ):
        started = DagsterRunStatus.STARTED
        instance.create_run_for_job(waiting, tags=tags, status=started)
    ended = DagsterRunStatus.SUCCESS
    instance.create_run_for_job(waiting, tags=dead_process_tags, status=ended)
    assert end_dead_runs(instance) == []


def test_reused_process_id_is_another_process(
    instance: DagsterInstance,
) -> None:
    """A process that got the id later is not the one that was killed.

    With a tag as older versions wrote it, and with one of now.
    """
    host, pid, created, mark = own_process_tags()[PROCESS_TAG].split()
    boot, _, seconds = mark.rpartition("/")
    old = f"{host} {pid} {float(created) - 3600}"
    new = f"{host} {pid} {created} {boot}/{float(seconds) - 3600}"
    runs = {
        instance.create_run_for_job(
            waiting, tags={PROCESS_TAG: tag}, status=DagsterRunStatus.STARTED
        ).run_id
        for tag in (old, new)
    }
    assert set(end_dead_runs(instance)) == runs


def test_clock_step_kills_no_run(instance: DagsterInstance) -> None:
    """A step of the wall clock makes no run look dead.

    The clock was an hour behind when the command began: its creation time is of an hour ago.
    """
    host, pid, created, mark = own_process_tags()[PROCESS_TAG].split()
    stepped = {PROCESS_TAG: f"{host} {pid} {float(created) - 3600} {mark}"}
    instance.create_run_for_job(waiting, tags=stepped, status=DagsterRunStatus.STARTED)
    assert end_dead_runs(instance) == []
