"""Health checks of the replay exchange and the stores: each asks for the thing that the service is there for.
When to ask, and what follows, is decided in health.py and supervisor.py.

The supervisor asks for as long as the stack runs, so the checks use sockets and small HTTP requests
instead of the product's clients, which would cost it memory and CPU time.
"""

import gzip
import http.client
import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pipeline_assets.local.errors import UnhealthyError
from pipeline_assets.resources.s3_clients import boto3_client

if TYPE_CHECKING:
    from pydantic import SecretStr

    from pipeline_assets.settings import S3Settings, SnowflakeSettings

Ask = Callable[[], None]


_REDIS_KEY = "pipeline:health"


def http_json(
    url: str, *, timeout: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
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
                        said = line.decode(errors="replace").strip() or "nothing"
                        raise UnhealthyError(f"{words[0]} answers {said}")
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
