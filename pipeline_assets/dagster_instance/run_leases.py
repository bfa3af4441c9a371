"""The lease of a Dagster run: taken by the process that executes the run, and looked for by run
monitoring. Where runs are launched is launchers.py's; the lease itself is in resources/write_guard.py.

Necessary because Dagster 1.13 does not notice that a run's process died, except where a launcher says so.
A dead run that is taken for running holds its place among the runs at once, and its step's pool, forever.
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    ExecuteInProcessResult,
    ExecutorDefinition,
    InitExecutorContext,
    JobDefinition,
    RunsFilter,
    in_process_executor,
)

from pipeline_assets.private_apis import private_imports
from pipeline_assets.resources.leases import LeaseStore, LeaseStoreError
from pipeline_assets.resources.write_guard import holding_lease
from pipeline_assets.settings import RedisSettings

with private_imports("dagster", __name__):
    from dagster._core.executor.in_process import InProcessExecutor
    from dagster._core.utils import make_new_run_id

# A command's own run. Dagster does not retry such a run: the command that is repeated continues the work.
COMMAND_TAGS = {"dagster/max_retries": "0"}
# Between STARTED and the lease lies a moment, so one look without a lease says nothing.
_LOOKS = 2
_LOOK_SECONDS = 6.0
_EXECUTING = [DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
_logger = logging.getLogger(__name__)


class LeasedExecutor(InProcessExecutor):
    """Dagster's in-process executor, which holds the run's lease meanwhile."""

    leases: LeaseStore

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[Any]:
        """Execute the steps; refused while another process executes the run."""
        with holding_lease(self.leases, plan_context.run_id):
            yield from super().execute(plan_context, execution_plan)


def leased_executor(redis: RedisSettings) -> ExecutorDefinition:
    """Return the executor of all jobs: the steps of a run share one process, which holds a lease.

    A process for each step took 11 to 37 s for a run of four.
    """

    def leased(context: InitExecutorContext) -> LeasedExecutor:
        make: Any = in_process_executor.executor_creation_fn
        made = make(context)
        found = LeasedExecutor(made.retries, made.step_dependency_config, made.marker_to_close)
        found.leases = LeaseStore(redis)
        return found

    schema: Any = in_process_executor.config_schema
    return ExecutorDefinition(
        name=in_process_executor.name,
        config_schema=schema,
        executor_creation_fn=leased,
        description="Execute all steps in one process, which holds the run's lease.",
    )


def execute_under_lease(
    job: JobDefinition, leases: LeaseStore, tags: Mapping[str, str], **options: Any
) -> ExecuteInProcessResult:
    """Execute a command's run in this process, which holds the run's lease; see `execute_in_process`."""
    run_id = make_new_run_id()
    with holding_lease(leases, run_id):
        return job.execute_in_process(run_id=run_id, tags={**COMMAND_TAGS, **tags}, **options)


class LeaseWatch:
    """Tells dead runs from living ones, by leases that were missing at every look."""

    def __init__(self, redis: RedisSettings) -> None:
        self._leases = LeaseStore(redis)
        self._missing: dict[str, int] = {}

    def is_dead(self, run_id: str) -> bool:
        """Look at a run that is executing; return whether its process is dead.

        While Redis is away no run is called dead. Without a lease no process can write anyway.
        """
        try:
            held = self._leases.held([run_id])
        except LeaseStoreError as error:
            _logger.warning("Run %s cannot be looked after: %s", run_id, error)
            return False
        if held:
            self._missing.pop(run_id, None)
            return False
        self._missing[run_id] = self._missing.get(run_id, 0) + 1
        return self._missing[run_id] >= _LOOKS

    def has_lease(self, run_id: str) -> bool:
        """Return whether a process executes the run.

        Raises:
            LeaseStoreError: Redis failed.
        """
        return bool(self._leases.held([run_id]))

    def forget(self, run_id: str) -> None:
        """Forget a run that has ended."""
        self._missing.pop(run_id, None)

    @property
    def seconds(self) -> float:
        """How long a lease lives without a renewal."""
        return self._leases.seconds


def end_dead_runs(instance: DagsterInstance, watch: LeaseWatch) -> list[str]:
    """Report dead runs as failed and free what they held; return their ids.

    The call may be repeated at any point, and beside others that do the same: pools are freed first,
    so a kill in between leaves a run that is found again.
    """
    ended = []
    for listed in instance.get_runs(RunsFilter(statuses=_EXECUTING)):
        if not watch.is_dead(listed.run_id):
            continue
        # The run may have ended well since it was listed.
        run = instance.get_run_by_id(listed.run_id)
        watch.forget(listed.run_id)
        if run is not None and not run.is_finished:
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
            instance.report_run_failed(run, no_lease(run, watch.seconds))
            ended.append(run.run_id)
    return ended


def no_lease(run: DagsterRun, seconds: float) -> str:
    """Return the reason for which a dead run ends, for its event log."""
    return (
        f"The worker of run {run.run_id} has not renewed its lease for {seconds:.0f} s: the worker was "
        "killed, paused or cut off from Redis. The next run continues the work."
    )


@contextmanager
def ending_dead_runs(instance: DagsterInstance, redis: RedisSettings) -> Iterator[None]:
    """End dead runs for the length of a block, in a thread: for a command, which may have no daemon.

    A killed call of the same command may still occupy the pool in which one run at a time loads a table,
    for as long as its lease lives.
    """
    stop, watch = threading.Event(), LeaseWatch(redis)

    def look() -> None:
        while True:
            end_dead_runs(instance, watch)
            if stop.wait(_LOOK_SECONDS):
                return

    thread = threading.Thread(target=look, name="dead runs", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
