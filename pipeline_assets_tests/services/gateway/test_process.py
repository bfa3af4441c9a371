"""The gateway's process over real Redis, S3 and exchange: lease, market, restart, and the commands."""

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline_assets.cli.gateway import gateway
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.journal import SqliteJournal
from pipeline_assets.resources.journals import lease_file, open_journal
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.services.gateway.client import GatewayCallError, GatewayClient
from pipeline_assets.services.gateway.feed import MarketFeed
from pipeline_assets.services.gateway.lease import SecondGatewayError
from pipeline_assets.services.gateway.lease_claim import LeaseClaim
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.services.gateway.venues import weight_of
from pipeline_assets.settings import AlertsSettings, Settings, SettingsError
from pipeline_assets.trading.gateway import GatewayStoppedError
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.gateway import TOKEN, order
from pipeline_assets_tests.fixtures.gateway_process import Process, known_market, placed
from pipeline_assets_tests.fixtures.journals import Place, PostgresPlace
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import eventually
from pipeline_assets_tests.fixtures.webhook import Webhook

_LEASE = "leases:gateway:paper"


def positions(client: GatewayClient) -> dict[str, str]:
    answer = client.call(pb.ListPositionsRequest(), pb.ListPositionsResponse)
    return {each.symbol: each.quantity for each in answer.positions}


def test_position_survives_restart(process: Process, journal_place: Place) -> None:
    """The journal, of either kind, restores the position; nothing is sent again."""
    process.keep_journal_in(journal_place)
    with process.running() as client:
        placed(client)
        eventually(lambda: positions(client) == {"BTCUSDT": "0.1"}, "the fill is booked")
    assert not process.failures
    with process.running() as client:
        assert positions(client) == {"BTCUSDT": "0.1"}
        placed(client)
    assert process.venue.posts == {"a-1": 1}


@pytest.mark.xdist_group("postgres")
def test_lost_database_ends_gateway(process: Process, postgres_place: PostgresPlace) -> None:
    """PostgreSQL dies: the next order is neither acknowledged nor sent, and the next start knows the rest."""
    process.keep_journal_in(postgres_place)
    with process.running() as client:
        placed(client)
        eventually(lambda: positions(client) == {"BTCUSDT": "0.1"}, "the fill is booked")
        with pytest.raises(GatewayCallError, match=r"pg_dump --table='\*_journal_paper'"):
            client.call(pb.BackupRequest(path="/tmp/copy"), pb.BackupResponse)
        postgres_place.server.kill()
        postgres_place.server.start()
        with pytest.raises(GatewayCallError, match="stored is unknown"):
            client.call(pb.PlaceOrderRequest(order=order("a-2")), pb.PlaceOrderResponse)
    assert "gateway_journal_paper in PostgreSQL" in str(process.failures[0])
    with process.running() as client:
        assert positions(client) == {"BTCUSDT": "0.1"}
    assert process.venue.posts == {"a-1": 1}


def test_running_gateway_keeps_its_share(process: Process, exchange: ExchangeHandle) -> None:
    """A backfill that asks for all weight of the minute after leaves the gateway's share alone."""
    budget = Exchange(process.settings).budget
    with process.running():
        following = exchange.state()["now_ms"] + 60_000
        granted = budget.reserve(Priority.BACKFILL, 9_999, following).weight
    assert granted == budget.capacity - weight_of(process.settings) > 0


def test_second_gateway_names_the_first(process: Process) -> None:
    """A second gateway of the account refuses to start; a stopped one gives the lease back at once."""
    with (
        process.running(),
        pytest.raises(SecondGatewayError, match=r"Account paper is served by .* pid \d+"),
    ):
        asyncio.run(process.run(asyncio.Event(), lease_seconds=0.2))
    assert process.redis.client().exists(_LEASE) == 0


def test_killed_gateway_is_followed_at_once(process: Process) -> None:
    """The lease of a process of this host that has ended lasts an hour, and is not waited for."""
    redis, dead = process.redis.client(), "f00d another pid 1"
    claim = LeaseClaim(lease_file(process.settings.trading, process.settings.data_dir))
    claim.write(dead)
    claim.close()
    redis.set(_LEASE, dead, px=3_600_000)
    with process.running() as client:
        placed(client)
        assert redis.get(_LEASE) not in (None, dead)
    assert not process.failures
    assert redis.exists(_LEASE) == 0


def test_lost_lease_ends_gateway(process: Process) -> None:
    """Redis forgets the lease: the next order is not sent, and the process ends with the reason."""
    with process.running() as client:
        placed(client)
        process.redis.client().set(_LEASE, "another gateway")
        with pytest.raises(GatewayCallError, match="lease"):
            client.call(pb.PlaceOrderRequest(order=order("a-2")), pb.PlaceOrderResponse)
    assert "lease" in str(process.failures[0])
    assert process.venue.posts == {"a-1": 1}


