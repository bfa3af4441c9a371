"""Ports of this machine: whether one is free, who holds it, and whether a server answers there."""

import http.client
import socket
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline_assets.local.errors import StackError

if TYPE_CHECKING:
    from pipeline_assets.local.service import Service

# Asks this machine's own servers: a proxy of the environment cannot reach them.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def tcp_answers(host: str, port: int) -> bool:
    """Return whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def http_answers(url: str, *, below: int = 400) -> bool:
    """Return whether `url` answers with a status lower than `below`."""
    try:
        with DIRECT.open(url, timeout=1.0) as reply:
            return int(reply.status) < below
    except urllib.error.HTTPError as error:
        return error.code < below
    except (OSError, http.client.HTTPException):
        # If the port is within the kernel's range for clients, the connection may reach itself while no
        # server listens yet, and reads its own request. Seen on a busy machine.
        return False


def port_holder(port: int) -> str:
    """Return who holds `port`, as `name (pid 123)`. Command lines are left out: they hold secrets."""
    import psutil

    connected = False
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if not connection.laddr or connection.laddr.port != port:
                continue
            connected = True
            if connection.status == psutil.CONN_LISTEN:
                name = psutil.Process(connection.pid).name() if connection.pid else None
                return f"{name} (pid {connection.pid})" if name else "another user's process"
    except psutil.Error as error:
        return f"a process that cannot be looked up ({type(error).__name__})"
    # The kernel lends ports above 32767 to clients for a while: there is no process to stop.
    if connected:
        return "a client's connection, which ends by itself"
    return "a process that cannot be looked up"


def port_is_free(host: str, port: int) -> bool:
    """Return whether a server could listen there now."""
    with socket.socket() as probe:
        # Without it, connections of the last run in TIME_WAIT would make the port look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def require_free_ports(services: Iterable["Service"]) -> None:
    """Check that every service has a port of its own to listen on.

    Raises:
        StackError: two services want one port, or another process holds it; the message names both.
    """
    taken: dict[int, str] = {}
    for service in services:
        if service.listens is None:
            continue
        host, port = service.listens
        change = f"set {service.setting} to another port" if service.setting else "free it"
        if port in taken:
            raise StackError(
                f"Port {port} is wanted by both {taken[port]} and {service.name}: {change}."
            )
        if not port_is_free(host, port):
            raise StackError(
                f"Port {port} of {host}, which {service.name} needs, is taken by "
                f"{port_holder(port)}. Stop that process or try again, or {change}."
            )
        taken[port] = service.name
