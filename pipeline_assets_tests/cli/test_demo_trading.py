"""The trades of the day, as the demo prints them."""

import io
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from pipeline_assets.cli.demo_trading import print_trading
from pipeline_assets.market.candidates import Candidate
from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.market.step_tables import to_minute
from pipeline_assets.resources.candidate_objects import store_candidates
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
from pipeline_assets_tests.market.frames import candidates_frame


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


def printed(settings: Settings, shown: io.StringIO | None = None, **options: Any) -> str:
    shown = shown or io.StringIO()
    print_trading(Console(file=shown, width=200), settings, **options)
    return shown.getvalue()


class WaitingReader(io.StringIO):
    """A terminal whose reader makes the trader decide once the demo says that it waits."""

    def __init__(self, settings: Settings, candidate: Candidate) -> None:
        super().__init__()
        self.store = LakeTraderStore(ObjectStore(settings.s3), "paper")
        self.candidate = candidate

    def write(self, text: str) -> int:
        if "Waiting for the trader's decision about 1 candidate" in text:
            opened = self.candidate.open_time
            found = tuple(decided([self.candidate], "same_side", "test", opened))
            self.store.fix(to_minute(opened), MinuteDecisions(decisions=found), found[0].id)
        return super().write(text)


def published(settings: Settings, exchange: ExchangeHandle) -> Candidate:
    """Publish a candidate of the minute that closed last."""
    opened = from_milliseconds(exchange.state()["now_ms"] // 60_000 * 60_000 - 60_000)
    (found,) = candidates(start=opened)
    store_candidates(ObjectStore(settings.s3), candidates_frame([found]))
    return found


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
    assert "decisions 3 2 accepted; 1 declined: 1 stale" in rows()
    assert "fills 1 buy 0.1 BTCUSDT at 100" in rows()
    assert "day's result 0.00 of 0.00 in all, after 0.00 of fees" in rows()
    assert "open orders 0" in rows()


def test_newest_fills_are_named(settings: Settings, gateway_server: GatewayServer) -> None:
    """After a day of trading the first fills say nothing of the last minutes."""
    settings = settings.model_copy(update={"gateway": gateway_server.settings})
    with gateway_server.client() as client:

        def bought(number: int) -> bool:
            held = client.call(pb.ListFillsRequest(), pb.ListFillsResponse).fills
            return len(held) == number

        for number in range(1, 5):
            sent = order(f"a-{number}", quantity=f"0.{number}")
            client.call(pb.PlaceOrderRequest(order=sent), pb.PlaceOrderResponse)
            eventually(lambda wanted=number: bought(wanted), "the order is filled")
    named = printed(settings, live=False)
    newest = ", ".join(f"buy 0.{number} BTCUSDT at 100" for number in (4, 3, 2))
    assert f"{newest} …" in named


def test_silent_gateway_is_named(settings: Settings) -> None:
    """The demo goes on: what it filled counts, and not what was traded."""
    assert f"127.0.0.1:{settings.gateway.grpc_port}" in printed(settings)


def test_newest_decisions_are_waited_for(
    settings: Settings, exchange: ExchangeHandle, gateway_server: GatewayServer
) -> None:
    """A demo that is stopped between a candidate and its decision ends with the decision."""
    settings = settings.model_copy(update={"gateway": gateway_server.settings})
    reader = WaitingReader(settings, published(settings, exchange))
    found = printed(settings, reader, longest_wait=60.0)
    assert "1 same_side" in found


def test_missing_decision_is_not_awaited_forever(
    settings: Settings, exchange: ExchangeHandle, gateway_server: GatewayServer
) -> None:
    """Without a trader the demo goes on; without live minutes it does not wait."""
    settings = settings.model_copy(update={"gateway": gateway_server.settings})
    published(settings, exchange)
    assert "same_side" not in printed(settings, longest_wait=0.1)
    once = printed(settings, live=False)
    assert "stops before live minutes" in once
    assert "Waiting" not in once
