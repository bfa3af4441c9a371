"""Which proxy leads to an address, by the usual environment variables. Sending anything does not
belong here.

HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY hold, in upper or lower case, for every system outside
this machine. Loopback never goes through a proxy. The clients of S3 and Snowflake and Airflow read
these variables themselves, so `complete` writes the same decision into the environment.
"""

import ipaddress
import os
from collections.abc import MutableMapping
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from pipeline_assets.errors import InputError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SECURE = {"https", "wss"}
_SCHEMES = ("http", "https")
_PORTS = {"http": 80, "https": 443}


class ProxyError(InputError):
    """A proxy variable cannot be used. The message names the variable and an example."""


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine's loopback."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def proxy_for(url: str) -> str | None:
    """Return the address of the proxy that leads to `url`, or None to connect directly.

    A WebSocket address uses the proxy of http or https. The answer may hold credentials, so it must
    not be printed.

    Raises:
        ProxyError: the variable names no HTTP proxy.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return None
    proxies = getproxies_environment()
    port = f":{parts.port}" if parts.port else ""
    if proxy_bypass(f"{host}{port}"):
        return None
    scheme = "https" if parts.scheme in _SECURE else "http"
    name = scheme if proxies.get(scheme) else "all"
    proxy = proxies.get(name)
    return _checked(f"{name.upper()}_PROXY", proxy) if proxy else None


def first_hop(url: str, host: str, port: int | None) -> tuple[str, int | None]:
    """Return host and port that a connection to `url` goes to first: the proxy's, or its own.

    Only the proxy may be able to resolve the host of `url`.
    """
    if urlsplit(url).scheme not in (*_SCHEMES, "ws", "wss"):
        return host, port
    proxy = proxy_for(url)
    if proxy is None:
        return host, port
    parts = urlsplit(proxy)
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


def complete(environment: MutableMapping[str, str]) -> None:
    """Make every client that reads the proxy variables decide as `proxy_for` does.

    NO_PROXY gets the loopback addresses, and HTTP_PROXY and HTTPS_PROXY the value of ALL_PROXY where
    they are not set: boto3 does not read ALL_PROXY. Upper and lower case get the same value, because
    libraries differ in which one they prefer. Without a proxy variable nothing changes. Safe to repeat.

    Args:
        environment: such as os.environ, or what a child process gets.
    """
    found = {name: _value(environment, f"{name}_proxy") for name in (*_SCHEMES, "all")}
    if not any(found.values()):
        return
    for scheme in _SCHEMES:
        _set(environment, f"{scheme}_proxy", found[scheme] or found["all"])
    listed = [part.strip() for part in _value(environment, "no_proxy").split(",") if part.strip()]
    if listed != ["*"]:
        listed += [host for host in _LOOPBACK if host not in listed]
    _set(environment, "no_proxy", ",".join(listed))


def complete_environment() -> None:
    """Apply `complete` to this process; to be called where a process of the product begins."""
    complete(os.environ)


def _value(environment: MutableMapping[str, str], name: str) -> str:
    """Return the value of a variable; lower case goes first, as in curl and the standard library."""
    return environment.get(name) or environment.get(name.upper()) or ""


def _set(environment: MutableMapping[str, str], name: str, value: str) -> None:
    if value:
        environment[name] = environment[name.upper()] = value


def _checked(variable: str, proxy: str) -> str:
    """Return the proxy's address with its scheme; errors leave the value out, for it may be a secret."""
    address = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(address)
        usable = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ProxyError(
            f"{variable} does not name an HTTP proxy. Example: "
            f"{variable}=http://proxy.example.com:3128"
        )
    return address
