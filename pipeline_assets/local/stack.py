"""Which servers the embedded stack has, by the settings. Keeping processes is supervisor.py's.

A system whose address is not this machine's is never started: production differs by addresses.
"""

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from pipeline_assets import proxies
from pipeline_assets.local import airflow, probes
from pipeline_assets.local.health import HealthCheck
from pipeline_assets.local.private_files import make_private, private_umask
from pipeline_assets.local.s3_server import HEALTH_PATH
from pipeline_assets.local.supervisor import (
    Service,
    StackError,
    Supervisor,
    http_answers,
    making,
    read_state,
    tcp_answers,
)
from pipeline_assets.resources.alerts import Alerts
from pipeline_assets.resources.s3_clients import boto3_client
from pipeline_assets.settings import (
    LOCAL_HOSTS,
    PREFIX,
    Settings,
    is_embedded,
    making_embedded_credentials,
)
from pipeline_assets.stack_state import (
    RESTARTING,
    UP,
    WATCHDOG,
    WATCHDOG_FILE,
    ProcessRecord,
    disk_problem,
)

logger = logging.getLogger(__name__)
REPOSITORY = Path(__file__).resolve().parents[2]
DAEMON_STARTED = "Instance is configured with the following daemons"
# Of one health check of most services.
_TIMEOUT = 10.0
_SCHEDULING = {
    *("code-server", "webserver", "daemon"),
    *(airflow.API, airflow.SCHEDULER, airflow.PROCESSOR),
}
_DEFAULT_PORTS = {"http": 80, "https": 443, "redis": 6379, "rediss": 6379}


@dataclass(frozen=True)
class System:
    """A system that the settings name: where it is, and whether the stack would start it."""

    name: str
    address: str
    setting: str
    host: str
    port: int | None
    embedded: bool


@dataclass(frozen=True)
class ServiceStatus:
    """A system as found.

    With a `pid`, `alive` means that this stack's process runs and answers its health checks;
    without, that something answers at the address, which may be another stack's.

    Attributes:
        state: `up`, `starting`, `restarting`, `unhealthy` or `down`.
        problem: why it is not up, where that is known.
        since: when the state began (UTC, ISO 8601), where that is known.
        last_restart: why it was restarted last.
    """

    name: str
    address: str
    embedded: bool
    alive: bool
    pid: int | None = None
    started_at: str | None = None
    seconds_to_ready: float | None = None
    restarts: int = 0
    log: str | None = None
    state: str = UP
    problem: str | None = None
    since: str | None = None
    last_restart: str | None = None


@dataclass(frozen=True)
class StackStatus:
    """The stack over one data directory; `pid` and `started_at` are its supervisor's.

    `problem` is what keeps the whole stack from working: a full disk, a supervisor that is stopped.
    """

    data_dir: str
    running: bool
    pid: int | None
    started_at: str | None
    services: tuple[ServiceStatus, ...]
    problem: str | None = None

    @property
    def counted(self) -> list[ServiceStatus]:
        """The services that have to be up: Dagster's and Airflow's only where this stack started them.

        A deployment may run them on other machines, of which the settings say nothing.
        """
        return [each for each in self.services if each.pid or each.name not in _SCHEDULING]

    @property
    def is_up(self) -> bool:
        """Whether everything that has to be up is up."""
        return self.problem is None and all(each.alive for each in self.counted)


def systems(settings: Settings) -> list[System]:
    """Every system of the settings, in the order in which people read them."""
    dagster, local = settings.dagster, "127.0.0.1"
    code, web = dagster.code_server_port, dagster.webserver_port
    code_setting, web_setting = (
        f"{PREFIX}DAGSTER__{name}_PORT" for name in ("CODE_SERVER", "WEBSERVER")
    )
    code_address, web_address = f"grpc://{local}:{code}", f"http://{dagster.host}:{web}"
    found = [
        _system("exchange", settings.binance.rest_url, "PIPELINE_BINANCE__REST_URL"),
        _system("s3", _s3_address(settings), "PIPELINE_S3__ENDPOINT_URL"),
        _system("redis", settings.redis.url, "PIPELINE_REDIS__URL"),
        _system(
            "snowflake",
            _snowflake_address(settings),
            f"PIPELINE_SNOWFLAKE__{'PORT' if settings.snowflake.host else 'ACCOUNT'}",
        ),
        _kafka_system(settings),
        System("code-server", code_address, code_setting, local, code, embedded=True),
        System("webserver", web_address, web_setting, dagster.host, web, embedded=True),
        System("daemon", "", "", local, None, embedded=True),
    ]
    if settings.airflow.enabled:
        at, port = airflow.address(settings), settings.airflow.port
        found += [
            System(airflow.API, at, airflow.PORT_SETTING, airflow.HOST, port, embedded=True),
            System(airflow.SCHEDULER, "", "", local, None, embedded=True),
            System(airflow.PROCESSOR, "", "", local, None, embedded=True),
        ]
    return found


