"""Which process executes a Dagster run, and the end of runs whose process is dead. Dagster itself does not
look whether they live; dagster.yaml names the launcher below, so that its daemon does. When runs begin is
not said here.

A dead run that is taken for running permanently holds its place among concurrent runs, and its step's pool.

Necessary because Dagster 1.13's `DefaultRunLauncher` does not support `check_run_worker_health`, which
run monitoring (dagster-io/dagster pull request 5197) asks. It can go once runs are launched by a launcher
that does, such as one for containers or Celery workers.
"""

import json
import os
import time
from socket import gethostname

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from pipeline_assets.private_apis import private_imports
from pipeline_assets.process_identity import is_alive, mark_at, mark_now, mark_of
from pipeline_assets.proxies import is_loopback

with private_imports("dagster", __name__):
    from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, WorkerStatus
    from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
    from dagster._core.storage.tags import GRPC_INFO_TAG

# Host of a run's process. A command's own run adds pid, creation time and mark (process_identity.py); a
# launched run adds LAUNCHED, time and mark of its launch. Older versions wrote less.
PROCESS_TAG = "pipeline/process"
LAUNCHED = "launched"
_UNFINISHED = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def own_process_tags() -> dict[str, str]:
    """The tags of a run that this process executes itself.

    Dagster does not start such a run again when it fails, as it does with those that it launched: the
    command that is repeated goes on where it was.
    """
    import psutil

    pid = os.getpid()
    process = f"{gethostname()} {pid} {psutil.Process().create_time()} {mark_of(pid)}"
    return {PROCESS_TAG: process, "dagster/max_retries": "0"}


def dead_process(instance: DagsterInstance, run: DagsterRun) -> int | None:
    """The pid of the process that executed a run, if it is known to be dead.

    None of a process that lives, of one of another host, and of a run that has not begun.
    """
    host, *named = run.tags.get(PROCESS_TAG, "").split() or ("",)
    if host != gethostname():
        return None
    # A run that a person started again from another one has that one's tags until it is launched.
    launched = run.remote_job_origin is not None
    if launched:
        found = _logged_process(instance, run, named)
    elif named and named[0] != LAUNCHED:
        found = (int(named[0]), float(named[1]), named[2] if len(named) > 2 else "")
    else:
        found = None
    return found[0] if found and not is_alive(*found) else None


def _logged_process(
    instance: DagsterInstance, run: DagsterRun, named: list[str]
) -> tuple[int, float, str] | None:
    """Return the pid that a launched run's process has logged, and when: in UNIX seconds and as a mark.

    The log has the wall clock's time only. The time which that clock showed at the launch turns it into
    a mark, so that a later step of the clock does not matter.
    """
    if not is_loopback(json.loads(run.tags.get(GRPC_INFO_TAG, "{}")).get("host") or ""):
        return None
    for entry in instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event is not None else None
        if pid is not None:
            mark = ""
            if len(named) == 3 and named[0] == LAUNCHED:
                mark = mark_at(named[2], float(named[1]), entry.timestamp)
            return int(str(pid.value)), entry.timestamp, mark
    return None


def end_dead_runs(instance: DagsterInstance) -> list[str]:
    """Report runs of dead processes of this host as failed and free what they held; returns their ids.

    May be repeated at any point, and beside others that do the same: the pools go first, so that who
    is killed in between leaves a run that is found again.
    """
    ended = []
    for listed in instance.get_runs(RunsFilter(statuses=_UNFINISHED)):
        pid = dead_process(instance, listed)
        # Looked at again once its process is dead: it may have ended well since it was listed.
        run = instance.get_run_by_id(listed.run_id) if pid is not None else None
        if run is not None and not run.is_finished:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            instance.report_run_failed(run, f"Process {pid}, which executed this run, was killed.")
            ended.append(run.run_id)
    return ended


class WatchedRunLauncher(DefaultRunLauncher):
    """Dagster's own launcher, whose runs, and those of commands, are looked after by run monitoring.

    The code server tells of a run's process that dies, but not once it has died itself, as when
    memory runs out or the power is cut.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch a run, whose tag then says from which host and when."""
        process = f"{gethostname()} {LAUNCHED} {time.time()} {mark_now()}"
        self._instance.add_run_tags(context.dagster_run.run_id, {PROCESS_TAG: process})
        super().launch_run(context)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Return True, so that Dagster calls `check_run_worker_health`."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether a started run's process is dead; one of which nothing is known passes for running."""
        pid = dead_process(self._instance, run)
        if pid is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"process {pid} is gone")
