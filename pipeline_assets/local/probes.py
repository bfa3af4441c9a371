"""Health checks of the embedded stack's services: each asks for what the service is there for. When they are
asked, and what follows, is not decided here.

They are asked by the supervisor for as long as the stack runs, so they use sockets and small HTTP requests
instead of the product's clients, which would cost it memory and CPU time.
"""

import base64
import gzip
import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pipeline_assets.collection.run_names import LOCATION
from pipeline_assets.local.health import UnhealthyError, UnknownHealthError
from pipeline_assets.resources.s3_clients import boto3_client

if TYPE_CHECKING:
    from pydantic import SecretStr

    from pipeline_assets.settings import S3Settings, SnowflakeSettings

Ask = Callable[[], None]

# Dagster's daemon reports its threads every 30 s, each at the end of what it does just then.
NEWEST_HEARTBEAT_SECONDS = 75.0
OLDEST_HEARTBEAT_SECONDS = 300.0
# Airflow hands a task to its executor only when a worker is free.
QUEUED_SECONDS = 120.0

# A slow webhook delays the watchdog's next round by fifteen seconds.
REPORT_SECONDS = 45.0

_REDIS_KEY = "pipeline:health"
_LOCATION_QUERY = """{ workspaceOrError { __typename ... on Workspace { locationEntries { name
  locationOrLoadError { __typename ... on RepositoryLocation { repositories { name } }
  ... on PythonError { message } } } } } }"""
_DAEMON_QUERY = """{ instance { daemonHealth { allDaemonStatuses { daemonType required
  lastHeartbeatTime } } } }"""


