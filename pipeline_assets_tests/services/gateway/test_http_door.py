"""The HTTP door over a real uvicorn: calls, refusals, who may call, and the stream of events."""

import http.client
import json
from typing import Any

import pytest
from hypothesis import Phase, given, settings

from pipeline_assets_tests.fixtures.gateway import TOKEN, GatewayServer

BEARER = {"Authorization": f"Bearer {TOKEN}"}
ORDER = {
    "client_id": "a/1",
    "symbol": "BTCUSDT",
    "side": "buy",
    "kind": "market",
    "quantity": "0.1",
}
MODE = {"reason": "test", "by": "me"}
CHANGES = [
    ("POST", "/v1/orders", ORDER),
    ("DELETE", "/v1/orders/a/1", None),
    ("POST", "/v1/positions/BTCUSDT/close", {"close_id": "c-1", "reason": "test"}),
    ("POST", "/v1/risk/halt", MODE),
    ("POST", "/v1/risk/resume", MODE),
    ("POST", "/v1/risk/flatten", MODE | {"close_id": "f-1"}),
]


def ask(
    server: GatewayServer,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] = BEARER,
) -> tuple[int, Any]:
    """Send one request as it is; a dictionary is sent as JSON. Returns status and decoded body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.settings.http_port, timeout=60)
    raw = json.dumps(body) if isinstance(body, dict) else body
    try:
        kind = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, raw, kind | headers)
        reply = connection.getresponse()
        text = reply.read().decode()
        json_body = reply.getheader("content-type", "").startswith("application/json")
        return reply.status, json.loads(text) if json_body else text
    finally:
        connection.close()


def events(
    server: GatewayServer, count: int, headers: dict[str, str], path: str = "/v1/events"
) -> list[dict[str, str]]:
    """Read that many server-sent events."""
    connection = http.client.HTTPConnection("127.0.0.1", server.settings.http_port, timeout=60)
    found: list[dict[str, str]] = []
    try:
        connection.request("GET", path, headers=headers)
        reply = connection.getresponse()
        assert reply.getheader("content-type", "").startswith("text/event-stream")
        event: dict[str, str] = {}
        while len(found) < count:
            name, _, value = reply.readline().decode().rstrip("\n").partition(": ")
            if name:
                event[name] = value
            elif event:
                found.append(event)
                event = {}
    finally:
        connection.close()
    return found


def test_order_becomes_position(gateway_server: GatewayServer) -> None:
    status, placed = ask(gateway_server, "POST", "/v1/orders", ORDER)
    assert status == 200
    assert placed["order"] == ORDER | {
        "price": "", "reduce_only": False, "strategy": "", "decision_id": "", "parent": "",
        "leverage": 0, "stop_part": "",
    }  # fmt: skip
    assert ask(gateway_server, "POST", "/v1/orders", ORDER)[0] == 200
    kinds = [each["event"] for each in events(gateway_server, 4, {})]
    assert kinds[:2] == ["day_begun", "order_sending"]
    assert {"fill_booked", "order_changed"} == set(kinds[2:])
    assert ask(gateway_server, "GET", "/v1/orders/a/1")[1]["filled"] == "0.1"
    (position,) = ask(gateway_server, "GET", "/v1/positions")[1]
    assert (position["quantity"], position["exposure"]) == ("0.1", "10")
    (fill,) = ask(gateway_server, "GET", "/v1/fills?symbol=BTCUSDT&limit=1")[1]
    assert (fill["price"], fill["client_id"]) == ("100", "a/1")
    risk = ask(gateway_server, "GET", "/v1/risk")[1]
    assert (risk["mode"], risk["open_positions"]) == ("ACTIVE", 1)
    assert risk["limits"]["order_notional"] == "1500"
    assert gateway_server.venue.posts == {"a/1": 1}


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"quantity": "0.1005"}, 422, "filter"),
        ({"quantity": 0.1}, 422, "malformed"),
        ({"strategy": "\ud800"}, 422, "malformed"),
        ({"strategy": "\x1b[31m"}, 422, "malformed"),
        ({"decision_id": "\u202eabc"}, 422, "malformed"),
        ({"client_id": "."}, 422, "malformed"),
        ({"client_id": "a/../b"}, 422, "malformed"),
        ({"unknown": "1"}, 422, "malformed"),
        ({"symbol": "DOGEUSDT"}, 404, "unknown_symbol"),
        ({"quantity": "20"}, 409, "order_notional"),
    ],
)
def test_refusal_names_rule(
    gateway_server: GatewayServer, changes: dict[str, Any], status: int, code: str
) -> None:
    found, body = ask(gateway_server, "POST", "/v1/orders", ORDER | changes)
    assert (found, body["code"]) == (status, code)
    assert not gateway_server.venue.posts


def test_close_of_unknown_symbol_is_refused(gateway_server: GatewayServer) -> None:
    close = {"close_id": "c-1", "reason": "test"}
    status, body = ask(gateway_server, "POST", "/v1/positions/FOO/close", close)
    assert (status, body["code"]) == (404, "unknown_symbol")


def test_missing_content_type_is_named(gateway_server: GatewayServer) -> None:
    """FastAPI would say that a dictionary is missing, although the body is one."""
    plain = BEARER | {"Content-Type": "text/plain"}
    status, body = ask(gateway_server, "POST", "/v1/orders", ORDER, plain)
    assert (status, body["code"]) == (422, "malformed")
    assert "Content-Type: application/json" in body["message"]


def test_other_payload_names_difference(gateway_server: GatewayServer) -> None:
    ask(gateway_server, "POST", "/v1/orders", ORDER)
    status, body = ask(gateway_server, "POST", "/v1/orders", ORDER | {"side": "sell"})
    assert (status, body["code"]) == (409, "already_exists")
    assert "side is buy, not sell" in body["message"]


@pytest.mark.parametrize(
    "body", ["{", "[]", "null", '"a"', "\xff", "{}", pytest.param("[" * 60_000, id="deep")]
)
def test_malformed_body_is_refused(gateway_server: GatewayServer, body: str) -> None:
    status, answer = ask(gateway_server, "POST", "/v1/orders", body.encode("latin-1"))
    assert (status, answer["code"]) == (422, "malformed")
    assert answer["message"]


def test_unknown_address_is_problem(gateway_server: GatewayServer) -> None:
    for method, path, expected in (
        ("GET", "/v1/nothing", (404, "not_found")),
        ("POST", "/v1/fills", (405, "method")),
    ):
        status, answer = ask(gateway_server, method, path)
        assert (status, answer["code"]) == expected
        assert "/openapi.json" in answer["message"]


@pytest.mark.parametrize("text", ["\u202e", "\x07", "a\u2028b", "\x9b"])
def test_odd_reason_is_refused(gateway_server: GatewayServer, text: str) -> None:
    """A person who reads logs and alerts sees who halted and why, as it was written."""
    for changes in ({"reason": text}, {"by": text}):
        status, answer = ask(gateway_server, "POST", "/v1/risk/halt", MODE | changes)
        assert (status, answer["code"]) == (422, "malformed")
    assert ask(gateway_server, "GET", "/v1/risk")[1]["mode"] == "ACTIVE"


def test_large_body_is_not_read(gateway_server: GatewayServer) -> None:
    """A body of a gigabyte is refused by its announced length; without the token, by the token."""
    announced = {"Content-Length": "1000000000"}
    status, body = ask(gateway_server, "POST", "/v1/orders", b"{", BEARER | announced)
    assert (status, body["code"]) == (413, "body")
    assert ask(gateway_server, "POST", "/v1/orders", b"{", announced)[0] == 401
    chunked = {"Transfer-Encoding": "chunked"}
    assert ask(gateway_server, "POST", "/v1/orders", b"0\r\n\r\n", BEARER | chunked)[0] == 413


def test_every_change_needs_token(gateway_server: GatewayServer) -> None:
    for method, path, body in CHANGES:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            status, answer = ask(gateway_server, method, path, body, headers)
            assert (status, answer["code"]) == (401, "token"), path
            assert TOKEN not in str(answer)
    assert ask(gateway_server, "GET", "/v1/risk", headers={})[1]["mode"] == "ACTIVE"
    assert not gateway_server.venue.posts
    document = ask(gateway_server, "GET", "/openapi.json", headers={})[1]
    guarded = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if operation.get("security")
    }
    assert len(guarded) == len(CHANGES)
    assert {method for method, _ in guarded} == {"POST", "DELETE"}


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.test"},
        {"Origin": "http://evil.test"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_foreign_pages_are_refused(gateway_server: GatewayServer, headers: dict[str, str]) -> None:
    for method, path, body in [("GET", "/v1/positions", None), *CHANGES]:
        assert ask(gateway_server, method, path, body, BEARER | headers)[0] == 403
    assert not gateway_server.venue.posts


def test_events_resume_after_last_id(gateway_server: GatewayServer) -> None:
    """Events continue after `Last-Event-ID`, or after the query's number for a reader without the header."""
    ask(gateway_server, "POST", "/v1/orders", ORDER)
    whole = events(gateway_server, 4, {})
    assert [each["id"] for each in whole] == ["1", "2", "3", "4"]
    assert events(gateway_server, 2, {"Last-Event-ID": "2"}) == whole[2:]
    assert events(gateway_server, 1, {}, "/v1/events?after=3") == whole[3:]
    body = json.loads(whole[1]["data"])
    assert body["body"]["order"]["quantity"] == "0.1"
    assert ask(gateway_server, "GET", "/v1/events", headers={"Last-Event-ID": "x"})[0] == 422


