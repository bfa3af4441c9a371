"""The gateway's feed over real slots: closes are read until a minute is complete."""

import asyncio
import json
from pathlib import Path

import pytest

from pipeline_assets.resources.binance_account import AccountClient
from pipeline_assets.resources.slots import slot_key
from pipeline_assets.resources.weight_budget import WeightBudgetError
from pipeline_assets.services.gateway import venues
from pipeline_assets.services.gateway.feed import AFTER_REDIS, MarketFeed
from pipeline_assets.settings import Settings
from pipeline_assets.trading.messages import PriceSeen
from pipeline_assets_tests.fixtures.redis import RedisServer, free_port

MINUTE = 60_000
NOW = 29_000_000 * MINUTE + 12_000


class HeldFeed(MarketFeed):
    """A feed at one time, of two symbols."""

    def now(self) -> int:
        return NOW


def _candle(redis: RedisServer, symbol: str, minute: int, close: float) -> None:
    opened = NOW // MINUTE * MINUTE + minute * MINUTE
    value = {"open_time": opened, "close": close, "close_time": opened + MINUTE - 1}
    redis.client().hset(slot_key(symbol), str(minute % 15), json.dumps(value))


def test_complete_minute_is_read_once(
    tmp_path: Path, redis_server: RedisServer, redis_url: str
) -> None:
    """A symbol whose candle comes later is waited for; one without recent candles is not."""
    symbols = ("BTCUSDT", "ETHUSDT", "OLDUSDT")
    settings = Settings(
        _env_file=None, data_dir=tmp_path, symbols=",".join(symbols), redis={"url": redis_url}
    )
    feed = HeldFeed(settings, 1)
    feed._symbols = symbols

    def heard() -> dict[str, int]:
        found: list[PriceSeen] = []
        asyncio.run(feed._report_prices(found.append))
        return {each.symbol: each.price // 10**8 for each in found}

    _candle(redis_server, "OLDUSDT", -9, 1.0)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        _candle(redis_server, symbol, -2, 2.0)
    assert heard() == {"OLDUSDT": 1, "BTCUSDT": 2, "ETHUSDT": 2}
    _candle(redis_server, "BTCUSDT", -1, 3.0)
    assert heard() == {"OLDUSDT": 1, "BTCUSDT": 3, "ETHUSDT": 2}
    _candle(redis_server, "ETHUSDT", -1, 4.0)
    assert heard() == {"OLDUSDT": 1, "BTCUSDT": 3, "ETHUSDT": 4}
    assert heard() == {}


def test_lost_redis_is_told_for_a_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Weight, slots and venue say what the gateway does while Redis is away; it has no run to repeat."""
    settings = Settings(
        _env_file=None,
        data_dir=tmp_path,
        symbols="BTCUSDT",
        redis={"url": f"redis://127.0.0.1:{free_port()}", "retry_seconds": 0.01},
        trading={"venue": "demo", "api_key": "key", "api_secret": "secret"},
    )
    accounts: list[AccountClient] = []

    def keep(account: AccountClient, *_: object) -> None:
        accounts.append(account)

    monkeypatch.setattr(venues, "BinanceVenue", keep)
    venues.make_venue(settings, lambda: NOW)
    with HeldFeed(settings, 1) as feed, pytest.raises(WeightBudgetError) as of_market:
        asyncio.run(feed.begin())
    with pytest.raises(WeightBudgetError) as of_venue:
        asyncio.run(accounts[0].read_block())
    feed._symbols = ("BTCUSDT",)
    asyncio.run(feed._logged(lambda: feed._report_prices(lambda _: None)))
    for said in (str(of_market.value), str(of_venue.value), caplog.text):
        assert AFTER_REDIS in said
        assert "repeat the run" not in said
