"""A real worker over a real Redis: every run is executed once, and a dead one ends by its lease."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

import psutil
import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter, reconstructable
from dagster._core.launcher import LaunchRunContext
from dagster._core.storage.tags import TagType, get_tag_type
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from pipeline_assets.dagster_instance.celery_app import BACKFILL, INGEST, QUEUES, queue_of
from pipeline_assets.dagster_instance.launchers import WorkerRunLauncher
from pipeline_assets.local.stack import dagster_environment
from pipeline_assets.resources.leases import lease_key
from pipeline_assets.resources.workers import WorkerRegistry
from pipeline_assets.services.worker import IDLE_CHILDREN
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.exchange import die_with_parent
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import eventually
from pipeline_assets_tests.fixtures.wrong_clock import has_compiler, wrong_clock
from pipeline_assets_tests.services.worker_jobs import DIRECTORY, waiting

pytestmark = pytest.mark.xdist_group("worker")
NO_BROKER = "Trying again in"
ENDED = ("SUCCESS", "FAILURE", "CANCELED")


@dataclass
class Stage:
    """Dagster, a Redis, and the files of the job."""

    settings: Settings
    instance: DagsterInstance
    redis: RedisServer
    directory: Path
    environment: dict[str, str]
    worker_pid: int = 0

    @property
    def launcher(self) -> WorkerRunLauncher:
        launcher = self.instance.run_launcher
        assert isinstance(launcher, WorkerRunLauncher)
        return launcher

    @contextmanager
    def worker(
        self, concurrency: int = 2, **environment: str
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Provide a worker that lives, and ends with the block."""
        log = (self.directory / "worker.log").open("ab")
        with (
            log,
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "pipeline_assets.services.worker"),
                    *("--concurrency", str(concurrency)),
                ],
                env=self.environment | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread may hold
            ) as process,
        ):
            self.worker_pid = process.pid
            try:
                eventually(self.registry.living, "the worker lives", 240)
                yield process
            finally:
                for each in (
                    psutil.Process(process.pid).children() if process.poll() is None else ()
                ):
                    each.kill()
                process.kill()

    def worker_log(self) -> str:
        return (self.directory / "worker.log").read_text()

    @property
    def registry(self) -> WorkerRegistry:
        return WorkerRegistry(self.settings.redis)

    def launch(self, kind: str = "tick") -> DagsterRun:
        """Launch a run as Dagster's daemon does."""
        run = self.instance.create_run_for_job(
            waiting,
            job_code_origin=reconstructable(waiting).get_python_origin(),
            status=DagsterRunStatus.STARTING,
            tags={"pipeline/kind": kind},
        )
        self.deliver(run)
        return run

    def deliver(self, run: DagsterRun) -> None:
        self.launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))

    def lines(self, name: str, run: DagsterRun) -> list[str]:
        file = self.directory / f"{name}-{run.run_id}"
        return file.read_text().splitlines() if file.exists() else []

    def go(self, run: DagsterRun) -> None:
        (self.directory / f"go-{run.run_id}").touch()

    def status(self, run: DagsterRun) -> str:
        found = self.instance.get_run_by_id(run.run_id)
        assert found is not None
        return str(found.status.value)

    def began(self, run: DagsterRun) -> tuple[int, int]:
        """Wait until the step runs; return its process and that one's parent."""
        line = eventually(lambda: self.lines("began", run), "the step runs", 120)[0]
        child, parent = map(int, line.split())
        return child, parent

    def ended(self, run: DagsterRun) -> str:
        eventually(lambda: self.status(run) in ENDED, "the run has ended", 120)
        return self.status(run)

    def look_as_the_daemon(self) -> None:
        statuses = [DagsterRunStatus.STARTED]
        for record in self.instance.get_run_records(RunsFilter(statuses=statuses)):
            monitor_started_run(self.instance, None, record, getLogger())  # type: ignore[arg-type]

    def step_failure(self, run: DagsterRun) -> str:
        """Return the error of the step, empty if it has not failed."""
        for entry in self.instance.all_logs(run.run_id):
            event = entry.dagster_event
            if event is not None and event.is_step_failure:
                return str(event.step_failure_data.error_display_string)
        return ""

    def reported(self, run: DagsterRun) -> str:
        return "\n".join(each.message for each in self.instance.all_logs(run.run_id))