def settings_environment(settings: Settings) -> dict[str, str]:
    """This process's environment with every setting in it, secrets included.

    Children thereby have the same settings, whichever of config.yaml, .env, the environment or an
    argument each came from, and find this package wherever they are started.
    """
    environment = dict(os.environ)
    proxies.complete(environment)
    # A run's process starts each minute: without bytecode its imports cost a second and a half more.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            for key in type(value).model_fields:
                variable = f"{PREFIX}{name}__{key}".upper()
                environment[variable] = _as_text(getattr(value, key))
        else:
            environment[f"{PREFIX}{name}".upper()] = _as_text(value)
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def dagster_environment(settings: Settings) -> dict[str, str]:
    """The environment for Dagster's processes, with DAGSTER_HOME made and its dagster.yaml linked.

    Safe to repeat. A dagster.yaml that a person put there as a file of their own is left alone.

    Raises:
        StackError: the repository's dagster.yaml is missing, or the directory cannot be made.
    """
    home = settings.data_dir / "dagster"
    with making(home):
        make_private(settings.data_dir)
        home.mkdir(mode=0o700, exist_ok=True)
    source, link = REPOSITORY / "dagster.yaml", home / "dagster.yaml"
    if not source.exists():
        raise StackError(f"{source} is missing: start the stack from a clone of the repository.")
    if link.is_symlink() and link.readlink() != source:
        link.unlink()
    if not link.exists():
        link.symlink_to(source)
    return {**settings_environment(settings), "DAGSTER_HOME": str(home)}


def prepared(settings: Settings) -> Settings:
    """Return the settings with the embedded servers' credentials; make the data directory private.

    Whoever starts a stack and then talks to it takes these settings. Safe to repeat: credentials
    that exist are kept.

    Raises:
        StackError: the data directory cannot be made or closed to other users.
        SettingsError: the file of the credentials is damaged.
    """
    with making(settings.data_dir):
        make_private(settings.data_dir)
    return making_embedded_credentials(settings)


def stack_services(
    settings: Settings, *, exchange_options: Sequence[str] = (), with_dagster: bool = True
) -> list[Service]:
    """What the embedded stack starts, in order; servers that are elsewhere are left out.

    Raises:
        StackError: a directory for their data cannot be made.
    """
    makers: dict[str, Callable[[Settings, System], Service]] = {
        "exchange": partial(_exchange, options=exchange_options),
        "s3": _s3,
        "redis": _redis,
        "snowflake": _snowflake,
        "kafka": _kafka,
    }
    if with_dagster:
        makers |= {"code-server": _code_server, "webserver": _webserver, "daemon": _daemon}
    chosen = [found for found in systems(settings) if found.embedded and found.name in makers]
    settings = prepared(settings)
    with making(settings.data_dir), private_umask():
        services = [makers[system.name](settings, system) for system in chosen]
        if with_dagster and settings.airflow.enabled:
            services += airflow.airflow_services(settings)
        if settings.alerts.webhook_url is not None:
            services.append(_watchdog(settings))
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
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        made = Supervisor(services, settings.data_dir, on_restart=WatchdogAlarm(settings))
        with private_umask():
            made.run(stop, lambda: on_ready(stack_status(settings)))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class WatchdogAlarm:
    """Alerts that the watchdog was restarted, which it cannot do itself; once in ten minutes."""

    def __init__(self, settings: Settings) -> None:
        self._alerts = Alerts(settings.alerts)
        self._data_dir = settings.data_dir
        self._told_at: float | None = None

    def __call__(self, name: str, reason: str) -> None:
        """Alert in a thread of its own, if this is the watchdog."""
        now = time.monotonic()
        if name != WATCHDOG or (self._told_at is not None and now - self._told_at < 600.0):
            return
        self._told_at = now
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
    """The stack for the length of a `with` block, entered when all is ready.

    Files that this process makes within the block are private, too.

    Raises:
        StackError: as `run_stack`; at the block's end if the stack failed in between.
    """
    services = stack_services(
        settings, exchange_options=exchange_options, with_dagster=with_dagster
    )
    stop, settled = threading.Event(), threading.Event()
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


