"""Airflow's three components as services of the embedded stack: what they are started with, and who may
log in. The DAGs are in airflow_dags/; an Airflow of one's own needs nothing from here.
"""

import http.client
import importlib.util
import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from pipeline_assets.local import scheduling_probes
from pipeline_assets.local.data_directory import make_private
from pipeline_assets.local.environment import outer_environment, python_path
from pipeline_assets.local.errors import StackError
from pipeline_assets.local.health import HealthCheck
from pipeline_assets.local.ports import DIRECT, http_answers
from pipeline_assets.local.service import Service
from pipeline_assets.settings import PREFIX, Settings
from pipeline_assets.web_guard import ALLOWED_HOSTS

DAGS = Path(__file__).resolve().parents[1] / "airflow_dags"
PLUGINS = Path(__file__).resolve().parent / "airflow_plugins"
HOST = "127.0.0.1"
API, SCHEDULER, PROCESSOR = "airflow", "airflow-scheduler", "airflow-dag-processor"
PORT_SETTING = f"{PREFIX}AIRFLOW__PORT"
USER = "admin"
_SECRETS = "secrets.json"
_PASSWORDS = "passwords.json"
# Seconds for one health check. One process serves a person and eight tasks; on a machine with more work than
# processors, three time-outs of 15 s in a row were seen, and a restart there takes two minutes.
_TIMEOUT = 30.0

# Migrations come first, and in the same process: the other two start once this one is ready.
_MIGRATE_AND_SERVE = """
import os, subprocess, sys
done = subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=False)
if done.returncode:
    sys.exit(done.returncode)
os.execv(sys.executable, [sys.executable, "-m", "airflow", "api-server", *sys.argv[1:]])
"""


def address(settings: Settings) -> str:
    """Return the address at which a browser finds Airflow."""
    return f"http://{HOST}:{settings.airflow.port}"


def login(settings: Settings) -> tuple[str, str]:
    """User and password of the embedded Airflow; made at the first call, and kept."""
    return USER, _kept_secrets(_home(settings))["password"]


