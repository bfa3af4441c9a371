"""Which runs of a job are queued or running. Statuses of runs are in private.py."""

from datetime import date, datetime

from dagster import DagsterInstance, RunsFilter

from pipeline_assets.dagster_instance.private import NOT_FINISHED_STATUSES


def unfinished_runs(instance: DagsterInstance, job_name: str) -> int:
    """Return how many runs of a job are queued, starting, running or being canceled."""
    return instance.get_runs_count(RunsFilter(job_name=job_name, statuses=NOT_FINISHED_STATUSES))


def unfinished_days(
    instance: DagsterInstance, job_name: str, partition_tag: str, created_after: datetime | None
) -> frozenset[date]:
    """Return the days of a job's runs that are queued, starting, running or being canceled.

    Args:
        instance: Dagster.
        job_name: of a job whose partitions are days.
        partition_tag: the tag that names a run's partition.
        created_after: leaves out runs that were created before, UTC; None: none.
    """
    chosen = RunsFilter(
        job_name=job_name, statuses=NOT_FINISHED_STATUSES, created_after=created_after
    )
    return frozenset(
        date.fromisoformat(day)
        for run in instance.get_runs(chosen)
        if (day := run.tags.get(partition_tag))
    )