def stack_status(settings: Settings) -> StackStatus:
    """What runs now, by stack.json and by asking; external systems are asked for a connection.

    Raises:
        StackError: stack.json is damaged.
    """
    record = read_state(settings.data_dir)
    running = record is not None and record.runs()
    silence = record.silence(datetime.now(UTC)) if record else None
    processes = {process.name: process for process in record.processes} if record else {}
    services = []
    for system in systems(settings):
        process = processes.pop(system.name, None) if system.embedded else None
        if process is None:
            host, port = proxies.first_hop(system.address, system.host, system.port)
            alive = port is not None and tcp_answers(host, port)
            state = UP if alive else "down"
            services.append(
                ServiceStatus(system.name, system.address, system.embedded, alive, state=state)
            )
        else:
            services.append(_process_status(process, silence))
    # What `up --airflow` started, though the settings of who asks do not name it.
    services += [_process_status(process, silence) for process in processes.values()]
    problem = (silence or record.problem) if record else None
    return StackStatus(
        data_dir=str(settings.data_dir),
        running=running,
        pid=record.pid if record and running else None,
        started_at=record.started_at if record and running else None,
        services=tuple(services),
        # A supervisor that cannot write has reported what it knew before the disk was full.
        problem=(disk_problem(settings.data_dir) or problem) if running else None,
    )


def _process_status(process: ProcessRecord, silence: str | None) -> ServiceStatus:
    alive = silence is None and process.is_up()
    state, problem = process.state or UP, process.problem
    if silence is not None:
        # What it last said may be long over; that nobody watches over the service is certain.
        state, problem = "unhealthy", silence
    elif not process.runs() and state != RESTARTING:
        state, problem = "down", problem or "its process has ended"
    elif not process.ready and state == UP:
        state = "starting"
    return ServiceStatus(
        name=process.name,
        address=process.address or "",
        embedded=True,
        alive=alive,
        pid=process.pid,
        started_at=process.started_at,
        seconds_to_ready=process.seconds_to_ready,
        restarts=process.restarts,
        log=process.log,
        state=state,
        problem=problem,
        since=process.since,
        last_restart=process.last_restart,
    )


def create_bucket(settings: Settings) -> None:
    """Make the lake's bucket on the embedded server. Safe to repeat: an existing one stays.

    Raises:
        StackError: the server refuses.
    """
    from botocore.exceptions import ClientError

    s3 = settings.s3
    client = boto3_client(s3, attempts=2, connect_timeout=2, read_timeout=5, proxies={})
    # S3 refuses the default region as a constraint, and any other one without it.
    region: dict[str, Any] = {"CreateBucketConfiguration": {"LocationConstraint": s3.region}}
    try:
        client.create_bucket(Bucket=s3.bucket, **({} if s3.region == "us-east-1" else region))
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise StackError(
                f"The embedded S3 server refuses to make the bucket {s3.bucket!r} ({code}). "
                "Check PIPELINE_S3__BUCKET: lower-case letters, digits and hyphens."
            ) from error


def _system(name: str, address: str, setting: str) -> System:
    parts = urlsplit(address)
    host = parts.hostname or ""
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    embedded = is_embedded(address)
    # `localhost` may resolve to ::1 first, where none of our servers listens.
    return System(
        name=name,
        address=address,
        setting=setting,
        host="127.0.0.1" if embedded else host,
        port=port,
        embedded=embedded,
    )


def _kafka_system(settings: Settings) -> System:
    kafka = settings.kafka
    host, port = kafka.servers[0]
    alone = len(kafka.servers) == 1 and kafka.security_protocol == "PLAINTEXT"
    embedded = host in LOCAL_HOSTS and alone
    return System(
        name="kafka",
        address=kafka.bootstrap_servers,
        setting="PIPELINE_KAFKA__BOOTSTRAP_SERVERS",
        host="127.0.0.1" if embedded else host.strip("[]"),
        port=port,
        embedded=embedded,
    )


