"""The paper venue over real slots and a real lake: rules, fresh minutes, funding, and a restart."""

import asyncio
import json
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from pipeline_assets.market.funding import funding_schema
from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.market.step_tables import from_minute
from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.resources.funding_objects import write_month
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.slots import slot_key
from pipeline_assets.resources.trading_documents import note_trading_rules
from pipeline_assets.services.gateway.paper import LivePaperVenue
from pipeline_assets.settings import Settings
from pipeline_assets.trading import messages
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets_tests.fixtures.journals import Place
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.research.held_candles import BTC_RULES
from pipeline_assets_tests.trading.paper_bench import FIRST_MINUTE, Clock, order

pytestmark = pytest.mark.xdist_group("compiled")


def _candle(redis: RedisServer, number: int, price: float) -> None:
    minute = FIRST_MINUTE + number
    value = {"open_time": minute * MINUTE} | dict.fromkeys(("open", "high", "low", "close"), price)
    redis.client().hset(slot_key("BTCUSDT"), str(minute % 15), json.dumps(value))


def _rate(store: ObjectStore) -> datetime:
    """Store the funding rate of the first full hour; returns that hour."""
    hour = from_minute(FIRST_MINUTE // 60 * 60 + 60)
    row = ("BTCUSDT", hour, 0.0001, 50_000.0, None)
    rates = pl.DataFrame([row], schema=funding_schema(), orient="row")
    write_month(store, "BTCUSDT", hour.date().replace(day=1), rates)
    return hour


def test_order_fills_from_fresh_slots(
    journal_place: Place,
    tmp_path: Path,
    s3_bucket: S3Bucket,
    redis_server: RedisServer,
    redis_url: str,
) -> None:
    """At the open of the second candle after its acceptance's; the next start has the fill."""
    settings = Settings(
        _env_file=None, data_dir=tmp_path, symbols="BTCUSDT", s3=s3_bucket.settings().model_dump(),
        redis={"url": redis_url}, backtest={"slippage": 0.001}, trading=journal_place.settings(),
    )  # fmt: skip
    clock = Clock()

    async def test() -> None:
        venue = LivePaperVenue(settings, clock)
        await venue.read_rules()
        sent = messages.Send(order("early"), clock(), 5_000)
        assert isinstance(await venue.send(sent), messages.Refused)
        since = from_minute(FIRST_MINUTE) - timedelta(days=1)
        note_trading_rules(ObjectStore(settings.s3), {"BTCUSDT": BTC_RULES}, since)
        await venue.read_rules()
        _candle(redis_server, 0, 50_000.0)
        assert await venue.match_fresh()
        assert not await venue.match_fresh()
        await venue.send(messages.Send(order("entry"), clock(), 5_000))
        for number, price in ((1, 51_000.0), (2, 52_000.0)):
            _candle(redis_server, number, price)
            clock.minute = FIRST_MINUTE + number
            assert await venue.match_fresh()
        await venue.stop()
        venue = LivePaperVenue(settings, clock)
        ((_, fill),) = venue.book.fills
        assert (fill.client_id, fill.time) == ("entry", (FIRST_MINUTE + 2) * MINUTE)
        assert fill.price == int(Decimal("52052") * UNIT)
        clock.minute = FIRST_MINUTE + 60
        hour = _rate(ObjectStore(settings.s3))
        await venue.charge_funding()
        assert not venue.book.payments
        await venue.read_rules()
        for _ in range(2):
            await venue.charge_funding()
        assert venue.book.payments == {("BTCUSDT", to_milliseconds(hour)): -5 * UNIT}
        await venue.stop()

    asyncio.run(asyncio.wait_for(test(), 60))
