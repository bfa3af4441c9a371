"""How a client of Redis is made: of one server, of the server that sentinels name, or of a cluster. When an
operation is repeated on a new one is in redis_client.py.
"""

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline_assets.resources.redis_tls import tls_options

if TYPE_CHECKING:
    from pipeline_assets.settings import RedisSettings

# An idle connection is tried by a PING before it is used, so that an operation is not what finds out
# that a firewall forgot the connection while the machine slept.
_IDLE_SECONDS = 30

Hosts = Iterable[tuple[str, int]]


def connect(settings: "RedisSettings", *, cluster: bool = False, nodes: Hosts = ()) -> Any:
    """Return a client that is safe to share between threads.

    It repeats nothing, which `RedisConnection` does. A cluster's client follows MOVED and ASK by itself,
    and repeats a command as often as redis-py does by default while it learns which node serves what; it
    asks the cluster for its nodes at once. The other clients connect on first use. Each new connection
    asks the sentinels for the server that is the primary now.

    Args:
        settings: where Redis is.
        cluster: whether an address that names one server is that of a node of a cluster.
        nodes: of the cluster, as known from before: those that the settings name may be gone.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    address = settings.address
    options = _options(settings)
    if cluster and address.kind == "server":
        # A cluster has one database, and its client takes no number for it.
        url = urlsplit(settings.url)._replace(path="").geturl()
        return redis.RedisCluster.from_url(url, startup_nodes=_nodes(nodes), **options)
    if address.kind == "server":
        return redis.Redis.from_url(settings.url, retry=Retry(NoBackoff(), 0), **options)
    login = options | {"username": address.user, "ssl": address.tls}
    if address.kind == "cluster":
        known = dict.fromkeys((*address.hosts, *nodes))
        return redis.RedisCluster(startup_nodes=_nodes(known), **login)
    once = {"retry": Retry(NoBackoff(), 0)}
    password = settings.sentinel_password
    of_sentinels = {
        "username": settings.sentinel_user,
        "password": password.get_secret_value() if password else None,
    }
    untyped: Any = redis
    sentinels = untyped.Sentinel(
        list(address.hosts), sentinel_kwargs=login | of_sentinels | once, **login, **once
    )
    return sentinels.master_for(address.service, db=address.database)


def known_nodes(client: Any) -> tuple[tuple[str, int], ...]:
    """Return the nodes that a cluster's client knows."""
    return tuple((node.host, int(node.port)) for node in client.get_nodes())


def _nodes(hosts: Hosts) -> list[Any]:
    from redis import cluster

    untyped: Any = cluster
    return [untyped.ClusterNode(host, port) for host, port in hosts]


def _options(settings: "RedisSettings") -> dict[str, Any]:
    return {
        "password": settings.password.get_secret_value() if settings.password else None,
        "socket_timeout": settings.timeout_seconds,
        "socket_connect_timeout": settings.timeout_seconds,
        "socket_keepalive": True,
        "socket_keepalive_options": _keepalive(settings.timeout_seconds),
        "health_check_interval": _IDLE_SECONDS,
        **tls_options(settings),
    }


def _keepalive(timeout_seconds: float) -> dict[int, int]:
    """Socket options by which the kernel notices that the other side is gone, as far as it has them."""
    wanted = {
        "TCP_KEEPIDLE": _IDLE_SECONDS,
        "TCP_KEEPINTVL": 5,
        "TCP_KEEPCNT": 3,
        # Milliseconds that sent data may stay without an acknowledgement.
        "TCP_USER_TIMEOUT": int(1000 * timeout_seconds),
    }
    return {getattr(socket, name): value for name, value in wanted.items() if hasattr(socket, name)}
