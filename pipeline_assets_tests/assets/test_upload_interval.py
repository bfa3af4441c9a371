"""Ingest runs that upload 1m objects every few minutes: slots each minute, objects when due, nothing lost."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline_assets.collection.coverage import fetchable
from pipeline_assets.collection.lake_coverage import gap_ledger
from pipeline_assets.collection.overview import lake_overview
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.ingest_state import read_ingest_state
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.slots import CandleSlots
from pipeline_assets_tests.fixtures.counting_s3 import CountsRequests
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.faulty_s3 import FaultyS3, faulty_s3
from pipeline_assets_tests.fixtures.platform import (
    SYMBOLS,
    Platform,
    platform_without_snowflake,
)
from pipeline_assets_tests.fixtures.s3 import S3Bucket, passed_check

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
EVERY = 5


@pytest.fixture
def every_five(minutes: Platform) -> Platform:
    return minutes.with_settings(ingest={"upload_minutes": EVERY})


def ingest(platform: Platform, minute: int) -> datetime:
    """Execute the ingest run so many minutes after noon; return the open time of its newest candle."""
    platform.exchange.set_clock(NOON + minute * MINUTE + timedelta(seconds=5))
    platform.ingest("1m")
    return NOON + (minute - 1) * MINUTE


def in_slots(platform: Platform) -> set[datetime]:
    held = CandleSlots(platform.settings.redis).summary(list(SYMBOLS))
    return set(held["newest_open_time"])


def on_lake(platform: Platform) -> datetime:
    """The newest stored candle; every symbol has the same, and all minutes of the day before it."""
    stored = platform.stored("1m")
    newest = stored["open_time"].max()
    assert isinstance(newest, datetime)
    start = day_window(newest.date()).start
    for symbol in SYMBOLS:
        own = stored.filter(stored["symbol"] == symbol)
        assert own.equals(platform.truth("1m", symbol, start, newest + MINUTE)), symbol
    return newest


def fetchable_gaps(platform: Platform) -> int:
    """How many candles of the open day the ledger calls missing, by the exchange's clock."""
    now = platform.now()
    start = day_window(now.date()).start
    window = Window(start, start + timedelta(days=1))
    found = gap_ledger(
        ObjectStore(platform.settings.s3),
        platform.settings,
        Interval.ONE_MINUTE,
        window,
        dict.fromkeys(SYMBOLS, (start - timedelta(days=9), None)),
        now,
    )
    return int(fetchable(found)["count"].sum())


def test_uploads_at_due_minutes_and_fills_slots_at_each(every_five: Platform) -> None:
    """After the first run, which stores the day so far, the next upload is that of 12:04."""
    assert on_lake_after(every_five, 3) == NOON + 2 * MINUTE
    before = every_five.objects("ohlcv/")
    newest = ingest(every_five, 4)
    assert in_slots(every_five) == {newest}
    assert every_five.objects("ohlcv/") == before
    assert fetchable_gaps(every_five) == 0
    assert on_lake_after(every_five, 5) == NOON + 4 * MINUTE
    assert in_slots(every_five) == {NOON + 4 * MINUTE}
    state = read_ingest_state(
        ObjectStore(every_five.settings.s3), Interval.ONE_MINUTE, (), every_five.now()
    )
    assert set(state.newest.values()) == {NOON + 4 * MINUTE}


def on_lake_after(platform: Platform, minute: int) -> datetime:
    ingest(platform, minute)
    return on_lake(platform)


def test_run_after_a_crash_uploads_all_since_the_last_upload(every_five: Platform) -> None:
    """The run of 12:05, whose upload was due, died: that of 12:06 stores its minutes too."""
    ingest(every_five, 3)
    assert on_lake_after(every_five, 6) == NOON + 5 * MINUTE
    # Candles stored beyond the due time are no error of the lake's documents, and the next due time stands.
    assert fetchable_gaps(every_five) == 0
    assert on_lake_after(every_five, 9) == NOON + 5 * MINUTE
    assert on_lake_after(every_five, 10) == NOON + 9 * MINUTE


def test_missing_minute_is_named_once_it_was_due(every_five: Platform) -> None:
    ingest(every_five, 3)
    every_five.exchange.set_clock(NOON + 4 * MINUTE + timedelta(seconds=5))
    assert fetchable_gaps(every_five) == 0
    every_five.exchange.set_clock(NOON + 5 * MINUTE + timedelta(seconds=5))
    # 12:03 and 12:04 of three symbols.
    assert fetchable_gaps(every_five) == 6
    report = lake_overview(
        every_five.settings,
        ObjectStore(every_five.settings.s3),
        list(SYMBOLS),
        NOON.date(),
        every_five.now(),
    )
    assert report[SYMBOLS[0], Interval.ONE_MINUTE].missing == 2


def test_hour_is_whole_on_the_lake_when_it_ends(every_five: Platform) -> None:
    """A setting that does not divide an hour too; the next run finds the ended hour as it was stored."""
    platform = every_five.with_settings(ingest={"upload_minutes": 7})
    ingest(platform, 57)
    assert on_lake_after(platform, 60) == NOON + 59 * MINUTE
    before = platform.objects("ohlcv/")
    ingest(platform, 61)
    assert platform.objects("ohlcv/") == before
    assert in_slots(platform) == {NOON + 60 * MINUTE}


@pytest.fixture
def proxied(
    tmp_path: Path, exchange: ExchangeHandle, s3_bucket: S3Bucket, redis_url: str
) -> Iterator[tuple[Platform, FaultyS3]]:
    """The pipeline with every S3 request recorded."""
    with faulty_s3(s3_bucket.endpoint, CountsRequests()) as proxy:
        passed_check(proxy.endpoint, s3_bucket.name)
        through = S3Bucket(proxy.endpoint, s3_bucket.name, s3_bucket.client)
        with platform_without_snowflake(tmp_path, exchange, through, redis_url) as platform:
            yield platform, proxy


def requests_of(proxy: FaultyS3, part: str) -> list[str]:
    """The methods of the requests whose path has this part, forgetting all requests so far."""
    found = [each.split(" ")[0] for each in proxy.requests if part in each]
    proxy.requests.clear()
    return sorted(found)


def test_object_costs_one_request(proxied: tuple[Platform, FaultyS3]) -> None:
    """No object is read or listed before it is replaced, and an ended hour is not written again."""
    platform, proxy = proxied
    ingest(platform, 58)
    for minute in (59, 60, 61, 62, 63):
        proxy.requests.clear()
        ingest(platform, minute)
        assert not [each for each in proxy.requests if "list-type=2" in each]
        assert requests_of(proxy, "/ohlcv/") == ["PUT"] * len(SYMBOLS), minute
    assert on_lake(platform) == NOON + 62 * MINUTE


def test_corrected_candle_of_an_ended_hour_is_stored(
    proxied: tuple[Platform, FaultyS3],
) -> None:
    """The last minute of an hour came late: the run that reads the hour once more stores it."""
    platform, _ = proxied
    ingest(platform, 59)
    platform.exchange.outages("2026-11-20T12:59:00Z/2026-11-20T13:00:00Z/BTCUSDT")
    ingest(platform, 60)
    platform.exchange.outages()
    ingest(platform, 61)
    assert on_lake(platform) == NOON + 60 * MINUTE
