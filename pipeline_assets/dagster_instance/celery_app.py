"""The Celery application that carries runs: its broker, queues and options. dagster-celery makes it, for the
launcher and for the worker alike; what a worker does with a run is in services/worker.py.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline_assets.dagster_instance.celery_broker import broker
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

INGEST, BACKFILL = "ingest", "backfill"
QUEUES = (INGEST, BACKFILL)
# Ingest runs and finalizing go before runs that can wait (RunKind of collection/fetch_plan.py).
KIND_TAG = "pipeline/kind"
_QUEUE_OF_KIND = {"tick": INGEST, "seal": INGEST}
# The broker's keys in a Redis that also holds the slots. A database of its own would do, but clusters
# have only one.
KEY_PREFIX = "celery:"


def queue_of(tags: Mapping[str, str]) -> str:
    """Return the queue of a run by its tags."""
    return _QUEUE_OF_KIND.get(tags.get(KIND_TAG, ""), BACKFILL)


def app_arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments of dagster-celery's `make_app` and of its launcher.

    No results are stored: its lease says whether a run lives, and Dagster how it ended.
    """
    redis, at = settings.redis, broker(settings)
    return {
        "broker": at.url,
        "backend": None,
        "include": [],
        "default_queue": BACKFILL,
        "config_source": {
            "worker_prefetch_multiplier": 1,
            "task_default_queue": BACKFILL,
            "task_ignore_result": True,
            "task_acks_late": False,
            "broker_use_ssl": at.tls,
            "broker_connection_retry_on_startup": True,
            "broker_connection_max_retries": None,
            "worker_redirect_stdouts": False,
            "worker_send_task_events": False,
            "worker_max_tasks_per_child": settings.celery.max_tasks_per_child,
            "worker_max_memory_per_child": settings.celery.max_memory_mb * 1024,
            # A run that is launched while the broker fails over is launched a few seconds later.
            "task_publish_retry_policy": {
                "max_retries": 8,
                "interval_start": 0,
                "interval_step": 0.5,
                "interval_max": 2.0,
            },
            "broker_transport_options": {
                "global_keyprefix": KEY_PREFIX,
                # A message that a killed worker took and did not start is delivered again after this.
                "visibility_timeout": 3600,
                "socket_timeout": max(redis.timeout_seconds, 5.0),
                "socket_connect_timeout": redis.timeout_seconds,
                "socket_keepalive": True,
                "health_check_interval": 30,
                **at.sentinels,
            },
        },
    }


def make_celery(settings: Settings) -> "Celery":
    """Return the application with these settings."""
    from dagster_celery.make_app import make_app

    given = app_arguments(settings)
    # As dagster-celery's launcher hands them on.
    given["task_default_queue"] = given.pop("default_queue")
    return make_app(app_args=given)
