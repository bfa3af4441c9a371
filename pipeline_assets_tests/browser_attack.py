"""A hostile web page in a real browser against a running stack: run by hand, for it needs Chromium.

    pipeline-assets up &
    python -m pipeline_assets_tests.browser_attack [--chromium PATH] [--screenshot FILE] [--unguarded PORT]

The page tries every way by which a browser sends requests to this machine, from another origin and
under a rebound host name, and the stack is compared with what it was before. Then Dagster's own UI is
opened. `--unguarded` attacks a plain dagster-webserver on that port, which shows that the attacks work.
Exit status 0: nothing changed and the UI works.
"""

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import redis
from websockets.sync.client import connect

from pipeline_assets.settings import load_settings

EVIL = "evil.test"
PAGE = Path(__file__).with_suffix(".html").read_text("utf-8")
# Attempts of a page whose host name was rebound to 127.0.0.1: to the browser, the page and the server
# have the same origin.
REBOUND = """(async () => { try { const r = await fetch(PATH, {method: METHOD, body: BODY || undefined,
  headers: {"Content-Type": "application/json"}}); return r.status; } catch (e) { return String(e); } })()"""


class Browser:
    """A headless Chromium with one page, driven by its own debugging protocol."""

    def __init__(self, program: str, profile: str) -> None:
        self.process = subprocess.Popen(
            [
                *(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
                *("--no-first-run", "--disable-background-networking", "--disable-sync"),
                *("--disable-component-update", "--remote-debugging-port=0"),
                *("--disable-popup-blocking", "--window-size=1600,1000"),
                *(f"--user-data-dir={profile}", f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"),
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port_file = Path(profile) / "DevToolsActivePort"
        self.wait(lambda: port_file.exists() and port_file.read_text().count("\n"), "Chromium")
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as reply:
            page = next(each for each in json.load(reply) if each["type"] == "page")
        self.connection = connect(page["webSocketDebuggerUrl"], max_size=None)
        self.socket = self.connection.__enter__()
        self.events: list[dict[str, Any]] = []
        self.number = 0
        self.call("Page.enable")
        self.call("Network.enable")

    @staticmethod
    def wait(condition: Any, what: str, seconds: float = 90) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise SystemExit(f"not within {seconds} s: {what}")
            time.sleep(0.3)
        return found

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.recv(timeout=180))).get("id") != self.number:
            self.events.append(answer)
        return answer.get("result", answer)

    def evaluate(self, script: str) -> Any:
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        return found.get("result", found).get("value", found)

    def close(self) -> None:
        self.connection.__exit__(None, None, None)
        self.process.terminate()
        self.process.wait(30)


@contextmanager
def browsing(program: str) -> Iterator[Browser]:
    """Provide a browser with an empty profile, for the length of the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            yield browser
        finally:
            browser.close()


class Page(BaseHTTPRequestHandler):
    content = ""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.content.encode())

    def log_message(self, *_: Any) -> None:
        pass


def post(url: str, document: object) -> Any:
    request = urllib.request.Request(
        url, json.dumps(document).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


class Stack:
    """The addresses of the running stack, and what a hostile page could have changed."""

    def __init__(self, dagster_port: int | None) -> None:
        self.settings = load_settings()
        self.dagster = f"http://127.0.0.1:{dagster_port or self.settings.dagster.webserver_port}"
        self.exchange = self.settings.binance.rest_url
        self.s3 = self.settings.s3.endpoint_url or ""
        self.snowflake = f"http://127.0.0.1:{self.settings.snowflake.port}"

    def state(self) -> dict[str, Any]:
        query = """{ instance { concurrencyLimits { concurrencyKey } }
          workspaceOrError { ... on Workspace { locationEntries { loadStatus } } }
          assetsOrError { ... on AssetConnection { nodes { key { path } } } } }"""
        held = post(f"{self.dagster}/graphql", {"query": query})["data"]
        with urllib.request.urlopen(f"{self.exchange}/control/state") as reply:
            held["faults"] = json.load(reply)["faults"]
        keys = [each["key"]["path"] for each in held.pop("assetsOrError")["nodes"]]
        held["attacked asset"] = ["attacked"] in keys
        held["buckets"] = self._buckets()
        secret = self.settings.redis.password
        client = redis.Redis.from_url(
            self.settings.redis.url, password=secret.get_secret_value() if secret else None
        )
        held["redis"] = client.get("attacked")
        return held

    def _buckets(self) -> list[str]:
        import boto3

        s3 = self.settings.s3
        client = boto3.client(
            "s3", endpoint_url=s3.endpoint_url, region_name=s3.region,
            aws_access_key_id=s3.access_key_id,
            aws_secret_access_key=s3.secret_access_key and s3.secret_access_key.get_secret_value(),
        )  # fmt: skip
        return [each["Name"] for each in client.list_buckets()["Buckets"]]

    def page(self) -> str:
        held, text = self.settings, PAGE
        login = {"data": {"LOGIN_NAME": held.snowflake.user, "PASSWORD": "embedded"}}
        kafka = held.kafka.servers[0][1]
        for name, value in {
            "DAGSTER": self.dagster, "EXCHANGE": self.exchange, "S3": self.s3,
            "SNOWFLAKE": self.snowflake, "LOGIN": json.dumps(login),
            "REDIS": held.redis.url.replace("redis://", "http://"),
            "KAFKA": f"http://127.0.0.1:{kafka}/",
            "CODE": f"http://127.0.0.1:{held.dagster.code_server_port}/",
        }.items():  # fmt: skip
            text = text.replace(f"({name},", f"({json.dumps(value)},")
            text = text.replace(f"= {name},", f"= {json.dumps(value)},")
            text = text.replace(f", {name})", f", {json.dumps(value)})")
        return text

    def rebound(self) -> list[tuple[str, str, str, str]]:
        change = 'mutation { setConcurrencyLimit(concurrencyKey: "rebound", limit: 1) }'
        evil = lambda url: url.replace("127.0.0.1", EVIL)  # noqa: E731
        login = {"data": {"LOGIN_NAME": self.settings.snowflake.user, "PASSWORD": "embedded"}}
        return [
            (evil(self.dagster), "POST", "/graphql", json.dumps({"query": change})),
            (evil(self.dagster), "GET", "/graphql?query={__typename}", ""),
            (evil(self.exchange), "POST", "/control/faults", '{"http_500": 1}'),
            (evil(self.exchange), "GET", "/control/state", ""),
            (evil(self.s3), "PUT", "/attacked", ""),
            (evil(self.s3), "GET", "/_ministack/health", ""),
            (evil(self.snowflake), "POST", "/session/v1/login-request", json.dumps(login)),
        ]


def attack(browser: Browser, stack: Stack) -> None:
    Page.content = stack.page()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for host in (EVIL, "127.0.0.1"):
        browser.call("Page.navigate", url=f"http://{host}:{server.server_port}/")
        browser.wait(lambda: browser.evaluate("typeof window.attack") == "object", "the page")
        for name, result in browser.evaluate("window.attack").items():
            print(f"  from {host}, {name}: {result}")
    server.shutdown()
    for url, method, path, body in stack.rebound():
        browser.call("Page.navigate", url=f"{url}/")
        browser.wait(lambda url=url: browser.evaluate("location.origin") == url, url)
        script = REBOUND.replace("PATH", json.dumps(path)).replace("METHOD", json.dumps(method))
        print(
            f"  rebound {method} {path}: {browser.evaluate(script.replace('BODY', json.dumps(body)))}"
        )


def use_ui(browser: Browser, stack: Stack, screenshot: Path | None) -> None:
    """Open the lineage page, execute a mutation from the UI's own origin, open a WebSocket."""
    browser.events.clear()
    browser.call("Page.navigate", url=f"{stack.dagster}/asset-groups/")
    text = "document.body.innerText"
    browser.wait(lambda: "interval_1m" in str(browser.evaluate(text)), "the lineage page")
    run = """fetch("/graphql", {method: "POST", headers: {"Content-Type": "application/json"},
      body: JSON.stringify({query: 'mutation { setConcurrencyLimit(concurrencyKey: "ui", limit: 1) '
      + '}'})}).then(r => r.status)"""
    assert browser.evaluate(run) == 200
    socket = """new Promise((done) => { const w = new WebSocket(location.origin.replace("http", "ws")
      + "/graphql", "graphql-ws"); w.onopen = () => w.send('{"type": "connection_init"}');
      w.onmessage = e => done(e.data); w.onerror = () => done("refused"); })"""
    assert "connection_ack" in browser.evaluate(socket)
    refused = [
        (event["params"]["response"]["status"], event["params"]["response"]["url"])
        for event in browser.events
        if event.get("method") == "Network.responseReceived"
        and event["params"]["response"]["status"] >= 400
    ]
    print("UI: lineage page shown, mutation 200, WebSocket acknowledged; refused:", refused)
    assert not refused
    if screenshot:
        time.sleep(3)
        picture = browser.call("Page.captureScreenshot")["data"]
        screenshot.write_bytes(base64.b64decode(picture))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--chromium", default="chromium")
    parser.add_argument("--screenshot", type=Path)
    parser.add_argument("--unguarded", type=int, metavar="PORT")
    arguments = parser.parse_args()
    stack = Stack(arguments.unguarded)
    before = stack.state()
    with browsing(arguments.chromium) as browser:
        attack(browser, stack)
    after = stack.state()
    changed = {key: (before[key], after[key]) for key in after if before[key] != after[key]}
    print("changed:", json.dumps(changed, default=str) if changed else "nothing")
    if not arguments.unguarded:
        # Each attack has its own browser: a page behind windows that an attack opened loads nothing.
        with browsing(arguments.chromium) as browser:
            use_ui(browser, stack, arguments.screenshot)
    sys.exit(1 if changed else 0)


if __name__ == "__main__":
    main()
