"""The outcome of one run of a backfill or repair, executed by the command (executed_runs.py) or by a worker
(followed_runs.py). Repetitions of a run are in backfill_runs.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline_assets.errors import InputError, OutsideSystemError

GOES_ON = "Stored data stays, and the same command continues from there."
INTERRUPTED = "DagsterExecutionInterruptedError"


class BackfillError(OutsideSystemError):
    """A run of a backfill failed. The message names the step, its own reason and the run."""


class StoppedError(InputError):
    """Somebody stopped the command. Not a `BackfillError`: after that error callers start further runs."""

    exit_status = 1


class UnfollowedError(StoppedError):
    """A signal ended the command while it followed a run, which goes on for as long as Dagster does."""


@dataclass(frozen=True)
class Raised:
    """The error of a step as Dagster recorded it: the class, and a message that may begin with the class."""

    class_name: str | None
    message: str


@dataclass(frozen=True)
class Check:
    """One evaluation of an asset check.

    `partition` is None in the summary of a range, and in a run of one day.
    """

    name: str
    passed: bool
    is_error: bool
    partition: str | None
    description: str | None
    labels: frozenset[str]


@dataclass(frozen=True)
class Outcome:
    """A run that succeeded.

    Attributes:
        run_id: the run, or the last one where Dagster repeated it.
        metadata: by asset, the metadata of its first materialization as text.
        made_by: by asset, the run that materialized it: a repetition leaves out what was finished.
        checks: the evaluations in the order in which the run made them.
    """

    run_id: str
    metadata: Mapping[str, Mapping[str, str]]
    made_by: Mapping[str, str]
    checks: tuple[Check, ...]


def failure(
    run_id: str, step: str, error: Raised | None, cause: Raised | None
) -> BackfillError | StoppedError:
    """Return the error of a failed run, with the reason that the first failed step's asset gave.

    Args:
        run_id: the run.
        step: the first step that failed.
        error: Dagster's record of the error, which usually wraps the asset's own.
        cause: the error that it wraps. The cause of that one, such as a client library's own error, says
            less than our message does.
    """
    if error is not None and error.class_name == INTERRUPTED:
        return StoppedError(f"{step} was interrupted. {GOES_ON}")
    shown = cause or error
    message = shown.message.strip() if shown else "no reason was recorded"
    if shown is not None and shown.class_name:
        # Dagster puts the error's class, with all its modules, before the message.
        message = message.partition(f"{shown.class_name}: ")[2] or message
    return BackfillError(f"{step} failed: {message}\nDagster run: {run_id}")


def failure_without_step(run_id: str, reason: str | None = None) -> BackfillError:
    """Return the error of a failed run of which no step failed, with Dagster's reason where there is one."""
    why = f"failed: {reason}" if reason else "failed; open it in Dagster's UI."
    return BackfillError(f"Dagster run {run_id} {why}")
