"""Shared by the files that hold DAGs: their owner and the defaults of their tasks."""

from typing import Any

OWNER = "market-data"


def task_defaults(**more: Any) -> dict[str, Any]:
    """Return the arguments of every task of a DAG."""
    return {"owner": OWNER, "depends_on_past": False, "retry_exponential_backoff": True} | more
