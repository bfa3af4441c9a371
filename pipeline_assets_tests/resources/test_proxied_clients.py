"""Clients on a machine that needs a proxy, and on a machine whose proxy does not work.

The host names end in .invalid: only the proxy of the tests resolves them.
"""

import asyncio
import json
from datetime import UTC, date, datetime, timedelta

import pytest
from pydantic import SecretStr

from pipeline_assets.local.airflow import DAGS
from pipeline_assets.local.ports import http_answers
from pipeline_assets.local.stack import running_stack, stack_status
from pipeline_assets.market.archive import ArchiveFile
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.proxies import complete_environment
from pipeline_assets.resources.alerts import Alerts
from pipeline_assets.resources.archive import downloads
from pipeline_assets.resources.exchange import ExchangeClient
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.exchange_errors import ExchangeUnreachableError
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.resources.weight_budget import Priority, WeightBudget
from pipeline_assets.settings import (
    AlertsSettings,
    BinanceSettings,
    S3Settings,
    Settings,
    with_embedded_credentials,
)
from pipeline_assets_tests.fixtures.exchange import SYMBOLS, start_exchange
from pipeline_assets_tests.fixtures.proxy import PASSWORD
from pipeline_assets_tests.fixtures.redis import free_port

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = Window(NOON - timedelta(hours=1), NOON)
DAY = ArchiveFile("BTCUSDT", Interval.ONE_HOUR, date(2026, 11, 19))


async def no_wait(_seconds):
    await asyncio.sleep(0)


def port_of(url):
    return int(url.removesuffix("/fapi").rsplit(":", 1)[1])


@pytest.fixture
def proxy(forward_proxy, monkeypatch):
    """The only way out, by ALL_PROXY, with a user and a password."""
    forward_proxy.needs_credentials = True
    monkeypatch.setenv("ALL_PROXY", forward_proxy.url)
    complete_environment_for_test(monkeypatch)
    return forward_proxy


def complete_environment_for_test(monkeypatch):
    """As a process of the product does at its start; undone after the test."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    complete_environment()


@pytest.fixture
def budget(redis_server, redis_url):
    return WeightBudget(redis_server.settings(), "proxied", limit=2400, margin=60)


def fetched(rest_url, budget, **changes):
    settings = BinanceSettings.model_validate({"rest_url": rest_url, "retries": 0} | changes)
    with ExchangeClient(settings, budget, Priority.INGEST_1M, sleep=no_wait) as client:
        [found] = client.klines(Interval.ONE_MINUTE, {"BTCUSDT": HOUR})
    assert found.error is None
    return [row for reply in found.replies for row in json.loads(reply)]


def test_exchange_is_reached_through_proxy(proxy, exchange, budget):
    """The exchange is reached through the proxy."""
    direct = fetched(exchange.url.removesuffix("/fapi"), budget)
    assert proxy.requests == []
    proxy.hosts["exchange.invalid"] = port_of(exchange.url)
    assert fetched("http://exchange.invalid", budget) == direct
    assert len(proxy.asked("http://exchange.invalid/fapi/v1/klines")) == 1


def test_archive_is_reached_through_proxy(proxy, exchange):
    """The archive is reached through the proxy."""
    proxy.hosts["archive.invalid"] = port_of(exchange.url)
    settings = BinanceSettings(archive_url="http://archive.invalid")
    [found] = downloads(settings, [DAY], no_wait)
    assert found.problem is None
    assert found.rows.height == 24
    assert len(proxy.asked("archive.invalid")) == 2


def test_refused_tunnel_hides_the_password(proxy, budget, monkeypatch):
    """The error for a tunnel that the proxy refuses does not show the proxy's password.

    The client asks for an https address by CONNECT.
    """
    wrong = proxy.url.replace(PASSWORD, "wr0ng-password")
    monkeypatch.setenv("https_proxy", wrong)
    with pytest.raises(ExchangeUnreachableError, match="the proxy and PIPELINE_") as raised:
        fetched("https://exchange.invalid", budget)
    assert "wr0ng-password" not in str(raised.value)
    assert "407" in str(raised.value)
    assert set(proxy.requests) == {"CONNECT exchange.invalid:443"}


def test_s3_is_reached_through_the_proxy(proxy, s3_bucket):
    proxy.hosts["s3.invalid"] = port_of(s3_bucket.endpoint)
    store = ObjectStore(s3_bucket.settings(endpoint_url="http://s3.invalid"))
    store.put("a", b"candles")
    assert store.get("a") == b"candles"
    store.delete(["a"])
    assert store.get("a") is None
    assert {each.split()[0] for each in proxy.asked("s3.invalid")} == {"PUT", "GET", "POST"}


def test_snowflake_is_reached_through_the_proxy(proxy, warehouse_settings):
    proxy.hosts["snowflake.invalid"] = warehouse_settings.snowflake.port
    settings = warehouse_settings.snowflake.model_copy(update={"host": "snowflake.invalid"})
    found = Warehouse(settings, warehouse_settings.s3).table_summary(Interval.ONE_HOUR)
    assert found == {}
    assert proxy.asked("snowflake.invalid")


def test_webhook_is_reached_through_proxy(proxy, webhook):
    """The webhook is reached through the proxy."""
    proxy.hosts["hooks.invalid"] = port_of(webhook.url.removesuffix("/T0KEN"))
    alerts = Alerts(AlertsSettings(webhook_url=SecretStr("http://hooks.invalid/T0KEN")))
    alerts.send({"text": "stale"})
    assert webhook.received == [{"text": "stale"}]


@pytest.fixture
def dead_proxy(monkeypatch):
    """The address of a proxy that does not run."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")


