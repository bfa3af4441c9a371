"""Each server as a process of its own refuses foreign pages, and still serves its own clients."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pipeline_assets.local.ports import http_answers
from pipeline_assets.local.process_groups import dying_with_this_process
from pipeline_assets.web_guard import WebGuard
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import S3Server, eventually, free_port
from pipeline_assets_tests.fixtures.snowflake import PASSWORD, USER, SnowflakeServer

JSON = {"Content-Type": "application/json"}
CHANGE = 'mutation { setConcurrencyLimit(concurrencyKey: "attacked", limit: 1) }'
LIMITS = "{ instance { concurrencyLimits { concurrencyKey } } }"
LOGIN = json.dumps({"data": {"LOGIN_NAME": USER, "PASSWORD": PASSWORD}})


def ask(
    port: int, method: str, path: str, body: str | None = None, **headers: str
) -> tuple[int, str]:
    """One request as it is, without a client library's own headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        reply = connection.getresponse()
        return reply.status, reply.read().decode("utf-8", errors="replace")
    finally:
        connection.close()


def foreign(port: int) -> list[dict[str, str]]:
    """Headers of requests that a hostile page causes."""
    return [
        {"Host": f"evil.test:{port}"},
        {"Origin": "http://evil.test"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"},
    ]


@pytest.fixture(scope="module")
def dagster_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Dagster's web server over no definitions, as the stack starts it."""
    home, port = tmp_path_factory.mktemp("dagster"), free_port()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    command = [
        *(sys.executable, "-m", "pipeline_assets.dagster_instance.webserver"),
        *("--empty-workspace", "-h", "127.0.0.1", "-p", str(port)),
    ]
    environment = {"DAGSTER_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[1])}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            dying_with_this_process(command), cwd=home, env=environment, stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{port}/server_info"
        eventually(lambda: process.poll() is not None or http_answers(url), "Dagster", 180)
        assert process.poll() is None, (home / "log").read_text()
        yield port
    finally:
        process.kill()
        process.wait(60)


def graphql(port: int, query: str, **headers: str) -> tuple[int, str]:
    return ask(port, "POST", "/graphql", json.dumps({"query": query}), **(JSON | headers))


def test_foreign_pages_change_nothing_in_dagster(dagster_port: int) -> None:
    """GET, text/plain, forms, a foreign Host or Origin are refused; JSON of its own page is accepted."""
    query = "/graphql?query=" + CHANGE.replace(" ", "%20").replace('"', "%22")
    assert ask(dagster_port, "GET", query)[0] == 405
    assert ask(dagster_port, "GET", query, Accept="image/*")[0] == 405
    assert "GraphiQL" in ask(dagster_port, "GET", query, Accept="text/html")[1]
    for content_type in ("text/plain", "text/plain; application/json", "application/graphql"):
        body = CHANGE if content_type == "application/graphql" else json.dumps({"query": CHANGE})
        refused = ask(dagster_port, "POST", query, body, Content_Type=content_type)
        assert refused[0] == 415
    assert ask(dagster_port, "POST", query)[0] == 415
    assert ask(dagster_port, "POST", "/report_asset_materialization/attacked")[0] == 415
    for headers in foreign(dagster_port):
        assert graphql(dagster_port, CHANGE, **headers)[0] == 403
    assert "attacked" not in graphql(dagster_port, LIMITS)[1]
    own = {"Origin": f"http://127.0.0.1:{dagster_port}", "Sec_Fetch_Site": "same-origin"}
    assert graphql(dagster_port, CHANGE.replace("attacked", "own"), **own)[0] == 200
    assert "own" in graphql(dagster_port, LIMITS)[1]


def test_websocket_serves_its_own_page(dagster_port: int) -> None:
    """Dagster's websocket answers only its own page."""
    address: dict[str, Any] = {"uri": f"ws://127.0.0.1:{dagster_port}/graphql"}
    for origin in ("http://evil.test", "null", "http://127.0.0.1:1"):
        with (
            pytest.raises(InvalidStatus, match="403"),
            connect(**address, origin=origin, subprotocols=["graphql-ws"]),
        ):
            pass
    own = f"http://127.0.0.1:{dagster_port}"
    with connect(**address, origin=own, subprotocols=["graphql-ws"]) as socket:
        socket.send('{"type": "connection_init"}')
        assert json.loads(socket.recv(timeout=60)) == {"type": "connection_ack"}


def test_unguardable_dagster_webserver_does_not_start(monkeypatch) -> None:
    """A Dagster web server that cannot be guarded does not start."""
    from pipeline_assets.dagster_instance import webserver

    monkeypatch.delattr(webserver.cli, "create_app_from_workspace_process_context")
    with pytest.raises(ImportError, match=r"cannot be guarded .* constraints.txt"):
        webserver.guard_dagster_webserver(WebGuard())


def test_exchange_refuses_foreign_pages(exchange: ExchangeHandle) -> None:
    """Foreign pages do not reach the exchange."""
    port = int(exchange.url.split(":")[2].split("/")[0])
    fault = '{"http_500": 1}'
    for headers in foreign(port):
        assert ask(port, "POST", "/control/faults", fault, **(JSON | headers))[0] == 403
        assert ask(port, "GET", "/fapi/v1/ping", **headers)[0] == 403
    for content_type in ("text/plain", "text/plain; application/json"):
        assert ask(port, "POST", "/control/faults", fault, Content_Type=content_type)[0] == 415
    assert ask(port, "GET", "/fapi/v1/ping") == (200, "{}")


def test_object_store_refuses_foreign_pages(s3_server: S3Server) -> None:
    """Foreign pages do not reach the objects."""
    for headers in foreign(s3_server.port):
        status, body = ask(s3_server.port, "PUT", "/attacked", **headers)
        assert (status, "<Code>AccessDenied</Code>" in body) == (403, True)
    names = [each["Name"] for each in s3_server.client().list_buckets()["Buckets"]]
    assert "attacked" not in names


def test_s3_server_may_be_called_localhost(s3_server: S3Server) -> None:
    """S3 clients may call the server localhost.

    boto3 then puts the bucket into the host name: candles-x.localhost.
    """
    client = boto3.client(
        "s3",
        endpoint_url=f"http://localhost:{s3_server.port}",
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    client.create_bucket(Bucket="by-host-name")
    client.put_object(Bucket="by-host-name", Key="a/b", Body=b"kept")
    assert client.get_object(Bucket="by-host-name", Key="a/b")["Body"].read() == b"kept"


def test_snowflake_refuses_foreign_pages(snowflake_server: SnowflakeServer) -> None:
    """Foreign pages do not log in to Snowflake."""
    port, path = snowflake_server.port, "/session/v1/login-request?databaseName=ATTACKED"
    for headers in foreign(port):
        assert ask(port, "POST", path, LOGIN, **(JSON | headers))[0] == 403
    assert ask(port, "POST", path, LOGIN, Content_Type="text/plain")[0] == 415
    assert not list(snowflake_server.data_dir.glob("ATTACKED*"))
    for headers in foreign(port):
        assert ask(port, "PUT", "/fs_bucket/attacked", "a file of a stage", **headers)[0] == 403
    with snowflake_server.connect(snowflake_server.settings()) as connection:
        assert connection.cursor().execute("select 1").fetchall() == [(1,)]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_redis_executes_no_browser_request(redis_server: RedisServer, method) -> None:
    """Redis executes nothing that a browser sends.

    Redis ends a connection at `POST` or `Host:`, before it reads the commands of a body.
    """
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask(redis_server.port, method, "/", "\r\nSET attacked 1\r\n")
    assert redis_server.client().get("attacked") is None