def airflow_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of Airflow's processes; makes AIRFLOW_HOME. Safe to repeat.

    The only product settings in it are allowed hosts and the names of strategies: the DAGs know Dagster's
    address, and no more.
    """
    home = _home(settings)
    kept, logs = _kept_secrets(home), home / "logs"
    passwords = home / _PASSWORDS
    _write_private(passwords, json.dumps({USER: kept["password"]}))
    environment = outer_environment()
    dagster_host = HOST if settings.dagster.host == "0.0.0.0" else settings.dagster.host  # noqa: S104
    dagster = {"conn_type": "http", "host": dagster_host, "port": settings.dagster.webserver_port}
    database, for_coroutines = _database_addresses(settings, home)
    environment |= {
        "AIRFLOW_HOME": str(home),
        # Tasks are kept from the database, but for the one that cleans it.
        "AIRFLOW_CONN_AIRFLOW_DATABASE": json.dumps({"conn_type": "generic", "password": database}),
        "AIRFLOW_CONN_DAGSTER": json.dumps(dagster),
        "AIRFLOW_VAR_CANDLES_FIRST_DAY": kept["first_day"],
        "AIRFLOW_VAR_MODEL_STRATEGIES": ",".join(each.name for each in settings.strategies),
        "AIRFLOW__API__BASE_URL": address(settings),
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__SECRET_KEY": kept["api"],
        "AIRFLOW__API_AUTH__JWT_SECRET": kept["jwt"],
        "AIRFLOW__CORE__AUTH_MANAGER": (
            "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
        ),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address(settings)}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "8",
        # Named one by one: with an apostrophe or a % in AIRFLOW_HOME, Airflow 3.3 does not replace
        # {AIRFLOW_HOME} in its defaults, and wrote logs to a directory of that name.
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(logs),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(logs / "dag_processor"),
        # It sets these modes whatever the umask is.
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FILE_PERMISSIONS": "0o600",
        "AIRFLOW__LOGGING__FILE_TASK_HANDLER_NEW_FOLDER_PERMISSIONS": "0o700",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": for_coroutines,
        # By default a task of a killed worker, or of a killed scheduler, is seen after five minutes,
        # and no ingest run begins until then.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        ALLOWED_HOSTS: ",".join(settings.allowed_hosts or ()),
        # Its plugin imports this package, wherever Airflow is started.
        "PYTHONPATH": python_path(),
    }
    if settings.airflow.database_url is not None:
        # A database of encoding SQL_ASCII gives psycopg bytes for text otherwise.
        environment["PGCLIENTENCODING"] = "UTF8"
    if settings.alerts.webhook_url is not None:
        webhook = {"conn_type": "http", "password": settings.alerts.webhook_url.get_secret_value()}
        environment["AIRFLOW_CONN_CANDLE_ALERTS"] = json.dumps(webhook)
    return environment


def require_airflow() -> None:
    """Raise unless Airflow is installed here.

    Raises:
        StackError: it is not; the message says how to install it.
    """
    if importlib.util.find_spec("airflow") is None:
        raise StackError(
            "Airflow is not installed here: `pip install 'pipeline-assets[airflow]' -c "
            "constraints.txt`, or go on without it."
        )


def airflow_services(settings: Settings) -> list[Service]:
    """API server, scheduler and DAG processor; no ingest run is launched before Dagster is there.

    Raises:
        StackError: Airflow is not installed here.
    """
    require_airflow()
    environment = airflow_environment(settings)
    port = settings.airflow.port
    # Workers of its own would each be a process of 150 MB; one serves a person and eight tasks.
    arguments = ("--host", HOST, "--port", str(port), "--workers", "1")
    api = Service(
        name=API,
        argv=(sys.executable, "-c", _MIGRATE_AND_SERVE, *arguments),
        ready=partial(_is_ready_and_guarded, f"{address(settings)}/api/v2/version"),
        address=address(settings),
        listens=(HOST, port),
        setting=PORT_SETTING,
        environment=environment,
        health=_health(scheduling_probes.airflow_api(address(settings), _TIMEOUT)),
        ready_timeout=300.0,
    )
    return [
        api,
        # Its log server would take a port, and the API server reads the same files itself.
        _component(
            settings,
            SCHEDULER,
            environment,
            scheduling_probes.airflow_scheduler(
                address(settings), partial(login, settings), _TIMEOUT
            ),
            "scheduler",
            "--skip-serve-logs",
        ),
        _component(
            settings,
            PROCESSOR,
            environment,
            scheduling_probes.airflow_component(address(settings), "dag_processor", _TIMEOUT),
            "dag-processor",
        ),
    ]


def _component(
    settings: Settings,
    name: str,
    environment: dict[str, str],
    ask: Callable[[], None],
    *arguments: str,
) -> Service:
    return Service(
        name=name,
        argv=(sys.executable, "-m", "airflow", *arguments),
        ready=_is_healthy(address(settings), arguments[0].replace("-", "_")),
        environment=environment,
        # Airflow itself calls a component unhealthy 30 s after its last heartbeat.
        health=_health(ask, API),
        # The first ingest runs are due at once, and need Dagster.
        after=(API, "webserver", "daemon"),
        # It lets running tasks end.
        stop_timeout=20.0,
    )


def _health(ask: Callable[[], None], *through: str) -> HealthCheck:
    return HealthCheck(ask, period=15.0, timeout=_TIMEOUT, failures=4, through=through)


def _is_ready_and_guarded(url: str) -> bool:
    """Return whether the API server answers, and refuses a foreign Host.

    Raises:
        StackError: it serves any Host. Airflow only logs that its plugin cannot be imported.
    """
    if not http_answers(url):
        return False
    foreign = urllib.request.Request(url, headers={"Host": "guard.invalid"})  # noqa: S310 - ours
    try:
        with DIRECT.open(foreign, timeout=1.0):
            pass
    except urllib.error.HTTPError as error:
        return error.code == 403
    except OSError:
        return False
    raise StackError(
        f"Airflow's API server takes commands of any web page: it did not load {PLUGINS}. Its log "
        "says why, above; go on without Airflow until it does."
    )


def _is_healthy(url: str, component: str) -> Callable[[], bool]:
    def healthy() -> bool:
        try:
            health = f"{url}/api/v2/monitor/health"
            with DIRECT.open(health, timeout=1.0) as reply:
                found = json.load(reply)[component]["status"]
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            found = None
        return bool(found == "healthy")

    return healthy


def _database_addresses(settings: Settings, home: Path) -> tuple[str, str]:
    """Return the address of Airflow's database for threads and for coroutines.

    Drivers are named: Airflow would take one for coroutines that nothing else here needs, and SQLAlchemy 2.1
    another one for threads than Airflow is tested with.

    Raises:
        StackError: a driver is not installed.
    """
    if settings.airflow.database_url is None:
        file = home / "airflow.db"
        return f"sqlite:///{file}", f"sqlite+aiosqlite:///{file}"
    if any(importlib.util.find_spec(name) is None for name in ("psycopg", "psycopg2")):
        raise StackError(
            f"{PREFIX}AIRFLOW__DATABASE_URL needs psycopg and psycopg2: pip install "
            "'pipeline-assets[postgres]'."
        )
    rest = settings.airflow.database_url.get_secret_value().partition("://")[2]
    return f"postgresql+psycopg2://{rest}", f"postgresql+psycopg_async://{rest}"


def _home(settings: Settings) -> Path:
    return settings.data_dir / "airflow"


def _kept_secrets(home: Path) -> dict[str, str]:
    """Return what is made at the first start and must stay: keys, the password, the first day to finalize."""
    path = home / _SECRETS
    if not path.exists():
        make_private(home.parent)
        home.mkdir(mode=0o700, exist_ok=True)
        made = {name: secrets.token_urlsafe(32) for name in ("api", "jwt")}
        made["password"] = secrets.token_urlsafe(9)
        # Yesterday: what came before this Airflow is for backfills.
        made["first_day"] = str((datetime.now(UTC) - timedelta(days=1)).date())
        _write_private(path, json.dumps(made))
    kept = json.loads(path.read_text(encoding="utf-8"))
    return {str(name): str(value) for name, value in kept.items()}


def _write_private(path: Path, content: str) -> None:
    """Replace a file that only its owner may read."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    new.replace(path)