def http_json(
    url: str,
    *,
    timeout: float,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Ask this machine's server at `url`, with POST if there is a body; returns its JSON.

    No proxy is asked, whatever the environment says: the address is this machine's.

    Raises:
        UnhealthyError: it answers with an error or with what is not JSON.
        OSError: it does not answer.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET" if body is None else "POST", path, body, dict(headers or {}))
        reply = connection.getresponse()
        text = reply.read()
    except http.client.HTTPException as error:
        raise UnhealthyError(f"{parts.path} answers no HTTP ({type(error).__name__})") from error
    finally:
        connection.close()
    if reply.status >= 400:
        raise UnhealthyError(f"{parts.path} answers HTTP {reply.status}")
    try:
        return json.loads(text)
    except ValueError as error:
        raise UnhealthyError(f"{parts.path} answers no JSON") from error


def exchange(host: str, port: int, timeout: float) -> Ask:
    """The replay exchange tells its clock. Asked beside its public interface, where faults and bans
    that a person made on purpose do not strike.
    """

    def ask() -> None:
        http_json(f"http://{host}:{port}/control/state", timeout=timeout)

    return ask


def s3(settings: "S3Settings", timeout: float) -> Ask:
    """The store answers a signed request about the lake's bucket."""
    clients: list[Any] = []

    def ask() -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        if not clients:
            times = {"connect_timeout": timeout, "read_timeout": timeout}
            clients.append(boto3_client(settings, attempts=1, proxies={}, **times))
        try:
            clients[0].head_bucket(Bucket=settings.bucket)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            raise UnhealthyError(f"the bucket {settings.bucket} answers {code}") from error
        except BotoCoreError as error:
            raise UnhealthyError(f"S3 does not answer ({type(error).__name__})") from error

    return ask


def redis(url: str, host: str, port: int, password: "SecretStr | None", timeout: float) -> Ask:
    """Redis keeps a key and gives it back."""
    user = unquote(urlsplit(url).username or "")

    def ask() -> None:
        value = str(time.time_ns())
        commands: list[tuple[str, ...]] = []
        if password is not None:
            commands.append(("AUTH", *([user] if user else []), password.get_secret_value()))
        commands += [("SET", _REDIS_KEY, value, "EX", "300"), ("GET", _REDIS_KEY)]
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.sendall(b"".join(_redis_command(*words) for words in commands))
            with connection.makefile("rb") as replies:
                for words in commands:
                    line = replies.readline()
                    if not line or line.startswith(b"-"):
                        told = line.decode(errors="replace").strip() or "nothing"
                        raise UnhealthyError(f"{words[0]} answers {told}")
                kept = replies.readline().decode(errors="replace").strip()
        if kept != value:
            raise UnhealthyError("GET answers another value than was SET")

    return ask


def _redis_command(*words: str) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def kafka(host: str, port: int, timeout: float) -> Ask:
    """The broker names itself in a Metadata reply (Kafka's protocol, API key 3, version 1)."""
    client = b"pipeline-health"
    # An empty array of topics: none is described, and none is made.
    body = struct.pack(">hhih", 3, 1, 7, len(client)) + client + struct.pack(">i", 0)

    def ask() -> None:
        with socket.create_connection((host, port), timeout=timeout) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as replies:
                header = replies.read(12)
        if len(header) < 12:
            raise UnhealthyError("the broker closes the connection instead of an answer")
        _, correlation, brokers = struct.unpack(">iii", header)
        if correlation != 7 or brokers < 1:
            raise UnhealthyError("the broker names no broker")

    return ask


def snowflake(settings: "SnowflakeSettings", host: str, port: int, timeout: float) -> Ask:
    """The warehouse logs the product's user in and computes one row."""
    address = f"http://{host}:{port}"

    def post(path: str, content: Mapping[str, Any], token: str | None = None) -> Any:
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        if token:
            headers["Authorization"] = f'Snowflake Token="{token}"'
        packed = gzip.compress(json.dumps(content).encode(), 1)
        reply = http_json(f"{address}{path}", timeout=timeout, body=packed, headers=headers)
        if not reply.get("success"):
            raise UnhealthyError(f"{path.partition('?')[0]} answers {reply.get('message')}")
        return reply.get("data")

    def login() -> str:
        secret = settings.password
        data = {
            "LOGIN_NAME": settings.user,
            "PASSWORD": secret.get_secret_value() if secret else "",
            "ACCOUNT_NAME": settings.account,
            "SESSION_PARAMETERS": {},
        }
        return str(post("/session/v1/login-request", {"data": data})["token"])

    def compute(token: str) -> None:
        post("/queries/v1/query-request?requestId=health", {"sqlText": "select 1"}, token)

    # One session for all questions: the server keeps each until it ends.
    tokens: list[str] = []

    def ask() -> None:
        if tokens:
            try:
                compute(tokens[0])
                return
            except UnhealthyError:
                # As after a restart of the server, which forgets its sessions.
                tokens.clear()
        token = login()
        compute(token)
        tokens.append(token)

    return ask


def code_server(host: str, port: int, timeout: float) -> Ask:
    """The code server lists its repository. Its port is a proxy's: the definitions are in a process
    of their own behind it, which answers or does not.
    """

    def ask() -> None:
        import grpc

        with grpc.insecure_channel(f"{host}:{port}") as channel:
            list_repositories = channel.unary_unary("/api.DagsterApi/ListRepositories")
            try:
                reply = list_repositories(b"", timeout=timeout)
            except grpc.RpcError as error:
                code = error.code().name if isinstance(error, grpc.Call) else "no status"
                raise UnhealthyError(f"no repository is listed ({code})") from error
        if b"ListRepositoriesResponse" not in reply:
            raise UnhealthyError("the definitions do not load; see the log")

    return ask


def webserver(url: str, timeout: float) -> Ask:
    """The web server has the code location loaded."""

    def ask() -> None:
        found = _graphql(url, _LOCATION_QUERY, timeout)["workspaceOrError"]
        for entry in found.get("locationEntries", ()):
            held = entry["locationOrLoadError"] or {}
            if entry["name"] == LOCATION and held.get("repositories"):
                return
            told = " ".join(str(held.get("message", "it is not loaded")).split())
            raise UnhealthyError(f"the code location {entry['name']} is missing: {told}"[:200])
        raise UnhealthyError("no code location is known")

    return ask


def daemon(url: str, timeout: float, now: Callable[[], float] = time.time) -> Ask:
    """The daemon's threads report to Dagster's storage, which the web server reads."""

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


def watchdog(file: Path) -> Ask:
    """The watchdog has looked lately, by what it writes at each round."""

    def ask() -> None:
        age = report_age(file)
        if age > REPORT_SECONDS:
            raise UnhealthyError(f"it has not looked for {age:.0f} s")

    return ask


def report_age(file: Path) -> float:
    """Seconds since the watchdog wrote its report."""
    return time.time() - file.stat().st_mtime


def _ends_soon(token: str) -> bool:
    """Whether a JSON Web Token ends within a minute; one that cannot be read counts as ended."""
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
