"""How Dagster's processes and the watchdog are started, and when each is ready."""

import secrets
from dataclasses import replace
from functools import partial

from pipeline_assets.local import scheduling_probes
from pipeline_assets.local.environment import (
    configuration_file,
    dagster_environment,
    settings_environment,
)
from pipeline_assets.local.errors import StackError
from pipeline_assets.local.health import HealthCheck
from pipeline_assets.local.ports import http_answers, tcp_answers
from pipeline_assets.local.service import TIMEOUT, Service, module, option, service
from pipeline_assets.local.service_log import has_logged
from pipeline_assets.local.service_secrets import (
    KEPT_FROM_DAGSTER,
    KEPT_FROM_OTHERS,
    KEPT_FROM_RUNS,
)
from pipeline_assets.local.systems import System, systems
from pipeline_assets.settings import Settings
from pipeline_assets.stack_state import WATCHDOG, WATCHDOG_FILE

DAEMON_STARTED = "Instance is configured with the following daemons"


def embedded_stores(settings: Settings) -> tuple[str, ...]:
    """Return the names of the exchange and the stores that the stack itself starts."""
    stores = ("exchange", "s3", "redis", "snowflake", "kafka")
    embedded = {found.name for found in systems(settings) if found.embedded}
    return tuple(name for name in stores if name in embedded)


def code_server_service(settings: Settings, system: System) -> Service:
    """Return Dagster's code server."""
    argv = module(
        *("dagster", "code-server", "start"),
        *option("-h", system.host),
        *option("-p", system.port),
        *option("-m", "pipeline_assets.definitions"),
    )
    # Its port opens once the definitions are loaded.
    ready = partial(tcp_answers, system.host, system.port or 0)
    # Only the runs of the launcher `process` are children of the code server.
    has_runs = settings.dagster.launcher == "process"
    kept = KEPT_FROM_RUNS if has_runs else KEPT_FROM_DAGSTER
    environment = dagster_environment(settings, kept)
    # The process that holds the definitions ends itself when the one before it is silent for this
    # long. At the default of 30 s, a laptop's sleep or a busy machine ended it; here, the supervisor
    # ends both together.
    environment["DAGSTER_GRPC_PROXY_HEARTBEAT_TTL_SECONDS"] = "86400"
    ask = scheduling_probes.code_server(system.host, system.port or 0, TIMEOUT)
    health = HealthCheck(ask, period=5.0)
    made = service(system, argv, ready, environment, health=health)
    return replace(made, ends_before=embedded_stores(settings))


def webserver_service(settings: Settings, system: System) -> Service:
    """Return Dagster's web server behind its guard.

    Raises:
        StackError: the server would be read-only, and Airflow launches its runs through it.
    """
    argv = module(
        "pipeline_assets.dagster_instance.webserver",
        *option("-w", configuration_file("workspace.yaml")),
        *option("-h", system.host),
        *option("-p", system.port),
    )
    if settings.dagster.read_only:
        if settings.airflow.enabled:
            raise StackError(
                "Airflow launches its runs through Dagster's web server, which refuses them when it "
                "is read-only: leave out Airflow or PIPELINE_DAGSTER__READ_ONLY."
            )
        argv += ("--read-only",)
    host = "127.0.0.1" if system.host == "0.0.0.0" else system.host  # noqa: S104 - compared only
    ready = partial(http_answers, f"http://{host}:{system.port}/server_info")
    environment = dagster_environment(settings, KEPT_FROM_DAGSTER)
    health = HealthCheck(
        scheduling_probes.webserver(f"http://{host}:{system.port}", TIMEOUT),
        through=("code-server",),
    )
    made = service(system, argv, ready, environment, health=health, after=("code-server",))
    return replace(made, ends_before=embedded_stores(settings))


def worker_service(settings: Settings, system: System) -> Service:
    """Return the worker that executes runs, ready once it has reported that it lives."""
    name = f"embedded-{secrets.token_hex(4)}"
    argv = module("pipeline_assets.services.worker", *option("--name", name))
    ask = scheduling_probes.worker(settings.redis, name)

    def ready() -> bool:
        ask()
        return True

    made = service(
        system,
        argv,
        ready,
        dagster_environment(settings, KEPT_FROM_RUNS),
        health=HealthCheck(ask, through=("redis",)),
        after=tuple(name for name in embedded_stores(settings) if name == "redis"),
    )
    # SIGTERM lets a run end first, which writes to all stores.
    return replace(made, stop_timeout=20.0, ends_before=embedded_stores(settings))


def watchdog_service(settings: Settings) -> Service:
    """Return the watchdog, ready once its report is new."""
    file = settings.data_dir / WATCHDOG_FILE

    def ready() -> bool:
        # The file of an earlier start of the stack is too old.
        return file.exists() and scheduling_probes.report_age(file) < 15.0

    return Service(
        name=WATCHDOG,
        argv=module("pipeline_assets.services.watchdog"),
        ready=ready,
        environment=settings_environment(settings, KEPT_FROM_OTHERS),
        health=HealthCheck(scheduling_probes.watchdog(file)),
        # It may be about to alert that the supervisor is dead.
        stop_timeout=15.0,
    )


def daemon_service(settings: Settings, system: System) -> Service:
    """Return Dagster's daemon."""
    argv = module("dagster._daemon", "run", *option("-w", configuration_file("workspace.yaml")))
    ready = partial(has_logged, settings.data_dir, system.name, DAEMON_STARTED)
    stores = embedded_stores(settings)
    web = next(found.address for found in systems(settings) if found.name == "webserver")
    web = web.replace("//0.0.0.0:", "//127.0.0.1:")
    made = service(
        system,
        argv,
        ready,
        dagster_environment(settings, KEPT_FROM_DAGSTER),
        health=HealthCheck(scheduling_probes.daemon(web, TIMEOUT), through=("webserver",)),
        # After the web server: both create Dagster's databases, and fail when at it together.
        # After the stores: a schedule that is on fires at once.
        after=("webserver", *stores),
    )
    # A sensor that is evaluated while the code server ends would fail.
    return replace(made, ends_before=("code-server", *stores))
