"""The limit of requests for funding rates, against a real Redis server and exchange."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from pipeline_assets.market.windows import Window
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.exchange_funding import FundingClient
from pipeline_assets.resources.funding_budget import SPAN_MS, FundingBudget
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)


def test_span_never_exceeds_limit(minutes) -> None:
    """In no five minutes is more granted than the limit less its margin; a backfill leaves some."""
    first, second = (FundingBudget(minutes.settings.redis, "here", 100) for _ in range(2))
    assert first.reserve(Priority.BACKFILL, 500, NOON_MS) == (57, 0)
    assert first.reserve(Priority.BACKFILL, 1, NOON_MS + 1000) == (0, SPAN_MS - 1000)
    assert second.reserve(Priority.INGEST_OTHER, 500, NOON_MS + 2000) == (39, 0)
    assert second.reserve(Priority.INGEST_OTHER, 1, NOON_MS + 2000) == (0, SPAN_MS - 2000)
    assert second.reserve(Priority.INGEST_OTHER, 500, NOON_MS + SPAN_MS) == (57, 0)
    elsewhere = FundingBudget(minutes.settings.redis, "there", 100)
    assert elsewhere.reserve(Priority.INGEST_OTHER, 1, NOON_MS) == (1, 0)


class Time:
    """Time that passes only while the client waits, for the client and the exchange alike."""

    def __init__(self, exchange: ExchangeHandle) -> None:
        self.exchange = exchange
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.exchange.advance(seconds)
        await asyncio.sleep(0)


def client_of(settings: Settings, time: Time) -> FundingClient:
    return FundingClient(
        settings,
        Priority.INGEST_OTHER,
        budget=Exchange(settings).budget,
        sleep=time.sleep,
        monotonic=time.monotonic,
    )


def test_client_waits_for_its_limit(minutes) -> None:
    """A client of a small limit waits until five minutes have passed, and is never refused."""
    settings = minutes.with_settings(binance={"funding_limit": 6}).settings
    windows = [("BTCUSDT", Window(NOON.replace(day=day), NOON)) for day in range(1, 9)]
    time = Time(minutes.exchange)
    with client_of(settings, time) as client:
        found = client.funding_rates(windows)
        assert client.funding_requests == 8
    assert [reply.error for reply in found] == [None] * 8
    assert 295 < time.seconds < 330
    state = minutes.exchange.state()
    assert state["funding"]["refused"] == 0
    assert state["sent_429"] == 0


def test_refusal_holds_funding_alone(minutes) -> None:
    """HTTP 429 on a funding request delays such requests, and no request of the weight."""
    minutes.exchange.faults(refuse_next=1, seed=3)
    time = Time(minutes.exchange)
    with client_of(minutes.settings, time) as client:
        client._requests.clock.measure(NOON_MS + 30_000, 0.0, 0.0)
        [reply] = client.funding_rates([("BTCUSDT", Window(NOON.replace(hour=0), NOON))])
        assert client.server_time() > NOON
    assert reply.found is not None
    assert reply.found.rates.height == 2
    assert time.seconds > 0
    assert minutes.exchange.state()["sent_429"] == 1
    assert Exchange(minutes.settings).budget.blocked_until() == 0
