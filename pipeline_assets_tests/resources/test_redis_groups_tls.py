"""Sentinels and clusters over TLS: an own authority, client certificates, and logins of both kinds."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline_assets.resources.leases import LeaseStore, LeaseStoreError
from pipeline_assets.resources.slots import slot_key
from pipeline_assets.settings import RedisSettings
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.redis_groups import (
    SERVICE,
    ClusterServers,
    Sentinel,
    WatchedServers,
)
from pipeline_assets_tests.fixtures.s3 import eventually
from pipeline_assets_tests.fixtures.tls import Tls, TlsProxy
from pipeline_assets_tests.resources.test_redis_client import LONG
from pipeline_assets_tests.resources.test_redis_groups import SYMBOLS, AllStores, role

Secured = tuple[WatchedServers, TlsProxy, TlsProxy]
WATCHER = "a secret of the sentinels"


def certificates(tls: Tls) -> dict[str, Any]:
    """Return the settings of the authority and of a client's certificate."""
    certificate, key = tls.client()
    return {
        "ssl_ca_location": tls.ca_file,
        "ssl_certificate_location": certificate,
        "ssl_key_location": key,
    }


@contextmanager
def announced(server: RedisServer, tls: Tls) -> Iterator[TlsProxy]:
    """Run a server whose clients are directed to a TLS proxy before it."""
    proxy = tls.proxy(server.port, asks_clients=True, plain=True)
    server.options = ("--repl-diskless-sync-delay", "0", "--replica-announce-port", str(proxy.port))
    with server:
        yield proxy


class Behind(RedisServer):
    """A server as its sentinel sees it: at the port of the proxy before it."""

    def __init__(self, proxy: TlsProxy) -> None:
        self.port, self.password = proxy.port, None


@pytest.fixture
def secured_servers(tmp_path: Path, tls: Tls) -> Iterator[Secured]:
    """Provide a primary, a replica and a sentinel, each behind TLS that demands a client's certificate."""
    first, second = RedisServer(tmp_path / "primary"), RedisServer(tmp_path / "replica")
    with announced(first, tls) as before_first, announced(second, tls):
        second.client().replicaof("127.0.0.1", before_first.port)
        (tmp_path / "sentinel").mkdir()
        with Sentinel(tmp_path / "sentinel", Behind(before_first)) as sentinel:
            servers = WatchedServers(first, second, sentinel)
            servers.wait_until_watched()
            yield servers, tls.proxy(sentinel.port, asks_clients=True), before_first


def sentinel_settings(tls: Tls, port: int, **changes: Any) -> RedisSettings:
    given = {"url": f"rediss+sentinel://127.0.0.1:{port}/{SERVICE}", "retry_seconds": LONG}
    return RedisSettings.model_validate(given | certificates(tls) | changes)


def test_sentinel_failover_over_tls(secured_servers: Secured, tls: Tls) -> None:
    """Sentinel, primary and the new primary are each spoken to by TLS, with the client's certificate."""
    servers, before_sentinel, _ = secured_servers
    stores = AllStores(sentinel_settings(tls, before_sentinel.port))
    for operation in stores.operations().values():
        operation()
    eventually(lambda: servers.primary.client().wait(1, 1000) == 1, "the replica has all")
    servers.primary.kill()
    for operation in stores.operations().values():
        operation()
    assert role(servers.replica) == "master"
    assert stores.leases.held(["run", "free"]) == {"run"}
    assert before_sentinel.handshakes > 1


def test_users_of_sentinels_and_servers(secured_servers: Secured, tls: Tls) -> None:
    """Sentinels and servers have users of their own; an error names the setting and no password."""
    servers, before_sentinel, _ = secured_servers
    for server, user in ((servers.sentinel, "watcher"), (servers.primary, "pipeline")):
        server.client().execute_command(
            "ACL", "SETUSER", user, "on", f">{WATCHER}", "~*", "&*", "+@all"
        )
    # The sentinel itself goes on as the default user of the primary.
    servers.sentinel.client().execute_command("ACL", "SETUSER", "default", "off")
    url = f"rediss+sentinel://pipeline@127.0.0.1:{before_sentinel.port}/{SERVICE}"
    login = {"password": WATCHER, "sentinel_user": "watcher", "sentinel_password": WATCHER}
    chosen = sentinel_settings(tls, before_sentinel.port, url=url, **login)
    assert LeaseStore(chosen).take("run") is not None
    for setting, wrong in (
        ("PIPELINE_REDIS__SENTINEL_PASSWORD", {"sentinel_user": None, "sentinel_password": None}),
        ("PIPELINE_REDIS__SENTINEL_PASSWORD", {"sentinel_password": "wrong"}),
        ("PIPELINE_REDIS__PASSWORD", {"password": "wrong"}),
    ):
        refused = RedisSettings.model_validate(
            chosen.model_dump() | login | {"retry_seconds": 0.3} | wrong
        )
        with pytest.raises(LeaseStoreError, match=setting) as raised:
            LeaseStore(refused).take("run")
        assert WATCHER not in str(raised.value)


@pytest.mark.parametrize("place", ["sentinel", "server"])
def test_expired_certificate_is_named(secured_servers: Secured, tls: Tls, place: str) -> None:
    """The error names an expired certificate, whether a sentinel or the server that it names has it."""
    _, before_sentinel, before_primary = secured_servers
    proxy = before_sentinel if place == "sentinel" else before_primary
    tls.issue(timedelta(days=-1)).configure_cert(proxy.context)
    chosen = sentinel_settings(tls, before_sentinel.port, retry_seconds=0.3)
    with pytest.raises(LeaseStoreError, match=r"its certificate has expired .valid from 2.*renew"):
        LeaseStore(chosen).take("run")
    tls.issue(timedelta(days=1)).configure_cert(proxy.context)
    assert LeaseStore(chosen).take("run") is not None


def test_cluster_over_tls(own_cluster_servers: ClusterServers, tls: Tls) -> None:
    """Every node of a cluster is spoken to by TLS, with the client's certificate."""
    nodes = own_cluster_servers.nodes
    proxies = [tls.proxy(node.port, asks_clients=True) for node in nodes]
    for node, proxy in zip(nodes, proxies, strict=True):
        node.client().config_set("cluster-announce-port", proxy.port)
    first = proxies[0].port
    url = f"rediss+cluster://127.0.0.1:{first}"
    stores = AllStores(
        RedisSettings.model_validate({"url": url, "retry_seconds": LONG} | certificates(tls))
    )
    for operation in stores.operations().values():
        operation()
    stores.write_all(1)
    assert stores.minutes() == dict.fromkeys(SYMBOLS, 1)
    for node, proxy in zip(nodes, proxies, strict=True):
        assert {slot_key(each) for each in SYMBOLS} & set(node.client().keys("ohlcv*"))
        assert proxy.handshakes > 0
