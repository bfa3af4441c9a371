"""The broker between Dagster and its workers in the form that Celery takes: address, options, certificates.
The queues and the other options of Celery are in celery_app.py.
"""

from dataclasses import dataclass
from ssl import CERT_REQUIRED
from typing import Any
from urllib.parse import quote, urlsplit

from pipeline_assets.resources.redis_tls import tls_options
from pipeline_assets.settings import RedisAddress, Settings


@dataclass(frozen=True)
class Broker:
    """All that kombu needs to reach the broker.

    Attributes:
        url: the address with its password: for the client only, never for a log.
        sentinels: kombu's transport options for the sentinels of a Redis; empty for others.
        tls: the options by which a Redis' certificate is checked, as kombu does not by default.
    """

    url: str
    sentinels: dict[str, Any]
    tls: dict[str, Any] | None


def broker(settings: Settings) -> Broker:
    """Return the broker of the settings: the one that they name, or else the Redis.

    A broker that is the Redis of the settings has its files too. An address of its own that says otherwise
    (`?ssl_cert_reqs=none`, `?ssl_ca_certs=FILE`) has its way.
    """
    given = settings.celery.broker_url
    url = _with_password(settings) if given is None else given.get_secret_value()
    files = tls_options(settings.redis) if given is None else {}
    scheme = urlsplit(url).scheme
    tls = {"ssl_cert_reqs": CERT_REQUIRED} | files if scheme.startswith("rediss") else None
    if not scheme.endswith("+sentinel"):
        return Broker(url, {}, tls)
    return _of_sentinels(settings, url, tls)


def _of_sentinels(settings: Settings, url: str, tls: dict[str, Any] | None) -> Broker:
    """Return a broker in the form that kombu has for sentinels: `sentinel://` for each, joined by `;`."""
    login, address = RedisAddress.with_login(url)
    user_and_password = f"{login}@" if login else ""
    hosts = [
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in address.hosts
    ]
    sentinels = ";".join(
        f"sentinel://{user_and_password}{host}/{address.database}" for host in hosts
    )
    redis = settings.redis
    password = redis.sentinel_password
    # kombu hands none of the data servers' options on to the sentinels.
    to_sentinels = {
        "username": redis.sentinel_user,
        "password": password.get_secret_value() if password else None,
        "socket_timeout": redis.timeout_seconds,
        "socket_connect_timeout": redis.timeout_seconds,
        **({"ssl": True} | tls if tls else {}),
    }
    return Broker(sentinels, {"master_name": address.service, "sentinel_kwargs": to_sentinels}, tls)


def _with_password(settings: Settings) -> str:
    redis = settings.redis
    if redis.password is None:
        return redis.url
    parts = urlsplit(redis.url)
    user, _, host = parts.netloc.rpartition("@")
    password = quote(redis.password.get_secret_value(), safe="")
    return parts._replace(netloc=f"{user}:{password}@{host}").geturl()
