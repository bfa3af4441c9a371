"""The Celery task that executes one run under its lease. dagster-celery's own task does the rest; the worker
around it is worker.py's.
"""

import logging
import signal
from typing import TYPE_CHECKING, Any

from pipeline_assets.private_apis import private_imports
from pipeline_assets.resources.leases import LeaseStore
from pipeline_assets.resources.write_guard import LeaseTakenError, holding_lease
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

with private_imports("dagster", __name__):
    from dagster._grpc.types import ExecuteRunArgs
    from dagster._serdes import unpack_value
    from dagster_celery.tasks import create_execute_job_task

logger = logging.getLogger("pipeline_assets.worker")


def add_run_task(app: "Celery", settings: Settings) -> Any:
    """Register dagster-celery's task `execute_job`, which holds the run's lease from its first moment.

    A message that is delivered twice executes nothing twice: while the run is executed its lease is taken,
    and afterwards Dagster ignores a run that has begun or ended.
    """
    leases = LeaseStore(settings.redis)

    class RunTask(app.Task):  # type: ignore[misc]
        abstract = True

        def __call__(self, execute_job_args_packed: Any) -> Any:
            run_id = unpack_value(execute_job_args_packed, as_type=ExecuteRunArgs).run_id
            on_sigterm = signal.getsignal(signal.SIGTERM)
            try:
                with holding_lease(leases, run_id):
                    return super().__call__(execute_job_args_packed)
            except LeaseTakenError:
                logger.warning("Run %s was delivered again while it is executed: ignored.", run_id)
                return 0
            finally:
                # Dagster leaves SIGTERM ignored, as Celery ignores SIGINT: a child could not be ended.
                signal.signal(signal.SIGTERM, on_sigterm)

    options: Any = {"base": RunTask}
    return create_execute_job_task(app, **options)
