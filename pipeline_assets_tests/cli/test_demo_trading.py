"""The trades of the day, as the demo prints them."""

import io
from datetime import timedelta

import pytest
from rich.console import Console

from pipeline_assets.cli.demo_trading import print_trading
from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.market.step_tables import to_minute
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.services.gateway.proto import gateway_pb2 as pb
from pipeline_assets.settings import Settings
from pipeline_assets.trading.decisions import MinuteDecisions, decided
from pipeline_assets.trading.trader_store import LakeTraderStore
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.gateway import GatewayServer, order
from pipeline_assets_tests.fixtures.kafka import candidates
from pipeline_assets_tests.fixtures.redis import free_port
from pipeline_assets_tests.fixtures.s3 import S3Bucket, eventually


@pytest.fixture
def settings(exchange: ExchangeHandle, s3_bucket: S3Bucket, redis_url: str) -> Settings:
    """Provide a day with two accepted decisions and one that was declined."""
    now = from_milliseconds(exchange.state()["now_ms"])
    store = LakeTraderStore(ObjectStore(s3_bucket.settings()), "paper")
    for ago, symbols, reason in ((1, 2, ""), (2, 1, "stale")):
        minute = now - timedelta(minutes=ago)
        found = decided(candidates(symbols=symbols), reason, "test", now)
        store.fix(to_minute(minute), MinuteDecisions(decisions=tuple(found)))
    return Settings(
        _env_file=None,
        binance={"rest_url": exchange.url.removesuffix("/fapi"), "retries": 1},
        s3=s3_bucket.settings().model_dump(),
        redis={"url": redis_url},
        gateway={"grpc_port": free_port()},
    )


def printed(settings: Settings) -> str:
    shown = io.StringIO()
    print_trading(Console(file=shown, width=200), settings)
    return shown.getvalue()


def test_decisions_and_orders_are_printed(
    settings: Settings, gateway_server: GatewayServer
) -> None:
    with gateway_server.client() as client:
        client.call(pb.PlaceOrderRequest(order=order()), pb.PlaceOrderResponse)
    settings = settings.model_copy(update={"gateway": gateway_server.settings})

    def rows() -> list[str]:
        return [" ".join(line.split()) for line in printed(settings).splitlines()]

    # The venue fills the order after it has acknowledged it.
    eventually(lambda: "positions 1 0.1 BTCUSDT" in rows(), "the position is printed")
    assert "decisions 3 1 stale, 2 accepted" in rows()
    assert "fills 1 buy 0.1 BTCUSDT at 100" in rows()
    assert "open orders 0" in rows()


def test_silent_gateway_is_named(settings: Settings) -> None:
    """The demo goes on: what it filled counts, and not what was traded."""
    assert f"127.0.0.1:{settings.gateway.grpc_port}" in printed(settings)
