"""The rules that keep other sites' pages out: every combination at ASGI level, and over real servers."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.web_guard import GuardedApplication, WebGuard, allowed_hosts, host_names

PORT = 23000
OWN = (
    f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}", f"LocalHost:{PORT}",
    # Through an SSH tunnel, or a proxy on this machine.
    "127.0.0.1", "localhost", "127.0.0.1:8000",
)  # fmt: skip
FOREIGN = (
    "evil.test", f"evil.test:{PORT}", f"127.0.0.1.evil.test:{PORT}", f"localhost.:{PORT}",
    f"0.0.0.0:{PORT}", f"evil@127.0.0.1:{PORT}",
    f"127.0.0.1:{PORT}/", f" 127.0.0.1:{PORT}", f"evil.localhost:{PORT}", f"127.0.0.1:{PORT}0", "", "é",
)  # fmt: skip
JSON = "application/json"


def answer(guard: WebGuard, kind: str = "http", **request: Any) -> int:
    """Return the status of one request over the ASGI application; 101 or 403 for a WebSocket."""
    headers = {"host": OWN[0], **request.pop("headers", {})}
    raw = [
        (name.encode(), each.encode("latin-1"))
        for name, value in headers.items()
        for each in (value if isinstance(value, tuple) else (value,))
        if each is not None
    ]
    scope = {"type": kind, "path": "/graphql", "server": ("127.0.0.1", PORT), "headers": raw}
    scope |= {"method": "POST", **request} if kind == "http" else request
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        accepted = {"type": "websocket.accept"}
        await send(accepted if kind == "websocket" else {"status": 200})

    async def receive() -> Any:
        return {"type": "http.request", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(GuardedApplication(application, guard)(scope, receive, send))
    if kind == "websocket":
        return 101 if sent[0]["type"] == "websocket.accept" else 403
    return int(sent[0]["status"])


GUARD = WebGuard(json_paths=("/",))


@given(
    kind=st.sampled_from(["http", "websocket"]),
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]),
    host=st.sampled_from(OWN + FOREIGN) | st.text(st.characters(max_codepoint=255)),
    origin=st.none()
    | st.sampled_from(["null", *(f"http://{name}" for name in OWN + FOREIGN)])
    | st.text(st.characters(max_codepoint=255)),
    site=st.sampled_from([None, "none", "same-origin", "same-site", "cross-site", "new"]),
    mode=st.sampled_from([None, "navigate", "no-cors", "cors", "websocket"]),
    dest=st.sampled_from([None, "document", "iframe", "image", "empty"]),
    content_type=st.sampled_from([None, JSON, "application/json; charset=utf-8", "text/plain"]),
)
def test_only_own_pages_and_programs_pass(
    kind, method, host, origin, site, mode, dest, content_type
):
    """Foreign Host or Origin never passes; another site's page may only link to a page.

    A page of another port of this machine is foreign: only what Host names is the page's own server.
    """
    own_origins = {None, f"http://{host}", f"https://{host}"}
    method = "GET" if kind == "websocket" else method
    link = method in ("GET", "HEAD") and (mode, dest) == ("navigate", "document")
    expected = 101 if kind == "websocket" else 200
    if (
        host.lower() not in {name.lower() for name in OWN}
        or (origin and origin.lower()) not in {name and name.lower() for name in own_origins}
        or (site not in (None, "none", "same-origin") and not link)
    ):
        expected = 403
    elif method not in ("GET", "HEAD") and (content_type or "").partition(";")[0] != JSON:
        expected = 415
    headers = {
        "host": host, "origin": origin, "content-type": content_type,
        "sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest,
    }  # fmt: skip
    request = {"method": method} if kind == "http" else {}
    assert answer(GUARD, kind, headers=headers, **request) == expected


@pytest.mark.parametrize(
    ("kind", "host"), itertools.product(["http", "websocket"], [*FOREIGN, None, (OWN[0], OWN[0])])
)
def test_foreign_or_repeated_host_is_refused(kind, host):
    headers = {"host": host, "content-type": JSON}
    assert answer(GUARD, kind, headers=headers) == 403


OTHER_PAGES = (f"http://localhost:{PORT}", "http://127.0.0.1:8000", "http://127.0.0.1", "null")


@pytest.mark.parametrize("origin", OTHER_PAGES)
def test_other_port_or_name_is_refused(origin):
    """A page of another port or name is refused.

    Also where the server's own address is among the allowed names, as for Dagster's web server.
    """
    headers = {"host": OWN[0], "origin": origin, "content-type": JSON}
    assert answer(GUARD, headers=headers) == 403
    assert answer(WebGuard(names=("127.0.0.1", "localhost")), headers=headers) == 403


@pytest.mark.parametrize(
    "content_type",
    [
        None, "text/plain", "text/plain; application/json", "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=application/json", "application/graphql",
        "application/jsonp", (JSON, "text/plain"),
    ],
)  # fmt: skip
def test_preflight_free_content_is_refused(content_type):
    """A content type that needs no preflight is refused."""
    assert answer(GUARD, headers={"content-type": content_type}) == 415


def test_json_is_optional_per_server():
    """JSON is required only where the server says so."""
    guard = WebGuard(json_paths=("/control/",))
    assert answer(guard, path="/control/faults") == 415
    assert answer(guard, path="/fapi/v1/order") == 200
    assert answer(WebGuard(), method="PUT") == 200


def test_allowed_name_covers_host_and_origin():
    """A name of the setting is allowed for host and origin."""
    guard = WebGuard(names=host_names(["Dagster.example.com", " localhost:3000 "]))
    for host in ("dagster.example.com", f"dagster.example.com:{PORT}", "localhost:3000"):
        assert answer(guard, headers={"host": host, "origin": f"https://{host}"}) == 200
    for host in ("dagster.example.com:81", "x.dagster.example.com"):
        assert answer(guard, headers={"host": host}) == 403


def test_localhost_buckets_are_s3_only():
    """Bucket names below localhost are for S3 only."""
    host = {"host": f"candles.localhost:{PORT}"}
    assert answer(WebGuard(bucket_names=True), headers=host) == 200
    assert answer(WebGuard(), headers=host) == 403
    foreign = {"host": f"candles.localhost.evil.test:{PORT}"}
    assert answer(WebGuard(bucket_names=True), headers=foreign) == 403


@pytest.mark.parametrize("wrong", ["*", "http://dagster.example.com", "*.example.com", "a b"])
def test_wrong_name_is_refused_with_setting(wrong):
    """A wrong name is refused with its setting."""
    with pytest.raises(ValueError, match=r"PIPELINE_ALLOWED_HOSTS: .* is not a host name"):
        allowed_hosts({"PIPELINE_ALLOWED_HOSTS": f"fine.example.com,{wrong}"})
