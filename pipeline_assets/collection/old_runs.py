"""Which ingest runs may be deleted. Finding and deleting runs belongs to jobs/housekeeping.py."""

from collections.abc import Callable, Container


def deletable(
    run_id: str, day: str, finalized: Container[str], last_runs: Callable[[str], Container[str]]
) -> bool:
    """Return whether an expired run's day (its partition key) is finalized and shown by later runs.

    `last_runs` returns the ids of the runs that materialized a day last, such as a late ingest run.
    Without these runs the partition would turn grey.
    """
    return day in finalized and run_id not in last_runs(day)
