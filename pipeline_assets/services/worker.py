"""The worker that executes runs: a Celery worker whose processes are forked with everything imported.
Run as `python -m pipeline_assets.services.worker [--queues ingest,backfill] [--concurrency N]`.

The parent process imports the definitions and the client libraries and uses none of them: librdkafka, Polars
and gRPC do not survive a fork once in use. A child's work on a run is in worker_tasks.py, the sign of life in
worker_beat.py, and the number of children in worker_scaling.py.
"""

import argparse
import gc
import importlib
import logging
import secrets
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline_assets.private_apis import private_imports
from pipeline_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from celery import Celery

DEFINITIONS = "pipeline_assets.definitions"
# Children that stay while nothing runs: one for each minute's run, one for what comes beside it. A child that
# has executed a run holds some 110 MB of its own, whether it works or not.
IDLE_CHILDREN = 2
# The libraries that an ingest run and a backfill load on first use, the largest first: see test_worker.py.
CLIENTS = (
    *("polars", "obstore", "obstore.store", "redis", "redis.asyncio", "aiohttp", "orjson"),
    *("snowflake.connector", "snowflake.connector.cursor", "confluent_kafka", "pyarrow.parquet"),
    *("binance.async_client", "boto3", "numpy", "pandas", "tenacity", "isal.igzip"),
)
# The modules that Dagster loads with a run's instance: 0.4 s of CPU time and 40 MB in each child.
RUNS = (
    *("pipeline_assets.dagster_instance.event_log", "pipeline_assets.dagster_instance.launchers"),
    *(
        "pipeline_assets.dagster_instance.storage_choice",
        "pipeline_assets.dagster_instance.compute_logs",
    ),
    *(
        "pipeline_assets.dagster_instance.sqlite_storage",
        "dagster_celery.tasks",
        "dagster._cli.api",
    ),
    *(
        "dagster._core.instance.factory",
        "dagster._core.storage.root",
        "upath.implementations.local",
    ),
    *("dagster._core.storage.local_compute_log_manager", "pipeline_assets.resources.store_check"),
)
# Likewise where Dagster's storage is PostgreSQL.
POSTGRES = ("pipeline_assets.dagster_instance.postgres_storage", "psycopg2", "tenacity")
logger = logging.getLogger("pipeline_assets.worker")


def import_everything(more: Sequence[str] = ()) -> None:
    """Import what runs need, and `more`, so that children share its memory and begin at once."""
    # Its jobs are resolved once, in plain Python: 10 MB in each child.
    importlib.import_module(DEFINITIONS).definitions.get_repository_def().get_all_jobs()
    for name in CLIENTS:
        importlib.import_module(name)
    with private_imports("dagster", __name__):
        for name in (*RUNS, *more):
            importlib.import_module(name)
    gc.collect()
    # A collection in a child would copy every page that it marks.
    gc.freeze()


def make_worker_app(settings: Settings, name: str) -> "Celery":
    """Return the application with the task that executes a run, and with the beat of the worker."""
    from pipeline_assets.dagster_instance.celery_app import make_celery
    from pipeline_assets.services.worker_beat import BeatAfterLoss, WorkerBeat
    from pipeline_assets.services.worker_messages import drop_unreadable_messages
    from pipeline_assets.services.worker_tasks import add_run_task

    drop_unreadable_messages()
    app = make_celery(settings)
    add_run_task(app, settings)
    WorkerBeat.settings, WorkerBeat.name_of_worker = settings, name
    app.steps["worker"].add(WorkerBeat)
    app.steps["consumer"].add(BeatAfterLoss)
    return app


def run_worker(settings: Settings, queues: Sequence[str], concurrency: int, name: str) -> int:
    """Execute runs of these queues until a signal comes; return the exit status.

    SIGTERM lets runs end first. `concurrency` runs may go on at once; children beyond IDLE_CHILDREN are
    forked for them, and end when none was needed for half a minute.
    """
    import_everything(POSTGRES if settings.dagster.storage_url else ())
    from pipeline_assets.services.worker_scaling import IdleAutoscaler

    app = make_worker_app(settings, name)
    worker = app.Worker(
        hostname=name,
        queues=list(queues),
        autoscale=(concurrency, min(concurrency, IDLE_CHILDREN)),
        autoscaler_cls=IdleAutoscaler,
        pool="prefork",
        optimization="fair",
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    logger.info(
        "Worker %s serves %s with up to %d processes.", name, ", ".join(queues), concurrency
    )
    worker.start()
    return int(worker.exitcode or 0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and work."""
    from pipeline_assets.dagster_instance.celery_app import QUEUES

    settings = load_settings()
    parser = argparse.ArgumentParser(prog="python -m pipeline_assets.services.worker")
    parser.add_argument("--queues", default=",".join(QUEUES), help="the queues to serve")
    parser.add_argument("--concurrency", type=int, default=settings.celery.concurrency)
    parser.add_argument("--name", default=f"worker-{secrets.token_hex(4)}")
    given = parser.parse_args(arguments)
    queues = [each.strip() for each in given.queues.split(",")]
    unknown = set(queues) - set(QUEUES)
    if unknown:
        parser.error(f"no queue {', '.join(sorted(unknown))}: the queues are {', '.join(QUEUES)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    return run_worker(settings, queues, given.concurrency, given.name)


if __name__ == "__main__":
    sys.exit(main())
