"""Where Dagster's runs are executed: on warm Celery workers, or in a process each. dagster.yaml names
`RunLauncherOfSettings`, which chooses by PIPELINE_DAGSTER__LAUNCHER. How a worker executes a run is
services/worker.py's, and how a dead run is recognised run_leases.py's.
"""

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from dagster import DagsterRun

from pipeline_assets.dagster_instance.run_leases import LeaseWatch, no_lease
from pipeline_assets.private_apis import private_imports, require_names
from pipeline_assets.resources.workers import WorkerRegistry, WorkerRegistryError
from pipeline_assets.settings import Settings, load_settings

with private_imports("dagster", __name__):
    from dagster._core.launcher import (
        CheckRunHealthResult,
        LaunchRunContext,
        RunLauncher,
        WorkerStatus,
    )
    from dagster._core.launcher.default_run_launcher import DefaultRunLauncher
    from dagster._core.storage.tags import HIDDEN_TAG_PREFIX
    from dagster._serdes import ConfigurableClass, ConfigurableClassData
    from dagster_celery.launcher import CeleryRunLauncher, _get_run_priority
    from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG, DAGSTER_CELERY_TASK_ID_TAG

    require_names(
        "dagster-celery",
        CeleryRunLauncher,
        ("_launch_celery_task_run", "launch_run", "terminate"),
        __name__,
    )

from pipeline_assets.dagster_instance.celery_app import app_arguments, queue_of

# The number of a run's message. dagster-celery's own tag of it fills the list of runs in the UI.
_MESSAGE_TAG = f"{HIDDEN_TAG_PREFIX}celery_task_id"
# A run's process that has not begun to execute after this many looks of the sensor waiting_runs is dead.
_LOOKS_TO_START = 4
# Workers say within this time which messages they have taken.
_REPLY_SECONDS = 3.0


class _Watched(RunLauncher):
    """The base of both launchers: a started run lives as long as its lease."""

    _watch: LeaseWatch

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether `check_run_worker_health` may be called."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return FAILED for a started run without a lease, wherever it ran."""
        if not self._watch.is_dead(run.run_id):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        self._watch.forget(run.run_id)
        return CheckRunHealthResult(WorkerStatus.FAILED, no_lease(run, self._watch.seconds))

    @abstractmethod
    def attend_waiting_run(self, run: DagsterRun, looks: int) -> None:
        """See to a run that was launched and has not begun; called by the sensor waiting_runs.

        Args:
            run: the run, in status STARTING.
            looks: how often in a row the sensor has seen the run wait.
        """


