"""The gateway's feed over real slots: closes are read until a minute is complete."""

import asyncio
import json
from pathlib import Path

from pipeline_assets.resources.slots import slot_key
from pipeline_assets.services.gateway.feed import MarketFeed
from pipeline_assets.settings import Settings
from pipeline_assets.trading.messages import PriceSeen
from pipeline_assets_tests.fixtures.redis import RedisServer

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
