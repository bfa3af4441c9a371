"""Who may call the gateway: the token, and the rules that keep a browser's pages out. Both doors use this
module; what a call does is in service.py.
"""

import hmac
from collections.abc import Iterable

from pydantic import SecretStr

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.services.gateway.service import CallRefusedError, Kind
from pipeline_assets.settings import Settings, SettingsError
from pipeline_assets.web_guard import WebGuard

# A browser adds these by itself; a program that calls gRPC sends none of them.
_BROWSER_HEADERS = ("origin", "referer", "cookie")
_HOST_HEADERS = ("host", "x-forwarded-host")
_BROWSER_PREFIX = "sec-"


class DoorError(OutsideSystemError):
    """A door cannot be opened. The message names the address and what to do."""


class Access:
    """The token that every change needs."""

    def __init__(self, token: SecretStr) -> None:
        self._expected = f"Bearer {token.get_secret_value()}".encode()

    def require(self, authorization: str | None) -> None:
        """Return if the header `Authorization` carries the token. Compared in constant time.

        Raises:
            CallRefusedError: it does not.
        """
        given = (authorization or "").encode("utf-8", errors="replace")
        if not hmac.compare_digest(given, self._expected):
            state = "is not this gateway's" if authorization else "is missing"
            raise CallRefusedError(
                Kind.UNPERMITTED,
                "token",
                f"The token {state}: send `Authorization: Bearer` and the gateway's "
                "PIPELINE_GATEWAY__TOKEN.",
            )


def access_of(settings: Settings) -> Access:
    """Return the access rules of the settings.

    Raises:
        SettingsError: there is no token.
    """
    if settings.gateway.token is None:
        raise SettingsError(
            "PIPELINE_GATEWAY__TOKEN is not set, so no caller could change anything. Set it to 16 random "
            "characters or more; `pipeline-assets up` makes one for the embedded stack."
        )
    return Access(settings.gateway.token)


def guard_of(settings: Settings) -> WebGuard:
    """Return the rules of the HTTP door: which names it may be called by."""
    return WebGuard(names=settings.allowed_hosts or ())


def refuse_browsers(
    metadata: Iterable[tuple[str, str | bytes]], guard: WebGuard, port: int
) -> None:
    """Return if a gRPC call's metadata carries none of a browser's headers and names no other host.

    No browser speaks gRPC by itself: HTTP/1.1 ends at the connection's first bytes, and no browser speaks
    HTTP/2 without TLS. A proxy that translates for a page would pass these headers on.

    Raises:
        CallRefusedError: a page sent the call, or a proxy passed on a host that is not this server's.
    """
    for name, value in metadata:
        if name in _HOST_HEADERS:
            host = value if isinstance(value, bytes) else value.encode()
            refusal = guard.refusal("POST", "/", [(b"host", host)], port)
            if refusal:
                raise CallRefusedError(Kind.FOREIGN, "host", refusal.message)
        if name in _BROWSER_HEADERS or name.startswith(_BROWSER_PREFIX):
            raise CallRefusedError(
                Kind.FOREIGN,
                "browser",
                f"The call carries the header {name[:40]!a}: pages in a browser may not call the gateway.",
            )
