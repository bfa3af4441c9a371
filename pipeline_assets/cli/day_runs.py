"""Runs over days in the command's own process, through the assets that Dagster's runs use: how they are
executed and recorded, and what their failure says. Which runs a backfill has is in backfill_runs.py and
funding_runs.py.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline_assets.collection.run_names import range_tags
from pipeline_assets.errors import InputError, OutsideSystemError
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance, ExecuteInProcessResult

    from pipeline_assets.collection.progress import Progress

_GOES_ON = "Stored data stays, and the same command continues from there."


class BackfillError(OutsideSystemError):
    """A run of a backfill failed. The message names the step, its own reason and the run."""


class StoppedError(InputError):
    """Somebody stopped the command. Not a `BackfillError`: after that error callers start further runs."""

    exit_status = 1


@contextmanager
def executing(
    settings: Settings, job_name: str, progress: "Progress | None"
) -> "Iterator[Callable[..., ExecuteInProcessResult]]":
    """Give what executes a job in this process, recorded in the Dagster instance and under a lease."""
    from pipeline_assets.dagster_instance.run_leases import ending_dead_runs, execute_under_lease
    from pipeline_assets.definitions import build_definitions
    from pipeline_assets.resources.leases import LeaseStore

    job = build_definitions(settings, progress=progress).resolve_job_def(job_name)
    with dagster_instance(settings) as instance, ending_dead_runs(instance, settings.redis):
        yield partial(execute_under_lease, job, LeaseStore(settings.redis), instance=instance)


def execute_days(
    execute: "Callable[..., ExecuteInProcessResult]",
    days: tuple[date, date],
    asset: str,
    config: Mapping[str, Any],
) -> "ExecuteInProcessResult":
    """Execute a job over days, first and last included.

    Raises:
        BackfillError: a step failed.
        StoppedError: a signal came.
    """
    from dagster import DagsterExecutionInterruptedError

    first, last = days
    try:
        executed = execute(
            raise_on_error=False,
            partition_key=first.isoformat() if first == last else None,
            tags=range_tags(first, last),
            run_config={
                "ops": {asset: {"config": dict(config)}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )
    except DagsterExecutionInterruptedError:
        raise StoppedError(f"Stopped between two steps. {_GOES_ON}") from None
    if not executed.success:
        raise _failure(executed)
    return executed


def dagster_instance(settings: Settings) -> "DagsterInstance":
    """The Dagster instance that records runs: DAGSTER_HOME's, or the one under the data directory."""
    from dagster import DagsterInstance

    from pipeline_assets.local.stack import dagster_environment

    if "DAGSTER_HOME" not in os.environ:
        os.environ["DAGSTER_HOME"] = dagster_environment(settings)["DAGSTER_HOME"]
    return DagsterInstance.get()


def _failure(executed: "ExecuteInProcessResult") -> BackfillError | StoppedError:
    """Return what the asset of the first failed step raised, as the person who ran it needs it."""
    for event in executed.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            if error is not None and error.cls_name == "DagsterExecutionInterruptedError":
                return StoppedError(f"{event.step_key} was interrupted. {_GOES_ON}")
            # Dagster wraps the asset's error. The cause of that error, such as a client library's own
            # error, says less than our message does.
            if error is not None and error.cause is not None:
                error = error.cause
            message = error.message.strip() if error else "no reason was recorded"
            if error is not None and error.cls_name:
                # Dagster puts the error's class, with all its modules, before the message.
                message = message.partition(f"{error.cls_name}: ")[2] or message
            return BackfillError(
                f"{event.step_key} failed: {message}\nDagster run: {executed.run_id}"
            )
    return BackfillError(f"Dagster run {executed.run_id} failed; open it in Dagster's UI.")
