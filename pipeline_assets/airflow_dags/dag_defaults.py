"""Shared by the files that hold DAGs: owner, defaults of tasks, and how a DAG is scheduled."""

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import CronDataIntervalTimetable
from failure_alerts import report_failure

OWNER = "market-data"


def task_defaults(**more: Any) -> dict[str, Any]:
    """Return the arguments of every task of a DAG."""
    return {"owner": OWNER, "depends_on_past": False, "retry_exponential_backoff": True} | more


def scheduled(cron: str, **defaults: Any) -> dict[str, Any]:
    """Return the arguments of a DAG that runs by a cron line (UTC), makes up no missed run, and alerts.

    Args:
        cron: when it runs.
        defaults: of its tasks, as `task_defaults` takes them.
    """
    return {
        "schedule": CronDataIntervalTimetable(cron, timezone="UTC"),
        "start_date": datetime(2026, 11, 1, tzinfo=UTC),
        "catchup": False,
        "max_active_runs": 1,
        "default_args": task_defaults(**defaults),
        "on_failure_callback": report_failure,
    }
