"""Who executes a command's runs: workers (followed_runs.py), or the command itself (executed_runs.py). Which
runs a backfill has is in backfill_runs.py and funding_runs.py.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from pipeline_assets.cli.run_outcomes import Outcome
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from pipeline_assets.collection.progress import Progress

# Executes one run over the partitions from first to last, with this configuration. The partitions are days,
# or first and last are the one key of another kind of partition.
Execute = Callable[[date | str, date | str, Mapping[str, Any]], Outcome]
Say = Callable[[str], object]


def dagster_instance(settings: Settings) -> "DagsterInstance":
    """Return the Dagster instance that records runs: DAGSTER_HOME's, or the one under the data directory."""
    from dagster import DagsterInstance

    from pipeline_assets.local.stack import dagster_environment

    if "DAGSTER_HOME" not in os.environ:
        os.environ["DAGSTER_HOME"] = dagster_environment(settings)["DAGSTER_HOME"]
    return DagsterInstance.get()


def _to_stderr(line: str) -> None:
    click.echo(line, err=True)


@contextmanager
def executor(
    settings: Settings, job: str, progress: "Progress | None", say: Say | None
) -> Iterator[Execute]:
    """Execute runs of a job within the block, on workers where they and the daemon answer, or else here.

    `say` prints a line for a person: who executes the runs, and how far runs on workers are; by default on
    standard error.

    Raises:
        DagsterWebError: Dagster stopped answering. Runs on workers go on.
    """
    from pipeline_assets.cli.executed_runs import executing_runs
    from pipeline_assets.cli.followed_runs import FollowedRuns, runs_in_dagster
    from pipeline_assets.resources.leases import LeaseStore

    say = say or _to_stderr
    web = runs_in_dagster(settings, say)
    if web is not None:
        yield FollowedRuns(web, job, say, LeaseStore(settings.redis)).run
        return
    with (
        dagster_instance(settings) as instance,
        executing_runs(settings, job, instance, progress) as runs,
    ):
        yield runs.run