@pytest.mark.parametrize("forgets", [False, True])
def test_lost_redis_ends_gateway_once(
    gateway_settings: Settings,
    exchange: ExchangeHandle,
    own_redis_server: RedisServer,
    webhook: Webhook,
    forgets: bool,
) -> None:
    """Redis is killed, and is away or comes back empty: no order leaves, one alert; the next one serves."""
    redis = gateway_settings.redis.model_copy(update={"url": own_redis_server.url})
    alerts = AlertsSettings(webhook_url=webhook.url)
    settings = gateway_settings.model_copy(update={"redis": redis, "alerts": alerts})
    process = known_market(settings, exchange, own_redis_server)
    with process.running() as client:
        placed(client)
        own_redis_server.kill()
        if forgets:
            _come_back_empty(own_redis_server)
        with pytest.raises(GatewayCallError, match=r"lease|Redis") as refused:
            client.call(pb.PlaceOrderRequest(order=order("a-2")), pb.PlaceOrderResponse)
    said = str(refused.value)
    assert "The order was not accepted" in said
    assert re.search("start (the gateway|this one) again", said)
    assert "repeat the run" not in said
    assert len(process.failures) == 1
    (alert,) = webhook.received
    assert f"ended: {process.failures[0]}" in alert["text"]
    if not forgets:
        _come_back_empty(own_redis_server)
    with process.running() as client:
        placed(client)
        assert positions(client) == {"BTCUSDT": "0.1"}
    assert len(process.failures) == 1
    assert process.venue.posts == {"a-1": 1}


def _come_back_empty(server: RedisServer) -> None:
    server.start()
    server.client().flushall()


def _block_start(
    monkeypatch: pytest.MonkeyPatch, block: Callable[[], None], renewal_share: float
) -> None:
    """Have every gateway block its event loop while it starts, its lease taken."""
    begin = MarketFeed.begin

    async def slow(feed: MarketFeed) -> None:
        block()
        await begin(feed)

    monkeypatch.setattr(MarketFeed, "begin", slow)
    monkeypatch.setattr("pipeline_assets.services.gateway.lease._RENEWAL_SHARE", renewal_share)


def test_slow_start_renews_lease(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start goes on only after a renewal, while the event loop is blocked; the gateway then serves."""
    redis = process.redis.client()

    def block() -> None:
        assert redis.pexpire(_LEASE, 30_000)
        eventually(lambda: redis.pttl(_LEASE) > 30_000, "the lease of 60 s is renewed")

    _block_start(monkeypatch, block, 1 / 6000)
    with process.running() as client:
        placed(client)
    assert not process.failures
    assert process.venue.posts == {"a-1": 1}


@pytest.mark.parametrize("renewal_share", [1 / 6000, 100.0])
def test_lease_lost_during_start(
    process: Process, monkeypatch: pytest.MonkeyPatch, renewal_share: float
) -> None:
    """Another gateway takes over, whether a renewal notices it or not: nothing is journalled or served."""

    def block() -> None:
        process.redis.client().set(_LEASE, "another gateway")

    _block_start(monkeypatch, block, renewal_share)
    stop = asyncio.Event()
    with pytest.raises(GatewayStoppedError, match="lease ended"):
        asyncio.run(process.run(stop, on_ready=lambda _: stop.set()))
    assert not stop.is_set()
    journal = open_journal(process.settings.trading, process.settings.data_dir, "gateway")
    assert journal.last == 0
    journal.close()
    assert process.redis.client().get(_LEASE) == "another gateway"


def test_without_token_nothing_starts(process: Process) -> None:
    bare = process.settings.gateway.model_copy(update={"token": None})
    process.settings = process.settings.model_copy(update={"gateway": bare})
    with pytest.raises(SettingsError, match="PIPELINE_GATEWAY__TOKEN is not set"):
        asyncio.run(process.run(asyncio.Event()))


def test_commands_change_the_running_gateway(
    process: Process, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pipeline_assets.cli.gateway.load_settings", lambda: process.settings)

    def command(*arguments: str) -> Any:
        result = CliRunner().invoke(gateway, arguments, catch_exceptions=False)
        assert result.exit_code == 0
        assert TOKEN not in result.output
        return json.loads(result.output) if "--json" in arguments else result.output

    with process.running() as client:
        placed(client)
        eventually(lambda: positions(client) != {}, "the order is filled", 60)
        assert command("halt", "--reason", "fire", "--json")["mode"] == "HALTED"
        shown = command("state")
        assert "fire" in shown
        assert shown.split("Positions")[1].split()[-5:] == ["BTCUSDT", "0.1", "100", "100", "0"]
        (position,) = command("state", "--json")["positions"]
        assert position["entry_price"] == "100"
        assert command("resume", "--json")["mode"] == "ACTIVE"
        assert command("flatten", "--json")["mode"] == "HALTED"
        eventually(lambda: positions(client) == {}, "everything is closed", 60)
        command("backup", str(tmp_path / "copy"))
    assert SqliteJournal(tmp_path / "copy").last > 0
    with pytest.raises(GatewayCallError, match="`pipeline-assets up`"):
        command("state")