class WorkerRunLauncher(_Watched, CeleryRunLauncher):
    """dagster-celery's launcher with the settings' broker, two queues, and leases."""

    def __init__(self, settings: Settings, inst_data: ConfigurableClassData | None = None) -> None:
        """See `RunLauncherOfSettings`. The broker's address, with its password, stays in this process."""
        super().__init__(**app_arguments(settings), inst_data=inst_data)
        # dagster-celery registers its task anew at each launch, which Celery 5.7 warns about.
        warnings.filterwarnings("ignore", message="Task name 'execute_job' is already registered")
        self._watch = LeaseWatch(settings.redis)
        self._workers = WorkerRegistry(settings.redis)

    @property
    def supports_resume_run(self) -> bool:
        """Whether a dead run goes on elsewhere: no, since the next run continues the work."""
        return False

    def launch_run(self, context: LaunchRunContext) -> None:
        """Send a run to the queue that its tags name, or else to that of its kind."""
        run = context.dagster_run
        queue = _queue(run)
        tagged = run.with_tags({**run.tags, DAGSTER_CELERY_QUEUE_TAG: queue})
        super().launch_run(context._replace(dagster_run=tagged))

    def _launch_celery_task_run(
        self, run: DagsterRun, task_signature: Any, routing_key: str
    ) -> None:
        """Send a run's message; called by dagster-celery, whose own notes its number in a visible tag."""
        queue = _queue(run)
        sent = task_signature.apply_async(
            priority=_get_run_priority(run), queue=queue, routing_key=f"{queue}.{routing_key}"
        )
        self._instance.add_run_tags(run.run_id, {_MESSAGE_TAG: sent.task_id})
        self._instance.report_engine_event(
            f"The run was sent to the workers of the queue {queue}, as message {sent.task_id}.",
            run,
            cls=self.__class__,
        )

    def terminate(self, run_id: str) -> bool:
        """End a run like Ctrl-C, which Dagster reports as canceled; a queued one is dropped."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        message = _message(run)
        if message is not None:
            self.celery.control.revoke(message, terminate=True, signal="SIGINT")
        return True

    def get_run_worker_debug_info(
        self, run: DagsterRun, include_container_logs: bool | None = True
    ) -> str | None:
        """Return which workers live, for the event log of a run that ends without one."""
        del include_container_logs
        try:
            living = self._workers.living()
        except WorkerRegistryError as error:
            return str(error)
        names = ", ".join(f"{each.name} ({', '.join(each.queues)})" for each in living) or "none"
        return f"Queue of the run: {_queue(run)}. Living workers: {names}."

    def attend_waiting_run(self, run: DagsterRun, looks: int) -> None:
        """Report once that no worker serves the run's queue; send a message again that was lost.

        A message that was sent twice does no harm: the lease and the run's status let one through.
        """
        queue = _queue(run)
        if not any(queue in each.queues for each in self._workers.living()):
            if looks == 2:
                self._instance.report_engine_event(
                    f"No worker serves the queue {queue}, so this run waits. Start a worker "
                    "(`pipeline-assets up` starts one; elsewhere `python -m "
                    "pipeline_assets.services.worker`). The run then goes on by itself.",
                    run,
                    cls=self.__class__,
                )
            return
        if (
            looks >= 2
            and self._waiting_messages(queue) == 0
            and not self._watch.has_lease(run.run_id)
            and not self._is_reserved(run)
        ):
            self._instance.report_engine_event(
                "The run's message was lost before a worker took it. It is sent again.",
                run,
                cls=self.__class__,
            )
            self.launch_run(LaunchRunContext(dagster_run=run, workspace=None))

    def _waiting_messages(self, queue: str) -> int:
        with self.celery.connection_for_read() as connection:
            try:
                found = connection.default_channel.queue_declare(queue, passive=True)
            except connection.channel_errors:
                # Redis forgets a queue that is empty.
                return 0
            return int(found.message_count)

    def _is_reserved(self, run: DagsterRun) -> bool:
        """Return whether a worker has taken the run's message and waits for a free child."""
        reserved = self.celery.control.inspect(timeout=_REPLY_SECONDS).reserved() or {}
        wanted = _message(run)
        return any(task["id"] == wanted for tasks in reserved.values() for task in tasks)


def _message(run: DagsterRun) -> str | None:
    """Return the number of a run's newest message, also of one that an earlier version sent."""
    return run.tags.get(_MESSAGE_TAG) or run.tags.get(DAGSTER_CELERY_TASK_ID_TAG)


def _queue(run: DagsterRun) -> str:
    return run.tags.get(DAGSTER_CELERY_QUEUE_TAG) or queue_of(run.tags)


class ProcessRunLauncher(_Watched, DefaultRunLauncher):
    """Dagster's own launcher, a process of the code server for each run, with leases."""

    def __init__(self, settings: Settings, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(inst_data=inst_data)
        self._watch = LeaseWatch(settings.redis)

    def attend_waiting_run(self, run: DagsterRun, looks: int) -> None:
        """End a run whose process did not begin to execute it."""
        if looks >= _LOOKS_TO_START and not self._watch.has_lease(run.run_id):
            self._instance.report_run_failed(
                run, "The run's process ended before it began to execute the run."
            )


class RunLauncherOfSettings(RunLauncher, ConfigurableClass):
    """Names no launcher itself: makes the one that the settings choose."""

    @classmethod
    def config_type(cls) -> Any:
        """Return no options: the settings have them, so that no password is in dagster.yaml."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Any:
        """Return the chosen launcher; called by Dagster."""
        del config_value
        return launcher_of(load_settings(), inst_data)


def launcher_of(
    settings: Settings, inst_data: ConfigurableClassData | None = None
) -> WorkerRunLauncher | ProcessRunLauncher:
    """Return the launcher that the settings choose."""
    if settings.dagster.launcher == "process":
        return ProcessRunLauncher(settings, inst_data)
    return WorkerRunLauncher(settings, inst_data)