def _s3_address(settings: Settings) -> str:
    return settings.s3.endpoint_url or f"https://s3.{settings.s3.region}.amazonaws.com"


def _snowflake_address(settings: Settings) -> str:
    snowflake = settings.snowflake
    if snowflake.host is None:
        return f"https://{snowflake.account}.snowflakecomputing.com"
    port = f":{snowflake.port}" if snowflake.port else ""
    return f"{snowflake.protocol}://{snowflake.host}{port}"


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if not isinstance(value, tuple):
        return str(value)
    if value and isinstance(value[0], str):
        return ",".join(value)
    return json.dumps([each.model_dump(mode="json") for each in value], ensure_ascii=False)


def _module(module: str, *arguments: str) -> tuple[str, ...]:
    """The command of a module under this very Python, whatever PATH says."""
    return (sys.executable, "-m", module, *arguments)


def _option(name: str, value: object) -> tuple[str, str]:
    return name, str(value)


def _service(
    system: System,
    argv: tuple[str, ...],
    ready: Callable[[], bool],
    environment: dict[str, str],
    *,
    health: HealthCheck,
    after: tuple[str, ...] = (),
) -> Service:
    return Service(
        name=system.name,
        argv=argv,
        ready=ready,
        address=system.address,
        listens=None if system.port is None else (system.host, system.port),
        setting=system.setting,
        environment=environment,
        health=health,
        after=after,
    )


def _exchange(settings: Settings, system: System, options: Sequence[str]) -> Service:
    argv = _module("pipeline_assets.local.exchange", *_option("--port", system.port), *options)
    ready = partial(http_answers, f"http://{system.host}:{system.port}/fapi/v1/ping")
    health = HealthCheck(probes.exchange(system.host, system.port or 0, _TIMEOUT))
    return _service(system, argv, ready, settings_environment(settings), health=health)


def _s3(settings: Settings, system: System) -> Service:
    argv = _module(
        "pipeline_assets.local.s3_server",
        *_option("--port", system.port),
        *_option("--data-dir", settings.data_dir / "s3"),
    )
    if settings.s3.access_key_id and settings.s3.secret_access_key:
        argv += _option("--access-key-id", settings.s3.access_key_id)
        argv += _option("--secret-access-key-env", f"{PREFIX}S3__SECRET_ACCESS_KEY")

    def ready() -> bool:
        if not http_answers(f"http://{system.host}:{system.port}{HEALTH_PATH}"):
            return False
        create_bucket(settings)
        return True

    health = HealthCheck(probes.s3(settings.s3, _TIMEOUT))
    return _service(system, argv, ready, settings_environment(settings), health=health)


def _redis(settings: Settings, system: System) -> Service:
    from pipeline_assets.local.redis_server import redis_command

    directory, password = settings.data_dir / "redis", settings.redis.password
    argv = tuple(redis_command(directory, system.port or 0, password))
    port = system.port or 0
    ready = partial(_redis_answers, system.host, port, password)
    ask = probes.redis(settings.redis.url, system.host, port, password, _TIMEOUT)
    return _service(system, argv, ready, dict(os.environ), health=HealthCheck(ask))


def _redis_answers(host: str, port: int, password: SecretStr | None) -> bool:
    """Whether the server serves commands; while it still loads its data it says -LOADING."""
    # Without the password the answer would be -NOAUTH, loading or not.
    given = password.get_secret_value().encode() if password else None
    login = b"" if given is None else b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%b\r\n" % (len(given), given)
    try:
        with socket.create_connection((host, port), timeout=1.0) as connection:
            connection.sendall(login + b"PING\r\n")
            with connection.makefile("rb") as replies:
                answers = [replies.readline(128) for _ in range(1 if given is None else 2)]
    except OSError:
        return False
    return answers[-1].startswith(b"+PONG")


def _snowflake(settings: Settings, system: System) -> Service:
    argv = _module(
        "pipeline_assets.local.snowflake_server",
        *_option("--port", system.port),
        *_option("--data-dir", settings.data_dir / "snowflake"),
        *_option("--s3-endpoint", _s3_address(settings)),
    )
    # It has no page at /, and a 404 is the answer of a server that is there.
    ready = partial(http_answers, f"http://{system.host}:{system.port}/", below=500)
    # A statement over 500 objects keeps the server busy for ten seconds on a slow machine.
    ask = probes.snowflake(settings.snowflake, system.host, system.port or 0, 20.0)
    health = HealthCheck(ask, period=15.0, timeout=20.0)
    return _service(system, argv, ready, settings_environment(settings), health=health)


