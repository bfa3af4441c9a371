"""The embedded stack as a whole: which services it has by the settings, and running them. Keeping processes
is supervisor.py's. The command line imports the stack's names from here.

A system whose address is not this machine's is never started: production differs by addresses.
"""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from pipeline_assets.local import airflow, dagster_services, store_services, trading_services
from pipeline_assets.local.data_directory import making, private_umask
from pipeline_assets.local.environment import (
    REPOSITORY,
    dagster_environment,
    prepared,
    settings_environment,
)
from pipeline_assets.local.packages import require_packages
from pipeline_assets.local.service import Service
from pipeline_assets.local.status import ServiceStatus, StackStatus, stack_status
from pipeline_assets.local.supervisor import Supervisor
from pipeline_assets.local.systems import GATEWAY, INFERENCE, TRADER, WORKER, System, systems
from pipeline_assets.resources.alerts import Alerts
from pipeline_assets.settings import Settings
from pipeline_assets.stack_state import WATCHDOG
from pipeline_assets.stop_flag import StopFlag, set_by_signals

logger = logging.getLogger(__name__)
__all__ = [
    "REPOSITORY",
    "ServiceStatus",
    "StackStatus",
    "dagster_environment",
    "prepared",
    "run_stack",
    "running_stack",
    "settings_environment",
    "stack_services",
    "stack_status",
    "systems",
]


def stack_services(
    settings: Settings, *, exchange_options: Sequence[str] = (), with_dagster: bool = True
) -> list[Service]:
    """Return what the embedded stack starts, in order; servers that are elsewhere are left out.

    Raises:
        StackError: a directory for their data cannot be made, or a server's package is not installed.
    """
    makers: dict[str, Callable[[Settings, System], Service]] = {
        "exchange": partial(store_services.exchange_service, options=exchange_options),
        "s3": store_services.s3_service,
        "redis": store_services.redis_service,
        "snowflake": store_services.snowflake_service,
        "kafka": store_services.kafka_service,
    }
    if with_dagster:
        makers |= {
            "code-server": dagster_services.code_server_service,
            "webserver": dagster_services.webserver_service,
            "daemon": dagster_services.daemon_service,
            WORKER: dagster_services.worker_service,
            GATEWAY: trading_services.gateway_service,
            INFERENCE: trading_services.inference_service,
            TRADER: trading_services.trader_service,
        }
    chosen = [found for found in systems(settings) if found.embedded and found.name in makers]
    require_packages(found.name for found in chosen)
    settings = prepared(settings)
    with making(settings.data_dir), private_umask():
        services = [makers[system.name](settings, system) for system in chosen]
        if with_dagster and settings.airflow.enabled:
            services += airflow.airflow_services(settings)
        if settings.alerts.webhook_url is not None:
            services.append(dagster_services.watchdog_service(settings))
    return services


def run_stack(
    settings: Settings,
    *,
    exchange_options: Sequence[str] = (),
    with_dagster: bool = True,
    on_ready: Callable[[StackStatus], None],
) -> None:
    """Run the stack until SIGINT, SIGTERM or SIGHUP. To be called from the main thread.

    `on_ready` is called once, when all is ready. Data stay under the data directory.

    Raises:
        StackError: a port is taken, a stack runs there already, or a service does not stay up.
    """
    services = stack_services(
        settings, exchange_options=exchange_options, with_dagster=with_dagster
    )
    stop = StopFlag()
    with set_by_signals(stop, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)), private_umask():
        made = Supervisor(services, settings.data_dir, on_restart=WatchdogAlarm(settings))
        made.run(stop, lambda: on_ready(stack_status(settings)))


class WatchdogAlarm:
    """Alerts that the watchdog was restarted, which it cannot do itself; once in ten minutes."""

    def __init__(self, settings: Settings) -> None:
        self._alerts = Alerts(settings.alerts)
        self._data_dir = settings.data_dir
        self._reported_at: float | None = None

    def __call__(self, name: str, reason: str) -> None:
        """Alert in a thread of its own, if this is the watchdog."""
        now = time.monotonic()
        if name != WATCHDOG or (self._reported_at is not None and now - self._reported_at < 600.0):
            return
        self._reported_at = now
        alert = {
            "text": f"The watchdog of the stack over {self._data_dir} was restarted: {reason}.",
            "alert": "service_failed",
            "service": name,
            "error": reason,
        }
        send = self._alerts.send_repeatedly
        threading.Thread(target=send, args=(alert,), daemon=True).start()


@contextlib.contextmanager
def running_stack(
    settings: Settings, *, exchange_options: Sequence[str] = (), with_dagster: bool = True
) -> Iterator[StackStatus]:
    """Provide the stack for the length of a `with` block, entered when all is ready.

    Files that this process makes within the block are private, too.

    Raises:
        StackError: as `run_stack`; at the block's end if the stack failed in between.
    """
    services = stack_services(
        settings, exchange_options=exchange_options, with_dagster=with_dagster
    )
    stop, settled = StopFlag(), threading.Event()
    failures: list[BaseException] = []

    def supervise() -> None:
        try:
            alarm = WatchdogAlarm(settings)
            Supervisor(services, settings.data_dir, on_restart=alarm).run(stop, settled.set)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            failures.append(error)
        finally:
            settled.set()

    # The children die with the thread that started them, so it must be the one that stops them.
    thread = threading.Thread(target=supervise, name="supervisor")
    with private_umask():
        thread.start()
        try:
            settled.wait()
            if not failures:
                yield stack_status(settings)
        finally:
            stop.set()
            thread.join()
    if failures:
        raise failures[0]
