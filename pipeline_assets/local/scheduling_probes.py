"""Health checks of the processes of Dagster and Airflow, and of the watchdog. Checks of the exchange and the
stores are in probes.py.
"""

import base64
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_assets.collection.run_names import LOCATION
from pipeline_assets.local.errors import UnhealthyError, UnknownHealthError
from pipeline_assets.local.probes import Ask, http_json

if TYPE_CHECKING:
    from pipeline_assets.settings import RedisSettings

# Dagster's daemon reports its threads every 30 s, each at the end of what it does just then.
NEWEST_HEARTBEAT_SECONDS = 75.0
OLDEST_HEARTBEAT_SECONDS = 300.0
# Airflow hands a task to its executor only when a worker is free.
QUEUED_SECONDS = 120.0
_LOCATION_QUERY = """{ workspaceOrError { __typename ... on Workspace { locationEntries { name
  locationOrLoadError { __typename ... on RepositoryLocation { repositories { name } }
  ... on PythonError { message } } } } } }"""
_DAEMON_QUERY = """{ instance { daemonHealth { allDaemonStatuses { daemonType required
  lastHeartbeatTime } } } }"""


def code_server(host: str, port: int, timeout: float) -> Ask:
    """Ask the code server to list its repository. Its port is a proxy's: the definitions are in a process
    of their own behind it, which answers or does not.
    """

    def ask() -> None:
        import grpc

        with grpc.insecure_channel(f"{host}:{port}") as channel:
            list_repositories: Any = channel.unary_unary("/api.DagsterApi/ListRepositories")
            try:
                reply = list_repositories(b"", timeout=timeout)
            except grpc.RpcError as error:
                code = getattr(error, "code", None)
                said = code().name if code else "no status"
                raise UnhealthyError(f"no repository is listed ({said})") from error
        if b"ListRepositoriesResponse" not in reply:
            raise UnhealthyError("the definitions do not load; see the log")

    return ask


def webserver(url: str, timeout: float) -> Ask:
    """Check that the web server has the code location loaded."""

    def ask() -> None:
        found = _graphql(url, _LOCATION_QUERY, timeout)["workspaceOrError"]
        for entry in found.get("locationEntries", ()):
            held = entry["locationOrLoadError"] or {}
            if entry["name"] == LOCATION and held.get("repositories"):
                return
            text = " ".join(str(held.get("message", "it is not loaded")).split())
            raise UnhealthyError(f"the code location {entry['name']} is missing: {text}"[:200])
        raise UnhealthyError("no code location is known")

    return ask


def daemon(url: str, timeout: float, now: Callable[[], float] = time.time) -> Ask:
    """Check that the daemon's threads report to Dagster's storage, which the web server reads."""

    def ask() -> None:
        try:
            found = _graphql(url, _DAEMON_QUERY, timeout)
        except (OSError, UnhealthyError) as error:
            raise UnknownHealthError(f"the web server does not answer ({error})") from error
        statuses = found["instance"]["daemonHealth"]["allDaemonStatuses"]
        ages = {
            each["daemonType"]: now() - (each["lastHeartbeatTime"] or 0.0)
            for each in statuses
            if each["required"]
        }
        if not ages:
            raise UnhealthyError("the daemon reports nothing")
        if min(ages.values()) > NEWEST_HEARTBEAT_SECONDS:
            raise UnhealthyError(f"no heartbeat of the daemon for {min(ages.values()):.0f} s")
        name, oldest = max(ages.items(), key=lambda each: each[1])
        if oldest > OLDEST_HEARTBEAT_SECONDS:
            raise UnhealthyError(f"no heartbeat of the daemon's {name} for {oldest:.0f} s")

    return ask


def _graphql(url: str, query: str, timeout: float) -> Any:
    body = json.dumps({"query": query}).encode()
    headers = {"Content-Type": "application/json"}
    reply = http_json(f"{url}/graphql", timeout=timeout, body=body, headers=headers)
    if not reply.get("data") or reply.get("errors"):
        errors = reply.get("errors") or [{}]
        raise UnhealthyError(f"GraphQL answers {errors[0].get('message', 'nothing')}"[:200])
    return reply["data"]