@contextmanager
def staged(directory: Path) -> Iterator[Stage]:
    with RedisServer(directory / "redis") as redis, pytest.MonkeyPatch.context() as patch:
        settings = Settings(
            data_dir=directory / "data", redis={"url": redis.url, "retry_seconds": 2}
        )
        environment = {**dagster_environment(settings), DIRECTORY: str(directory)}
        for name, value in environment.items():
            patch.setenv(name, value)
        with DagsterInstance.get() as instance:
            yield Stage(settings, instance, redis, directory, environment)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Provide a stage with a worker, for tests that leave both running."""
    with staged(tmp_path_factory.mktemp("worker")) as made, made.worker():
        yield made


@pytest.fixture
def own_stage(tmp_path: Path) -> Iterator[Stage]:
    """Provide a stage without a worker."""
    with staged(tmp_path) as made:
        yield made


def test_run_executes_in_forked_child(stage: Stage) -> None:
    """A run is executed by a child of the worker, and gives its lease back."""
    run = stage.launch()
    child, parent = stage.began(run)
    assert (psutil.Process(child).ppid(), parent) == (parent, stage.worker_pid)
    assert stage.redis.client().exists(lease_key(run.run_id))
    stage.look_as_the_daemon()
    stage.look_as_the_daemon()
    stage.go(run)
    assert stage.ended(run) == "SUCCESS"
    eventually(lambda: not stage.redis.client().exists(lease_key(run.run_id)), "the lease is back")


def test_idle_worker_keeps_two_children(own_stage: Stage) -> None:
    """Children come with the runs that wait for them, and those beyond two go once no run is left."""
    with own_stage.worker(3, AUTOSCALE_KEEPALIVE="1") as worker:
        children = psutil.Process(worker.pid).children
        assert len(children()) == IDLE_CHILDREN
        runs = [own_stage.launch() for _ in range(3)]
        assert len({own_stage.began(run)[0] for run in runs}) == 3
        for run in runs[1:]:
            own_stage.go(run)
            assert own_stage.ended(run) == "SUCCESS"
        assert len(children()) == 3
        own_stage.go(runs[0])
        assert own_stage.ended(runs[0]) == "SUCCESS"
        eventually(lambda: len(children()) == IDLE_CHILDREN, "the third child has ended", 60)
        assert [own_stage.lines("wrote", run) for run in runs] == [["written"]] * 3


def test_run_of_kind_has_queue() -> None:
    assert queue_of({"pipeline/kind": "tick"}) == queue_of({"pipeline/kind": "seal"}) == INGEST
    assert queue_of({"pipeline/kind": "backfill"}) == queue_of({}) == BACKFILL


def test_redelivered_run_executes_once(stage: Stage) -> None:
    """A second message changes nothing, whether the run is executed just then or has ended."""
    run = stage.launch()
    stage.began(run)
    stage.deliver(run)
    other = stage.launch()
    stage.go(other)
    assert stage.ended(other) == "SUCCESS", "the second message has been taken by now"
    stage.go(run)
    assert stage.ended(run) == "SUCCESS"
    stage.deliver(run)
    last = stage.launch()
    stage.go(last)
    assert stage.ended(last) == "SUCCESS"
    assert len(stage.lines("began", run)) == len(stage.lines("wrote", run)) == 1
    assert stage.status(run) == "SUCCESS"


PROPERTIES = {"delivery_tag": "1", "delivery_info": {}, "body_encoding": "base64"}
UNREADABLE = (
    *(b"no JSON \xff", b'"text"', b"[1]", b"{}", json.dumps({"properties": PROPERTIES}).encode()),
    json.dumps({"body": "%%%", "properties": PROPERTIES, "headers": {"task": "execute_job"}}),
)


def test_worker_drops_unreadable_messages(stage: Stage) -> None:
    """Messages that are none end no worker and do not come again; the next run is executed."""
    redis = stage.redis.client()
    for each in UNREADABLE:
        redis.lpush("celery:backfill", each)
    run = stage.launch("backfill")
    stage.began(run)
    stage.go(run)
    assert stage.ended(run) == "SUCCESS"
    assert psutil.pid_exists(stage.worker_pid)
    assert stage.registry.living()
    eventually(lambda: not redis.exists("celery:unacked"), "nothing is delivered again")
    assert (stage.directory / "worker.log").read_text().count("was dropped") == len(UNREADABLE)


def test_killed_child_ends_with_its_lease(stage: Stage) -> None:
    """A run whose process was killed lives as long as its lease, and the next run executes."""
    dead = stage.launch()
    child, _ = stage.began(dead)
    os.kill(child, signal.SIGKILL)
    stage.look_as_the_daemon()
    stage.look_as_the_daemon()
    assert stage.status(dead) == "STARTED", "the lease has not ended"
    stage.redis.client().pexpire(lease_key(dead.run_id), 1)
    eventually(lambda: not stage.redis.client().exists(lease_key(dead.run_id)), "the lease ended")
    stage.look_as_the_daemon()
    assert stage.status(dead) == "STARTED", "one look does not tell"
    stage.look_as_the_daemon()
    assert stage.status(dead) == "FAILURE"
    assert "has not renewed its lease" in stage.reported(dead)
    later = stage.launch()
    stage.go(later)
    assert stage.ended(later) == "SUCCESS"
    assert not stage.lines("wrote", dead)


@pytest.mark.parametrize("earlier", [False, True])
def test_terminated_run_is_canceled(stage: Stage, earlier: bool) -> None:
    """The UI's button ends a run as Ctrl-C would, and the worker goes on.

    The message's number is in a tag that the UI does not show, or where an earlier version wrote it.
    """
    run = stage.launch()
    stage.began(run)
    stored = stage.instance.get_run_by_id(run.run_id)
    assert stored is not None
    shown = [tag for tag in stored.tags if get_tag_type(tag) is not TagType.HIDDEN]
    assert not [tag for tag in shown if "celery" in tag]
    if earlier:
        number = stored.tags[".dagster/celery_task_id"]
        moved = {".dagster/celery_task_id": "", "dagster-celery/task_id": number}
        stage.instance.add_run_tags(run.run_id, moved)
    assert stage.launcher.terminate(run.run_id)
    assert stage.ended(run) == "CANCELED"
    assert not stage.lines("wrote", run)


def test_run_waits_for_worker_and_executes_once(own_stage: Stage) -> None:
    """Without a worker a run says so and waits; a lost message is sent again; new code ends the worker."""
    stage = own_stage
    waiting_run, lost = stage.launch(), stage.launch("backfill")
    for looks in (1, 2, 3):
        stage.launcher.attend_waiting_run(waiting_run, looks)
    assert stage.reported(waiting_run).count("No worker serves the queue ingest") == 1
    (stage.directory / "go").touch()
    # As a broker that restarted without its data.
    stage.redis.client().delete("celery:backfill")
    with stage.worker() as process:
        assert stage.ended(waiting_run) == "SUCCESS"
        [worker] = stage.registry.living()
        assert worker.queues == QUEUES
        assert stage.status(lost) == "STARTING"
        stage.launcher.attend_waiting_run(lost, 1)
        assert "sent again" not in stage.reported(lost)
        stage.launcher.attend_waiting_run(lost, 2)
        assert stage.ended(lost) == "SUCCESS"
        for run in (waiting_run, lost):
            assert len(stage.lines("wrote", run)) == 1
        stage.registry.publish_code(worker.code)
        # A beat of the worker, which is every five seconds, sees the code of before and then another.
        eventually(lambda: beats(stage) > 0, "the next beat", 60)
        eventually(lambda: beats(stage) > 0, "the beat after that", 60)
        stage.registry.publish_code("another")
        assert process.wait(120) == 0
        assert stage.registry.living() == []


def test_new_code_ends_worker_after_backfill(own_stage: Stage) -> None:
    """A worker with old code executes ingest runs, begins no backfill, and ends after the one it has."""
    stage = own_stage
    with stage.worker() as process:
        [worker] = stage.registry.living()
        backfill = stage.launch("backfill")
        stage.began(backfill)
        stage.registry.publish_code(worker.code)
        eventually(lambda: beats(stage) > 0, "the next beat", 60)
        eventually(lambda: beats(stage) > 0, "the beat after that", 60)
        stage.registry.publish_code("another")
        eventually(lambda: serving(stage) == [(INGEST,)], "it takes no backfill", 60)
        later, minute = stage.launch("backfill"), stage.launch()
        stage.go(minute)
        assert stage.ended(minute) == "SUCCESS"
        assert process.poll() is None
        assert stage.status(later) == "STARTING"
        stage.go(backfill)
        assert process.wait(120) == 0
        assert stage.ended(backfill) == "SUCCESS"
        assert not stage.lines("began", later)
        assert stage.redis.client().llen("celery:backfill") == 1, "the next worker takes it"


def serving(stage: Stage) -> list[tuple[str, ...]]:
    """Return which queues the living workers serve."""
    return [each.queues for each in stage.registry.living()]


@pytest.mark.matrix
@pytest.mark.timeout(900)
def test_worker_outlives_broker(own_stage: Stage) -> None:
    """A broker that was killed, and one that comes back empty, cost the worker nothing but time."""
    stage = own_stage
    (stage.directory / "go").touch()
    with stage.worker() as process:
        for is_empty in (False, True):
            stage.redis.kill()
            if is_empty:
                shutil.rmtree(stage.redis.data_dir)
                # Celery's loop ends with the connection, and with the loop all of its timers.
                eventually(lambda: NO_BROKER in stage.worker_log(), "the loss", 60)
            stage.redis.start()
            eventually(stage.registry.living, "the worker reports again", 240)
            run = stage.launch()
            assert stage.ended(run) == "SUCCESS"
            assert len(stage.lines("wrote", run)) == 1
        assert process.poll() is None


@pytest.mark.matrix
@pytest.mark.timeout(900)
def test_paused_worker_writes_nothing(own_stage: Stage) -> None:
    """A process that was paused for longer than its lease lives ends without its write."""
    stage = own_stage
    with stage.worker():
        paused = stage.launch()
        child, _ = stage.began(paused)
        os.kill(child, signal.SIGSTOP)
        eventually(
            lambda: not stage.redis.client().exists(lease_key(paused.run_id)),
            "the lease ended",
            120,
        )
        stage.look_as_the_daemon()
        stage.look_as_the_daemon()
        assert stage.status(paused) == "FAILURE"
        stage.go(paused)
        later = stage.launch()
        stage.go(later)
        assert stage.ended(later) == "SUCCESS"
        os.kill(child, signal.SIGCONT)
        eventually(lambda: stage.step_failure(paused), "the process has woken", 120)
        assert "may not write" in stage.step_failure(paused)
        assert not stage.lines("wrote", paused)
        assert stage.status(paused) == "FAILURE"


@pytest.mark.matrix
@pytest.mark.timeout(900)
@pytest.mark.skipif(not has_compiler(), reason="needs a C compiler")
@pytest.mark.parametrize("seconds", [-30, 30])
def test_wrong_clock_changes_no_lease(own_stage: Stage, seconds: int) -> None:
    """A worker on a host whose clock is wrong executes its runs, and a dead one ends by Redis' clock."""
    stage = own_stage
    with stage.worker(**wrong_clock(stage.directory, seconds)):
        run, dead = stage.launch(), stage.launch()
        stage.began(run)
        child, _ = stage.began(dead)
        for _ in range(3):
            stage.look_as_the_daemon()
        assert (stage.status(run), stage.status(dead)) == ("STARTED", "STARTED")
        stage.go(run)
        assert stage.ended(run) == "SUCCESS"
        os.kill(child, signal.SIGKILL)
        lease = lease_key(dead.run_id)
        assert 0 < stage.redis.client().pttl(lease) <= 36_000
        eventually(lambda: not stage.redis.client().exists(lease), "the lease ended", 120)
        stage.look_as_the_daemon()
        stage.look_as_the_daemon()
        assert stage.status(dead) == "FAILURE"
        began = (stage.directory / f"began-{run.run_id}").stat().st_mtime
        [record] = stage.instance.get_run_records(RunsFilter(run_ids=[run.run_id]))
        assert abs(record.start_time - began - seconds) < 20, "the worker's clock was wrong"


_last: dict[str, bytes] = {}


def beats(stage: Stage) -> int:
    """Return how many beats came since the last call, none or one."""
    held = stage.redis.client().hgetall("{workers}")
    changed = bool(held != _last)
    _last.clear()
    _last.update(held)
    return int(changed)
