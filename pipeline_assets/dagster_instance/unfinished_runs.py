"""How many runs of a job are queued or running. Statuses of runs are in private.py."""

from dagster import DagsterInstance, RunsFilter

from pipeline_assets.dagster_instance.private import NOT_FINISHED_STATUSES


def unfinished_runs(instance: DagsterInstance, job_name: str) -> int:
    """Return how many runs of a job are queued, starting, running or being canceled."""
    return instance.get_runs_count(RunsFilter(job_name=job_name, statuses=NOT_FINISHED_STATUSES))
