"""Which requests our HTTP servers accept: the rules that keep a web page in a user's browser out.

A browser sends requests to 127.0.0.1 for any page. The rules here distinguish such a request from one of our
own pages or programs by headers that a page cannot forge: Host, Origin, Sec-Fetch-* and, without a CORS
preflight, the content type. Authentication (passwords, signatures) does not belong here.
Standard library only: the replay exchange uses this module too, and must run without the product.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

ALLOWED_HOSTS = "PIPELINE_ALLOWED_HOSTS"
_LOOPBACK = re.compile(r"localhost|127(\.[0-9]{1,3}){3}|\[::1\]")
HOST_NAME = re.compile(r"([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_PORT = re.compile(r"[^:]:[0-9]+$")
_POLICY_VIOLATION = 1008


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused: an HTTP status, and a message that says what to do."""

    status: int
    message: str


@dataclass(frozen=True)
class WebGuard:
    """The rules of one server.

    Attributes:
        names: host names beside the loopback ones, as `host_names` returns them. A name without a
            port stands for the server's own port and for none; `name:port` for exactly that.
        json_paths: beginnings of the paths where a body must be JSON.
        bucket_names: accept `{bucket}.localhost` too, as S3 clients address a bucket. Browsers
            resolve names below localhost to this machine only.
        addresses: accept every IP address, as Prometheus and Kubernetes address a pod. A page that lets
            its own name mean this machine still sends that name.
    """

    names: tuple[str, ...] = ()
    json_paths: tuple[str, ...] = ()
    bucket_names: bool = False
    addresses: bool = False

    def refusal(
        self, method: str, path: str, headers: Iterable[tuple[bytes, bytes]], port: int | None
    ) -> Refusal | None:
        """Return why this request is refused, or None to serve it.

        Args:
            method: GET for a WebSocket's handshake, as HTTP has it.
            path: the request's path, without the query.
            headers: as received, repeated ones included.
            port: where the server listens; None for a socket without a port.
        """
        received: dict[str, list[str]] = {}
        for name, value in headers:
            received.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts = received.get("host", [])
        return (
            self._foreign_host(hosts, port)
            or self._foreign_origin(received.get("origin", []), hosts[0].lower(), port)
            or _foreign_page(method, received)
            or self._not_json(method, path, received.get("content-type", []))
        )

    def _named(self, port: int | None) -> frozenset[str]:
        """Return each Host, and each Origin without its scheme, that the settings allow beside loopback."""
        named: set[str] = set()
        for name in self.names:
            if _PORT.search(name):
                named.add(name)
            elif not _LOOPBACK.fullmatch(name):
                # A loopback name without a port would stand for the page of another port of this machine.
                named |= {name, f"{name}:{port}"}
        return frozenset(named)

    def _foreign_host(self, hosts: list[str], port: int | None) -> Refusal | None:
        """Refuse a name that is not this server's.

        A loopback name counts with any port: no page can make it mean another machine, and through an
        SSH tunnel (`ssh -L 9000:127.0.0.1:23000`) a person's browser names the tunnel's port.
        """
        host = hosts[0].lower() if len(hosts) == 1 else ""
        valid = HOST_NAME.fullmatch(host)
        name = host[: -len(valid[3])] if valid and valid[3] else host
        if valid and (_LOOPBACK.fullmatch(name) or host in self._named(port)):
            return None
        if valid and self.bucket_names and name.endswith(".localhost"):
            return None
        if valid and self.addresses and _is_address(name):
            return None
        said = f"The Host header {hosts[0][:100]!a}" if len(hosts) == 1 else "The Host header"
        return Refusal(
            403,
            f"{said} does not name this server. Use http://127.0.0.1:{port}, or add the name to "
            f"{ALLOWED_HOSTS} and start the server again.",
        )

    def _foreign_origin(self, origins: list[str], host: str, port: int | None) -> Refusal | None:
        """Refuse every origin but the server's own; programs that are not browsers send none.

        The own origin is the one that Host names, including the port: a page of another port of this
        machine is foreign.
        """
        if not origins:
            return None
        scheme, _, name = origins[0].lower().partition("://")
        own = {host} | self._named(port)
        if len(origins) == 1 and scheme in ("http", "https") and name in own:
            return None
        return Refusal(
            403,
            f"A page of {origins[0][:100]!a} may not send requests to this server. If this is the "
            f"server's own page, add its host name to {ALLOWED_HOSTS}.",
        )

    def _not_json(self, method: str, path: str, content_types: list[str]) -> Refusal | None:
        if method in ("GET", "HEAD", "OPTIONS") or not path.startswith(self.json_paths):
            return None
        # The essence is compared, and no substring: `text/plain; application/json` needs no preflight.
        if [value.partition(";")[0].strip().lower() for value in content_types] == [
            "application/json"
        ]:
            return None
        return Refusal(
            415, f"{method} {path} needs a JSON body and the header Content-Type: application/json."
        )


def allowed_hosts(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the additional host names that the environment allows.

    Raises:
        ValueError: an entry is neither a name nor name:port.
    """
    try:
        return host_names(environment.get(ALLOWED_HOSTS, "").split(","))
    except ValueError as error:
        raise ValueError(f"{ALLOWED_HOSTS}: {error}") from None


def host_names(values: Iterable[object]) -> tuple[str, ...]:
    """Return host names in lower case, blanks and repeats removed.

    Raises:
        ValueError: an entry is neither a name nor name:port.
    """
    names = [str(value).strip().lower() for value in values]
    for name in filter(None, names):
        if not HOST_NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is not a host name: write name or name:port, no pattern and no address "
                "with http://"
            )
    return tuple(dict.fromkeys(filter(None, names)))


class GuardedApplication:
    """An ASGI application behind a guard, WebSockets included."""

    def __init__(self, app: Application, guard: WebGuard) -> None:
        self.app = app
        self.guard = guard

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve the request, or refuse it before the application sees it."""
        refusal = None if scope["type"] == "lifespan" else scope_refusal(self.guard, scope)
        if refusal is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            closing = {"code": _POLICY_VIOLATION, "reason": refusal.message[:120]}
            await send({"type": "websocket.close", **closing})
        else:
            await refuse(refusal, receive, send)


def scope_refusal(guard: WebGuard, scope: Message) -> Refusal | None:
    """Return why the guard refuses an ASGI request or WebSocket, or None."""
    _, port = scope.get("server") or (None, None)
    return guard.refusal(scope.get("method", "GET"), scope["path"], scope["headers"], port)


async def refuse(refusal: Refusal, receive: Receive, send: Send) -> None:
    """Send a refusal as plain text."""
    # A body left unread would be taken for the connection's next request.
    while (await receive()).get("more_body", False):
        continue
    body = f"{refusal.message}\n".encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _foreign_page(method: str, received: Mapping[str, list[str]]) -> Refusal | None:
    """Refuse requests that another site's page causes, except a followed link to a page.

    An `<img>` or a frame sends no Origin. The port is not part of a site: a page of another port of
    this machine is `same-site`, and is refused too.
    """

    def said(name: str) -> str:
        return ",".join(received.get(f"sec-fetch-{name}", []))

    if said("site") in ("", "none", "same-origin"):
        return None
    if method in ("GET", "HEAD") and (said("mode"), said("dest")) == ("navigate", "document"):
        return None
    return Refusal(403, "A page of another site may only link to this server.")