def worker(settings: "RedisSettings", name: str) -> Ask:
    """Check that the worker reports in Redis, from the loop that also takes its messages, that it lives."""
    from pipeline_assets.resources.workers import WorkerRegistry, WorkerRegistryError

    registry = WorkerRegistry(settings.model_copy(update={"retry_seconds": 0.0}))

    def ask() -> None:
        try:
            living = registry.living()
        except WorkerRegistryError as error:
            raise UnknownHealthError(f"Redis does not answer ({error})") from error
        if not any(each.name == name for each in living):
            raise UnhealthyError("it has not reported for 20 s")

    return ask


def airflow_component(url: str, component: str, timeout: float) -> Ask:
    """Airflow calls one of its components healthy, by the age of its heartbeat."""

    def ask() -> None:
        health = _asked_through(url, "/api/v2/monitor/health", timeout)
        found = (health.get(component) or {}).get("status")
        if found != "healthy":
            beat = (health.get(component) or {}).get(f"latest_{component}_heartbeat")
            raise UnhealthyError(f"Airflow calls its {component} {found}; last heartbeat {beat}")

    return ask


def airflow_api(url: str, timeout: float) -> Ask:
    """Airflow's API server answers."""

    def ask() -> None:
        http_json(f"{url}/api/v2/version", timeout=timeout)

    return ask


def airflow_scheduler(url: str, login: Callable[[], tuple[str, str]], timeout: float) -> Ask:
    """Airflow's scheduler is alive, and the tasks that it hands to its workers are started.

    A worker that is killed while idle takes the lock of the queue with it: no other one gets a task.
    """
    alive = airflow_component(url, "scheduler", timeout)
    tokens: list[str] = []

    def queued() -> list[dict[str, Any]]:
        if not tokens or _ends_soon(tokens[0]):
            user, password = login()
            body = json.dumps({"username": user, "password": password}).encode()
            headers = {"Content-Type": "application/json"}
            tokens[:] = [_asked_through(url, "/auth/token", timeout, body, headers)["access_token"]]
        listing = "/api/v2/dags/~/dagRuns/~/taskInstances?state=queued&limit=50"
        headers = {"Authorization": f"Bearer {tokens[0]}"}
        try:
            found = _asked_through(url, listing, timeout, None, headers)
        except UnknownHealthError:
            # As after the API server began with other keys: the next question logs in anew.
            tokens.clear()
            raise
        return list(found["task_instances"])

    def ask() -> None:
        alive()
        now = datetime.now(UTC)
        for each in queued():
            since = each.get("queued_when")
            age = (now - datetime.fromisoformat(since)).total_seconds() if since else 0.0
            if age > QUEUED_SECONDS:
                raise UnhealthyError(
                    f"a task of {each['dag_id']} waits for a worker for {age:.0f} s"
                )

    return ask


def _ends_soon(token: str) -> bool:
    """Return whether a JSON Web Token ends within a minute; one that cannot be read counts as ended."""
    try:
        claims = token.split(".")[1]
        padded = claims + "=" * (-len(claims) % 4)
        return float(json.loads(base64.urlsafe_b64decode(padded))["exp"]) < time.time() + 60
    except (ValueError, KeyError, IndexError):
        return True


def _asked_through(
    url: str,
    path: str,
    timeout: float,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Ask Airflow's API server about another component; its own failure says nothing of that."""
    try:
        return http_json(f"{url}{path}", timeout=timeout, body=body, headers=headers)
    except (OSError, UnhealthyError) as error:
        raise UnknownHealthError(f"Airflow's API server does not answer ({error})") from error


# A slow webhook delays the watchdog's next round by fifteen seconds.
REPORT_SECONDS = 45.0


def watchdog(file: Path) -> Ask:
    """Check that the watchdog has run recently, by what it writes at each round."""

    def ask() -> None:
        age = report_age(file)
        if age > REPORT_SECONDS:
            raise UnhealthyError(f"it has not looked for {age:.0f} s")

    return ask


def report_age(file: Path) -> float:
    """Return the seconds since the watchdog wrote its report."""
    return time.time() - file.stat().st_mtime
