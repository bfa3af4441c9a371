"""Shared by the files that hold DAGs: owner, defaults of tasks, and how a DAG is scheduled."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, Variable
from failure_alerts import report_failure

OWNER = "market-data"
# A first day before all collecting costs a fetch of each day since then; set the variable.
FIRST_DAY = Variable.get("candles_first_day", default="2026-11-01")


def task_defaults(**more: Any) -> dict[str, Any]:
    """Return the arguments of every task of a DAG."""
    return {"owner": OWNER, "depends_on_past": False, "retry_exponential_backoff": True} | more


def daily(cron: str, first_day: str, **defaults: Any) -> dict[str, Any]:
    """Return the arguments of a DAG that runs once for each day, week or month, and makes up missed ones.

    Args:
        cron: when it runs, UTC.
        first_day: the first day whose run is made up, `YYYY-MM-DD`.
        defaults: of its tasks, in place of those for every such DAG.
    """
    patient: dict[str, Any] = {
        "retries": 4,
        "retry_delay": timedelta(minutes=1),
        "max_retry_delay": timedelta(minutes=15),
        "execution_timeout": timedelta(hours=1),
    }
    # No dagrun_timeout: it counts the time in which Airflow was off. Dagster ends a run that hangs.
    return scheduled(cron, **(patient | defaults)) | {
        "start_date": datetime.fromisoformat(first_day).replace(tzinfo=UTC),
        "catchup": True,
    }


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
