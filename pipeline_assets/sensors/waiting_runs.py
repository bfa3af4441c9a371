"""Runs that were launched and have not begun. The launcher decides what to do
about each: dagster_instance/launchers.py.
"""

import json

from dagster import (
    DagsterRunStatus,
    DefaultSensorStatus,
    ResourceParam,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from pipeline_assets.resources.document_versions import cursor_content
from pipeline_assets.resources.workers import WorkerRegistry, code_fingerprint
from pipeline_assets.settings import Settings
from pipeline_assets.wording import counted

SECONDS = 30


def waiting_runs_sensor(configured: Settings) -> SensorDefinition:
    """Return the sensor that sees to runs which wait for a worker, and publishes the code that is loaded.

    A run that is seen twice in a row has waited for half a minute at least: no host's clock is asked.
    """
    loaded = code_fingerprint(configured)

    @sensor(
        name="waiting_runs",
        minimum_interval_seconds=SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            "Reports runs that no worker takes in their event log, sends lost ones again, and tells "
            "workers which code is loaded."
        ),
    )
    def waiting_runs(
        context: SensorEvaluationContext, settings: ResourceParam[Settings]
    ) -> SensorResult:
        from pipeline_assets.dagster_instance.launchers import (
            ProcessRunLauncher,
            WorkerRunLauncher,
        )

        WorkerRegistry(settings.redis).publish_code(loaded)
        seen: dict[str, int] = cursor_content(context.cursor, "waiting_runs")
        waiting = context.instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTING]))
        looks = {run.run_id: seen.get(run.run_id, 0) + 1 for run in waiting}
        launcher = context.instance.run_launcher if waiting else None
        if isinstance(launcher, (WorkerRunLauncher, ProcessRunLauncher)):
            for run in waiting:
                launcher.attend_waiting_run(run, looks[run.run_id])
        return SensorResult(
            cursor=json.dumps(looks),
            skip_reason=f"{counted(len(waiting), 'run')} waiting for a worker."
            if waiting
            else "No run waits.",
        )

    return waiting_runs
