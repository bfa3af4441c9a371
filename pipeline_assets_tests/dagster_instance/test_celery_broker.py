"""The broker in the form that Celery takes: a Redis, its sentinels, and never a cluster."""

from typing import Any

import pytest

from pipeline_assets.dagster_instance.celery_app import make_celery
from pipeline_assets.dagster_instance.celery_broker import broker
from pipeline_assets.services.worker_messages import ReadingSentinelTransport
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.redis_groups import SERVICE, WatchedServers
from pipeline_assets_tests.fixtures.s3 import eventually


def test_messages_survive_sentinel_failover(watched_servers: WatchedServers) -> None:
    """A message that was put before a failover is taken after it, at the new primary."""
    servers = watched_servers
    app = make_celery(Settings(redis=servers.settings()))
    with app.connection_for_write() as connection:
        connection.SimpleQueue("ingest").put({"run": 1})
        eventually(lambda: servers.primary.client().wait(1, 1000) == 1, "the replica has it")
    servers.primary.kill()

    def taken() -> Any:
        try:
            with app.connection_for_read() as again:
                return again.SimpleQueue("ingest").get(timeout=1).payload
        except app.connection_for_read().recoverable_connection_errors:
            return None

    assert eventually(taken, "the message is taken") == {"run": 1}


@pytest.mark.parametrize("own", [True, False])
def test_sentinels_are_named_as_kombu_does(own: bool) -> None:
    """Sentinels, their password and the service reach kombu, from either setting."""
    url = "redis+sentinel://user@a,[::1]:7/orders/3"
    password = "p@ss;word"
    redis = {"url": url, "password": password, "sentinel_password": "watch"}
    celery = {"broker_url": url.replace("user", "user:p%40ss%3Bword")} if own else {}
    found = broker(Settings(redis=redis, celery=celery))
    login = "sentinel://user:p%40ss%3Bword@"
    assert found.url == f"{login}a:26379/3;{login}[::1]:7/3"
    assert found.tls is None
    assert found.sentinels["master_name"] == "orders"
    assert found.sentinels["sentinel_kwargs"]["password"] == "watch"


def test_sentinels_are_asked_by_tls() -> None:
    """With rediss the sentinels' certificates are checked like the servers'."""
    found = broker(Settings(redis={"url": f"rediss+sentinel://a/{SERVICE}"}))
    assert found.tls is not None
    assert found.sentinels["sentinel_kwargs"]["ssl"] is True
    assert found.tls.items() <= found.sentinels["sentinel_kwargs"].items()


def test_worker_reads_from_sentinels(watched_servers: WatchedServers) -> None:
    """The worker's own transport, which drops unreadable messages, takes the sentinels' address."""
    settings = Settings(redis=watched_servers.settings())
    app = make_celery(settings)
    with app.connection_for_read(transport=ReadingSentinelTransport) as connection:
        queue = connection.SimpleQueue("ingest")
        watched_servers.primary.client().lpush("celery:ingest", "no JSON")
        queue.put({"run": 2})
        watched_servers.primary.client().lpush("celery:ingest", "no JSON")
        payload = eventually(lambda: next_payload(queue), "the message is taken")
    assert payload == {"run": 2}


def next_payload(queue: Any) -> Any:
    try:
        return queue.get(timeout=1).payload
    except queue.Empty:
        return None