def test_events_beyond_end_are_refused(gateway_server: GatewayServer) -> None:
    """The reader's journal was restored: 416, with what to do."""
    last = 2**53 - 1
    for path, headers in ((f"/v1/events?after={last}", {}), ("/v1/events", {"Last-Event-ID": "9"})):
        status, problem = ask(gateway_server, "GET", path, headers=headers)
        assert (status, problem["code"]) == (416, "after")
        assert "read it again from 0" in problem["message"]


def test_stopped_gateway_is_unavailable(gateway_server: GatewayServer) -> None:
    assert ask(gateway_server, "GET", "/health") == (200, {"status": "SERVING"})
    gateway_server.bench.lease.held = False
    status, body = ask(gateway_server, "POST", "/v1/orders", ORDER)
    assert status == 503
    assert "lease" in body["message"]
    assert "The order was not accepted" in body["message"]
    for path in ("/health", "/v1/positions", "/v1/risk"):
        assert ask(gateway_server, "GET", path)[0] == 503


def test_schema_fuzz_finds_no_5xx(gateway_server: GatewayServer) -> None:
    """Requests made from the OpenAPI document, valid and not, never make the gateway fail."""
    import schemathesis

    schema = schemathesis.openapi.from_url(f"{gateway_server.url}/openapi.json").exclude(
        path="/v1/events"
    )
    operations = [each.ok() for each in schema.get_all_operations()]
    assert len(operations) >= 10
    for operation in operations:

        @settings(max_examples=8, phases=(Phase.generate,))
        @given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            reply = case.call(headers=BEARER)
            assert reply.status_code < 500, (case.as_curl_command(), reply.text)

        check()
    assert gateway_server.service.state().mode


def test_resume_names_halted_symbol(gateway_server: GatewayServer) -> None:
    """A symbol that is not halted is refused by name; the state lists what is halted and why."""
    status, answer = ask(gateway_server, "POST", "/v1/risk/resume", MODE | {"symbol": "ETHUSDT"})
    assert (status, answer["code"]) == (404, "not_found")
    assert "ETHUSDT" in answer["message"]
    state = ask(gateway_server, "GET", "/v1/risk")[1]
    assert [state[each] for each in ("halted_symbols", "foreign_orders", "troubles")] == [
        {},
        [],
        [],
    ]


def test_order_carries_a_stop(gateway_server: GatewayServer) -> None:
    status, placed = ask(gateway_server, "POST", "/v1/orders", ORDER | {"stop_part": "0.02"})
    assert (status, placed["order"]["stop_part"]) == (200, "0.02")
