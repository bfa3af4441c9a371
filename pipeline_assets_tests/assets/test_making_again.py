"""The recipes of docs/operations.md, "Making things again": what is lost is made again."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import redis
from dagster import AssetKey, DagsterInstance

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.finalized_days import read_sealed, sealed_days
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform

DAYS = ("2026-11-18", "2026-11-19")
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)


def asked(platform: Platform) -> int:
    """The klines requests that the exchange has had."""
    return sum(platform.exchange.state()["requests"].get("/fapi/v1/klines", {}).values())


def marks(platform: Platform) -> dict:
    store = ObjectStore(platform.settings.s3)
    return {
        day: read_sealed(store, Interval.ONE_MINUTE, day)
        for day in sealed_days(store, Interval.ONE_MINUTE)
    }


def test_damaged_documents_are_made_again_by_the_next_ingest_run(minutes: Platform) -> None:
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=2))
    minutes.tick("1m")
    documents = minutes.objects("state/")
    assert {"state/1m.json", "state/universe.json", "state/listings.json"} <= documents.keys()
    for key in documents:
        minutes.bucket.client.put_object(Bucket=minutes.bucket.name, Key=key, Body=b'{"newest":{')
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=2, minutes=1, seconds=10))
    assert minutes.tick("1m").success
    for key in ("state/1m.json", "state/universe.json", "state/listings.json"):
        assert json.loads(minutes.objects(key)[key]).keys() == json.loads(documents[key]).keys()
    assert minutes.stored("1m").height == 3 * 121


def test_lost_marks_are_written_again_by_a_backfill(minutes: Platform) -> None:
    minutes.backfill("1m", *DAYS)
    before, objects = marks(minutes), minutes.objects("ohlcv/")
    ObjectStore(minutes.settings.s3).delete(list(minutes.objects("state/sealed/")))
    assert marks(minutes) == {}
    minutes.backfill("1m", *DAYS)
    assert marks(minutes) == before
    assert minutes.objects("ohlcv/") == objects


def test_lost_slots_are_filled_by_the_next_ingest_run(minutes: Platform) -> None:
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=2))
    minutes.tick("1m")
    held = minutes.settings.redis
    password = held.password.get_secret_value() if held.password else None
    redis.Redis.from_url(held.url, password=password).flushdb()
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=2, minutes=1))
    minutes.tick("1m")
    for symbol in SYMBOLS:
        assert len(minutes.slots(symbol)) == 15


def test_an_empty_dagster_storage_turns_green_without_fetching(minutes: Platform) -> None:
    minutes.backfill("1m", *DAYS)
    before = asked(minutes)
    with DagsterInstance.ephemeral() as empty:
        anew = replace(minutes, instance=empty)
        anew.backfill("1m", *DAYS)
        for name in ("raw_candles_1m", "candles_1m", "candle_objects_1m"):
            assert empty.get_materialized_partitions(AssetKey(name)) == set(DAYS)
    assert asked(minutes) == before
