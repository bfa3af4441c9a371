"""Runs that a command executes itself, in its own process and under a lease, recorded in the Dagster
instance: for use without a Dagster daemon and worker. Runs on workers are in followed_runs.py.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

from pipeline_assets.cli.run_outcomes import (
    GOES_ON,
    Check,
    Outcome,
    Raised,
    StoppedError,
    failure,
    failure_without_step,
)
from pipeline_assets.collection.run_names import range_tags
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance, ExecuteInProcessResult, JobDefinition

    from pipeline_assets.collection.progress import Progress
    from pipeline_assets.resources.leases import LeaseStore


class ExecutedRuns:
    """Executes runs of one job."""

    def __init__(
        self, job: "JobDefinition", leases: "LeaseStore", instance: "DagsterInstance"
    ) -> None:
        self._job, self._leases, self._instance = job, leases, instance

    def run(self, first: date | str, last: date | str, config: Mapping[str, Any]) -> Outcome:
        """Execute a run over the partitions from `first` to `last`, both included.

        Raises:
            BackfillError: the run failed.
            StoppedError: a signal came.
        """
        from dagster import DagsterExecutionInterruptedError

        from pipeline_assets.dagster_instance.run_leases import execute_under_lease

        try:
            executed = execute_under_lease(
                self._job,
                self._leases,
                instance=self._instance,
                raise_on_error=False,
                partition_key=str(first) if first == last else None,
                tags=range_tags(first, last),
                run_config={
                    **config,
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
            )
        except DagsterExecutionInterruptedError:
            raise StoppedError(f"Stopped between two steps. {GOES_ON}") from None
        if not executed.success:
            raise _failure(executed)
        return _outcome(executed)


@contextmanager
def executing_runs(
    settings: Settings, job: str, instance: "DagsterInstance", progress: "Progress | None"
) -> Iterator[ExecutedRuns]:
    """Execute runs of a job within the block, and end runs of killed commands meanwhile."""
    from pipeline_assets.dagster_instance.run_leases import ending_dead_runs
    from pipeline_assets.definitions import build_definitions
    from pipeline_assets.resources.leases import LeaseStore

    resolved = build_definitions(settings, progress=progress).resolve_job_def(job)
    with ending_dead_runs(instance, settings.redis):
        yield ExecutedRuns(resolved, LeaseStore(settings.redis), instance)


def _failure(executed: "ExecuteInProcessResult") -> Exception:
    for event in executed.all_events:
        if event.is_step_failure:
            found = event.step_failure_data.error
            error = Raised(found.cls_name, found.message) if found else None
            inner = found.cause if found else None
            cause = Raised(inner.cls_name, inner.message) if inner else None
            return failure(executed.run_id, event.step_key or "A step", error, cause)
    return failure_without_step(executed.run_id)


def _outcome(executed: "ExecuteInProcessResult") -> Outcome:
    from dagster import AssetCheckSeverity

    metadata: dict[str, dict[str, str]] = {}
    for event in executed.all_events:
        if event.is_step_materialization and event.asset_key is not None:
            made = event.step_materialization_data.materialization
            values = {label: str(each.value) for label, each in made.metadata.items()}
            metadata.setdefault(event.asset_key.path[0], values)
    checks = (
        Check(
            name=each.check_name,
            passed=each.passed,
            is_error=each.severity is AssetCheckSeverity.ERROR,
            partition=each.partition,
            description=each.description,
            labels=frozenset(each.metadata),
        )
        for each in executed.get_asset_check_evaluations()
    )
    made_by = dict.fromkeys(metadata, executed.run_id)
    return Outcome(executed.run_id, metadata, made_by, tuple(checks))