def test_loopback_takes_no_proxy(
    monkeypatch, exchange, budget, s3_bucket, warehouse, webhook, dead_proxy
):
    """No client uses a proxy for this machine."""
    complete_environment_for_test(monkeypatch)
    address = exchange.url.removesuffix("/fapi")
    assert len(fetched(address, budget)) == 60
    [found] = downloads(BinanceSettings(archive_url=address), [DAY], no_wait)
    assert found.problem is None
    store = ObjectStore(s3_bucket.settings())
    store.put("a", b"candles")
    store.delete(["a"])
    assert warehouse.table_summary(Interval.ONE_HOUR) == {}
    Alerts(AlertsSettings(webhook_url=SecretStr(webhook.url))).send({"text": "stale"})
    assert len(webhook.received) == 1
    assert http_answers(f"{exchange.url}/v1/ping")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_airflow_loopback_takes_no_proxy(host, monkeypatch):
    """Airflow's requests to this machine take no proxy."""
    # As Airflow imports the modules of its DAG folder.
    monkeypatch.syspath_prepend(DAGS)
    from loopback_proxies import loopback_proxies

    assert loopback_proxies(f"http://{host}:23000/graphql") == dict.fromkeys(
        ("http", "https", "all")
    )
    assert loopback_proxies("https://dagster.example.com/graphql") is None


def test_stack_starts_with_proxy_set(dead_proxy, monkeypatch, tmp_path):
    """The embedded stack starts in an environment with a proxy."""
    complete_environment_for_test(monkeypatch)
    ports = {name: free_port() for name in ("exchange", "s3", "redis", "snowflake", "kafka")}
    settings = Settings(
        data_dir=tmp_path / "data",
        binance={
            "rest_url": f"http://127.0.0.1:{ports['exchange']}",
            "archive_url": f"http://127.0.0.1:{ports['exchange']}",
        },
        s3={"endpoint_url": f"http://127.0.0.1:{ports['s3']}"},
        redis={"url": f"redis://127.0.0.1:{ports['redis']}/0"},
        snowflake={"port": ports["snowflake"]},
        kafka={"bootstrap_servers": f"127.0.0.1:{ports['kafka']}"},
    )
    with running_stack(settings, with_dagster=False) as status:
        settings = with_embedded_credentials(settings)
        stores = [each for each in status.services if each.name in ports]
        assert [each.name for each in stores if not each.alive] == []
        assert abs(Exchange(settings).server_time() - datetime.now(UTC)) < timedelta(minutes=1)
        assert ObjectStore(settings.s3).get("nothing") is None


def test_status_checks_systems_through_proxy(proxy, tmp_path):
    """`status` asks the proxy for a system that only the proxy reaches."""
    settings = Settings(
        data_dir=tmp_path,
        binance={"rest_url": "https://exchange.invalid"},
        s3=S3Settings(endpoint_url="https://s3.invalid"),
    )
    alive = {each.name: each.alive for each in stack_status(settings).services}
    assert alive["exchange"]
    assert alive["s3"]


def test_slow_reply_keeps_the_minute(forward_proxy, redis_server, redis_url, monkeypatch):
    """A slow reply does not move the minute that requests count in.

    The time's reply is eight seconds late; what is spent then counts in the minute it was meant for.

    Half the round trip wrong, the client would take 12:00:58 for 12:01:02 and spend the next minute's
    weight in one that another client has used up already.
    """
    passed = [0.0]

    async def sleep(seconds):
        pass_by(seconds)
        await asyncio.sleep(0)

    def pass_by(seconds):
        passed[0] += seconds
        own.advance(seconds)

    def slow(target):
        if target.endswith("/time"):
            pass_by(8)

    with start_exchange(
        symbols=SYMBOLS, clock="stepped:2026-11-20T12:00:50Z", weight_limit=40
    ) as own:
        forward_proxy.hosts["exchange.invalid"] = port_of(own.url)
        monkeypatch.setenv("http_proxy", forward_proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")  # of the tests' own requests
        spent = WeightBudget(redis_server.settings(), "slow", limit=40, margin=5)
        windows = {"BTCUSDT": Window(NOON - timedelta(days=4), NOON)}
        clients = [
            ExchangeClient(
                BinanceSettings(rest_url=rest_url, concurrency=4),
                spent,
                Priority.BACKFILL,
                sleep=sleep,
                monotonic=lambda: 1000 + passed[0],
            )
            for rest_url in (own.url.removesuffix("/fapi"), "http://exchange.invalid")
        ]
        forward_proxy.before = slow
        for client in clients:
            with client:
                [found] = client.klines(Interval.ONE_MINUTE, windows)
            assert found.error is None
        state = own.state()
    assert (state["sent_429"], state["sent_418"]) == (0, 0)
    assert max(state["weight"]["used"].values()) <= 40
