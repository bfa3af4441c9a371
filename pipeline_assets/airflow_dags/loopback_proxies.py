"""Keeps requests to this machine from a proxy of the environment."""

from typing import Any
from urllib.parse import urlsplit

_LOOPBACK = ("localhost", "::1")


def loopback_proxies(url: str) -> dict[str, Any] | None:
    """Return what keeps requests from a proxy if `url` is this machine's; None leaves the choice to it.

    Without NO_PROXY in the environment, requests sends even what is for loopback through a proxy.
    """
    host = urlsplit(url).hostname or ""
    if host in _LOOPBACK or host.startswith("127."):
        return {"http": None, "https": None, "all": None}
    return None