def _kafka(settings: Settings, system: System) -> Service:
    argv = _module("pipeline_assets.local.kafka_server", *_option("--port", system.port))
    environment = settings_environment(settings)
    after: tuple[str, ...] = ()
    store, secret = settings.s3, settings.s3.secret_access_key
    # Messages outlast the broker where the lake is this stack's; a bucket elsewhere is not ours to
    # fill, so that beside it the broker keeps them in memory.
    if any(found.name == "s3" and found.embedded for found in systems(settings)):
        argv += _option("--s3-endpoint", _s3_address(settings))
        argv += _option("--region", store.region)
        # A person's own token or profile would be taken beside this key, and be refused.
        for name in ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE"):
            environment.pop(name, None)
        environment |= {
            "AWS_ACCESS_KEY_ID": store.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": secret.get_secret_value() if secret else "",
        }
        after = ("s3",)
    ready = partial(tcp_answers, system.host, system.port or 0)
    health = HealthCheck(probes.kafka(system.host, system.port or 0, _TIMEOUT))
    return _service(system, argv, ready, environment, health=health, after=after)


def _code_server(settings: Settings, system: System) -> Service:
    argv = _module(
        *("dagster", "code-server", "start"),
        *_option("-h", system.host),
        *_option("-p", system.port),
        *_option("-m", "pipeline_assets.definitions"),
    )
    # Its port opens once the definitions are loaded.
    ready = partial(tcp_answers, system.host, system.port or 0)
    environment = dagster_environment(settings)
    # The process that holds the definitions ends itself when the one before it is silent for this
    # long. At the default of 30 s, a laptop's sleep or a busy machine ended it; here, the supervisor
    # ends both together.
    environment["DAGSTER_GRPC_PROXY_HEARTBEAT_TTL_SECONDS"] = "86400"
    ask = probes.code_server(system.host, system.port or 0, _TIMEOUT)
    health = HealthCheck(ask, period=5.0)
    return _service(system, argv, ready, environment, health=health)


def _webserver(settings: Settings, system: System) -> Service:
    argv = _module(
        "pipeline_assets.dagster_instance.webserver",
        *_option("-w", REPOSITORY / "workspace.yaml"),
        *_option("-h", system.host),
        *_option("-p", system.port),
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
    environment = dagster_environment(settings)
    health = HealthCheck(
        probes.webserver(f"http://{host}:{system.port}", _TIMEOUT), through=("code-server",)
    )
    return _service(system, argv, ready, environment, health=health, after=("code-server",))


def _watchdog(settings: Settings) -> Service:
    file = settings.data_dir / WATCHDOG_FILE

    def ready() -> bool:
        # What the last one left is as old as the stack's last run.
        return file.exists() and probes.report_age(file) < 15.0

    return Service(
        name=WATCHDOG,
        argv=_module("pipeline_assets.services.watchdog"),
        ready=ready,
        environment=settings_environment(settings),
        health=HealthCheck(probes.watchdog(file)),
        # It may be about to alert that the supervisor is dead.
        stop_timeout=15.0,
    )


def _daemon(settings: Settings, system: System) -> Service:
    argv = _module("dagster._daemon", "run", *_option("-w", REPOSITORY / "workspace.yaml"))
    log = settings.data_dir / "logs" / f"{system.name}.log"

    def ready() -> bool:
        text = log.read_text(encoding="utf-8", errors="replace")
        # After the supervisor's last note: what stands before it is a former daemon's.
        return DAEMON_STARTED in text.rpartition(f"--- {system.name} ")[2]

    stores = ("exchange", "s3", "redis", "snowflake", "kafka")
    embedded = [found.name for found in systems(settings) if found.embedded]
    web = next(found.address for found in systems(settings) if found.name == "webserver")
    web = web.replace("//0.0.0.0:", "//127.0.0.1:")
    return _service(
        system,
        argv,
        ready,
        dagster_environment(settings),
        health=HealthCheck(probes.daemon(web, _TIMEOUT), through=("webserver",)),
        # After the web server: both create Dagster's databases, and fail when at it together.
        # After the stores: a schedule that is on fires at once.
        after=("webserver", *(name for name in stores if name in embedded)),
    )
