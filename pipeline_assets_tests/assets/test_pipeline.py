"""From the exchange to objects, slots and tables: what is stored is what the exchange serves."""

import io
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import redis
from dagster import ExecuteInProcessResult
from polars.testing import assert_frame_equal

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.finalized_days import Absence, read_finalized
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures.exchange import start_exchange
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform

START = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)


def everything(platform: Platform, interval: str, start: datetime, end: datetime) -> pl.DataFrame:
    return pl.concat(platform.truth(interval, symbol, start, end) for symbol in sorted(SYMBOLS))


def test_backfill_stores_the_exchanges_candles(platform: Platform) -> None:
    """A backfill stores exactly the candles that the exchange serves."""
    for interval in ("1m", "15m", "1h"):
        assert platform.backfill(interval, "2026-11-18", "2026-11-20").success
        truth = everything(
            platform, interval, datetime(2026, 11, 18, tzinfo=UTC), START + timedelta(days=1)
        )
        assert truth.height > 3 * 50
        assert_frame_equal(platform.stored(interval), truth)
        if interval != "1m":
            assert platform.table(interval) == truth.rows()


def test_ingest_equals_exchange_every_minute(platform: Platform) -> None:
    """An ingest run at every minute stores the exchange's candles."""
    begins = datetime(2026, 11, 20, 12, 58, 5, tzinfo=UTC)
    for minute in range(5):
        platform.exchange.set_clock(begins + timedelta(minutes=minute))
        assert platform.ingest("1m").success
    truth = everything(
        platform, "1m", datetime(2026, 11, 20, tzinfo=UTC), begins + timedelta(hours=1)
    )
    assert_frame_equal(platform.stored("1m"), truth)
    for symbol in SYMBOLS:
        newest = truth.filter(pl.col("symbol") == symbol).tail(15)
        slots = platform.slots(symbol)
        assert len(slots) == 15
        for row in newest.rows(named=True):
            held = slots[row["open_time"].minute % 15]
            assert held["open_time"] == row["open_time"].timestamp() * 1000
            assert held["close"] == row["close"]


MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)


def assert_slots_are_the_newest_fifteen(platform: Platform, newest: datetime) -> None:
    """Every symbol's fifteen slots hold what the exchange serves up to the open time `newest`."""
    for symbol in SYMBOLS:
        begin = newest - timedelta(minutes=14)
        truth = platform.truth("1m", symbol, begin, newest + timedelta(minutes=1))
        assert truth.height == 15
        times = pl.col("open_time", "close_time").dt.epoch("ms")
        expected = {
            row["open_time"] // 60_000 % 15: {k: v for k, v in row.items() if k != "symbol"}
            for row in truth.with_columns(times).rows(named=True)
        }
        assert platform.slots(symbol) == expected


def etags(platform: Platform, prefix: str = "ohlcv/") -> dict[str, tuple[str, datetime]]:
    """Every object's ETag and time of writing."""
    pages = platform.bucket.client.get_paginator("list_objects_v2")
    return {
        entry["Key"]: (entry["ETag"], entry["LastModified"])
        for page in pages.paginate(Bucket=platform.bucket.name, Prefix=prefix)
        for entry in page.get("Contents", ())
    }


def metadata_of(result: ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    node = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in node[0].metadata.items()}


def test_days_last_minute_stays_in_day(
    minutes: Platform,
) -> None:
    """The last minute of a day belongs to it, although it is stored after midnight."""
    last = MIDNIGHT - timedelta(minutes=1)
    minutes.exchange.set_clock(MIDNIGHT + timedelta(seconds=5))
    minutes.ingest("1m", "2026-11-19")
    newest = minutes.stored("1m").group_by("symbol").agg(pl.col("open_time").max())
    assert newest["open_time"].to_list() == [last] * len(SYMBOLS)
    keys = minutes.objects("ohlcv/1m/BTCUSDT/")
    assert sorted(keys)[-1] == "ohlcv/1m/BTCUSDT/20261119_2300.parquet"
    assert_slots_are_the_newest_fifteen(minutes, last)

    minutes.exchange.set_clock(MIDNIGHT + timedelta(minutes=1, seconds=5))
    minutes.ingest("1m", "2026-11-20")
    assert sorted(minutes.objects("ohlcv/1m/BTCUSDT/"))[-1].endswith("20261120_0000.parquet")
    # The fetch holds one minute of today; the other fourteen are yesterday's.
    assert_slots_are_the_newest_fifteen(minutes, MIDNIGHT)


def test_finalizing_absorbs_the_hours(platform: Platform) -> None:
    """Finalizing makes one object of a day and absorbs its hours."""
    for interval in ("1m", "15m", "1h"):
        platform.exchange.set_clock(MIDNIGHT - timedelta(hours=2, seconds=-5))
        platform.ingest(interval, "2026-11-19")
    hours = [key for key in platform.objects("ohlcv/1m/BTCUSDT/") if "20261119" in key]
    assert len(hours) == 22
    platform.exchange.set_clock(MIDNIGHT + timedelta(minutes=5, seconds=5))
    assert platform.run("seal", "2026-11-19").success
    day = MIDNIGHT - timedelta(days=1)
    for interval, rows in (("1m", 1440), ("15m", 96), ("1h", 24)):
        for symbol in SYMBOLS:
            [(key, body)] = platform.objects(f"ohlcv/{interval}/{symbol}/").items()
            assert key == f"ohlcv/{interval}/{symbol}/20261119_0000.parquet"
            file = pq.ParquetFile(io.BytesIO(body))
            assert file.metadata.num_rows == rows
            message = {k.decode(): v.decode() for k, v in file.metadata.metadata.items()}
            assert datetime.fromisoformat(message["window_start"]) == day
            assert datetime.fromisoformat(message["window_end"]) == MIDNIGHT
            assert (message["symbol"], message["interval"]) == (symbol, interval)
        truth = everything(platform, interval, day, MIDNIGHT)
        assert_frame_equal(platform.stored(interval), truth)
        if interval != "1m":
            assert platform.table(interval) == truth.rows()


def test_late_ingest_finalizes_nothing(minutes: Platform) -> None:
    """A late ingest run stores the candles that are due now and finalizes nothing."""
    minutes.exchange.set_clock(MIDNIGHT - timedelta(hours=3, seconds=-5))
    minutes.ingest("1m")
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=9, seconds=5))
    late = minutes.ingest("1m", "2026-11-19")
    assert metadata_of(late, "raw_candles_1m")["kind of run"] == "tick"
    stored = minutes.stored("1m").filter(pl.col("open_time") >= MIDNIGHT)
    assert_frame_equal(stored, everything(minutes, "1m", MIDNIGHT, MIDNIGHT + timedelta(days=1)))
    assert (
        read_finalized(ObjectStore(minutes.settings.s3), Interval.ONE_MINUTE, date(2026, 11, 19))
        == {}
    )


def test_finalizing_keeps_vanished_symbol(
    minutes: Platform,
) -> None:
    """Finalizing keeps a symbol for which the exchange has no candles any more."""
    minutes.exchange.set_clock(MIDNIGHT - timedelta(hours=20, seconds=-5))
    minutes.ingest("1m")
    before = minutes.stored("1m", "ETHUSDT")
    assert before.height == 4 * 60
    minutes.exchange.outages("2026-11-19T00:00:00Z/2026-11-20T00:00:00Z/ETHUSDT")
    minutes.exchange.set_clock(MIDNIGHT + timedelta(minutes=5, seconds=5))
    minutes.run("backfill_1m", "2026-11-19")
    assert_frame_equal(minutes.stored("1m", "ETHUSDT"), before)
    assert list(minutes.objects("ohlcv/1m/ETHUSDT/")) == ["ohlcv/1m/ETHUSDT/20261119_0000.parquet"]
    finalized = read_finalized(ObjectStore(minutes.settings.s3), Interval("1m"), date(2026, 11, 19))
    assert finalized.keys() == set(SYMBOLS)
    # The exchange confirmed that it has none of these; the four hours are stored.
    since = MIDNIGHT - timedelta(hours=20)
    assert finalized["ETHUSDT"].missing == ((Window(since, MIDNIGHT), Absence.CONFIRMED),)
    assert finalized["BTCUSDT"].missing == ()


def test_one_ingest_heals_missed_ones(minutes: Platform) -> None:
    """One ingest run stores the candles of all runs that were missed."""
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=6, minutes=20, seconds=5))
    minutes.ingest("1m")
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=9, minutes=41, seconds=5))
    minutes.ingest("1m")
    truth = everything(minutes, "1m", MIDNIGHT, MIDNIGHT + timedelta(days=1))
    assert truth.height == len(SYMBOLS) * (9 * 60 + 41)
    assert_frame_equal(minutes.stored("1m"), truth)
    assert_slots_are_the_newest_fifteen(minutes, MIDNIGHT + timedelta(hours=9, minutes=40))


@pytest.mark.parametrize("minute", [2, 3, 13, 14])
def test_lake_refills_lost_slots(minutes: Platform, minute: int) -> None:
    """Slots that Redis lost are filled again from the lake."""
    before = MIDNIGHT + timedelta(hours=12, minutes=minute, seconds=5)
    minutes.exchange.set_clock(before)
    minutes.ingest("1m")
    redis.Redis.from_url(minutes.settings.redis.url).flushdb()
    minutes.exchange.set_clock(before + timedelta(minutes=1))
    healed = metadata_of(minutes.ingest("1m"), "candle_slots_1m")
    newest = MIDNIGHT + timedelta(hours=12, minutes=minute)
    assert_slots_are_the_newest_fifteen(minutes, newest)
    fetched = minute + 1
    assert healed["slots filled from the lake"] == len(SYMBOLS) * (15 - fetched)
    minutes.exchange.set_clock(before + timedelta(minutes=2))
    assert metadata_of(minutes.ingest("1m"), "candle_slots_1m")["slots filled from the lake"] == 0


def test_old_slots_are_not_current(
    minutes: Platform,
) -> None:
    """Slots of a quarter of an hour ago do not count as current after Redis was away.

    Redis keeps its old slots, the lake goes on, and the hour turns while Redis is away.
    """
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=12, minutes=49, seconds=5))
    minutes.ingest("1m")
    client = redis.Redis.from_url(minutes.settings.redis.url)
    held = {key: client.dump(key) for key in client.scan_iter("ohlcv:1m:*")}
    for minute in (57, 61):
        minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=12, minutes=minute, seconds=5))
        minutes.ingest("1m")
    for key, value in held.items():
        client.restore(key, 1_800_000, value, replace=True)
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=13, minutes=4, seconds=5))
    minutes.ingest("1m")
    assert_slots_are_the_newest_fifteen(minutes, MIDNIGHT + timedelta(hours=13, minutes=3))


def test_new_symbol_has_few_slots(minutes: Platform) -> None:
    """A symbol listed minutes ago has as many slots as candles."""
    with start_exchange(
        symbols="BTCUSDT,ETHUSDT",
        clock="stepped:2026-11-20T12:05:05Z",
        listed="ETHUSDT=2026-11-20T12:02:00Z",
    ) as own:
        young = minutes.with_settings(
            symbols=("BTCUSDT", "ETHUSDT"), binance={"rest_url": own.url.removesuffix("/fapi")}
        )
        young.exchange = own
        young.ingest("1m")
        assert sorted(young.slots("ETHUSDT")) == [2, 3, 4]
        assert len(young.slots("BTCUSDT")) == 15
        checks = young.ingest("1m").get_asset_check_evaluations()
        assert all(check.passed for check in checks)


def test_ingest_reaches_the_table(platform: Platform) -> None:
    """Ingest runs of 15m and 1h reach the table."""
    for minute in (1, 15, 60):
        platform.exchange.set_clock(MIDNIGHT + timedelta(hours=12, minutes=minute, seconds=5))
        for interval in ("15m", "1h"):
            assert platform.ingest(interval).success
            truth = everything(platform, interval, MIDNIGHT, MIDNIGHT + timedelta(days=1))
            assert platform.table(interval) == truth.rows()
            assert_frame_equal(platform.stored(interval), truth)
    keys = [key for i in ("15m", "1h") for key in platform.objects(f"ohlcv/{i}/")]
    assert {key.split("/")[3] for key in keys} == {"20261120_0000.parquet"}


def test_repeated_ingest_run_changes_nothing(platform: Platform) -> None:
    first = platform.ingest("15m")
    assert metadata_of(first, "candle_table_15m")["rows inserted"] == 48 * len(SYMBOLS)
    platform.ingest("1m")
    before, objects = etags(platform), platform.objects("ohlcv/")
    slots = [platform.slots(symbol) for symbol in SYMBOLS]
    again = metadata_of(platform.ingest("15m"), "candle_table_15m")
    assert (again["rows inserted"], again["rows updated"]) == (0, 0)
    assert metadata_of(platform.ingest("1m"), "candle_slots_1m")["slots written"] == 0
    assert {k: etag for k, (etag, _) in etags(platform).items()} == {
        k: etag for k, (etag, _) in before.items()
    }
    assert platform.objects("ohlcv/") == objects
    assert [platform.slots(symbol) for symbol in SYMBOLS] == slots


def test_a_backfill_repeated_changes_nothing(platform: Platform) -> None:
    days = ("2026-11-18", "2026-11-19")
    first = platform.backfill("1h", *days)
    rows = 2 * 24 * len(SYMBOLS)
    assert metadata_of(first, "candle_table_1h")["rows inserted"] == rows
    before, objects = etags(platform), platform.objects("ohlcv/")
    again = platform.backfill("1h", *days, refresh=True)
    assert metadata_of(again, "candle_objects_1h")["objects changed"] == 0
    loaded = metadata_of(again, "candle_table_1h")
    assert (loaded["rows read"], loaded["rows inserted"], loaded["rows updated"]) == (rows, 0, 0)
    assert platform.objects("ohlcv/") == objects
    assert {k: etag for k, (etag, _) in etags(platform).items()} == {
        k: etag for k, (etag, _) in before.items()
    }
    assert len(platform.table("1h")) == rows


def test_old_backfill_leaves_slots_alone(minutes: Platform) -> None:
    """A backfill of old days leaves the slots alone."""
    minutes.ingest("1m")
    slots = [minutes.slots(symbol) for symbol in SYMBOLS]
    minutes.backfill("1m", "2026-11-17", symbols=["BTCUSDT"])
    assert [minutes.slots(symbol) for symbol in SYMBOLS] == slots


def test_partial_backfill_stores_only_its_symbols(minutes: Platform) -> None:
    """A backfill of some symbols stores only those."""
    minutes.backfill("1m", "2026-11-19", symbols=["1000PEPEUSDT"])
    assert minutes.stored("1m")["symbol"].unique().to_list() == ["1000PEPEUSDT"]
    finalized = read_finalized(
        ObjectStore(minutes.settings.s3), Interval.ONE_MINUTE, date(2026, 11, 19)
    )
    assert list(finalized) == ["1000PEPEUSDT"]


def test_ingest_during_backfill_loses_nothing(minutes: Platform) -> None:
    """An ingest run during a backfill of today loses nothing."""
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=3, minutes=20, seconds=5))
    minutes.ingest("1m")
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=4, minutes=10, seconds=5))
    minutes.backfill("1m", "2026-11-20")
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=4, minutes=12, seconds=5))
    minutes.ingest("1m")
    truth = everything(minutes, "1m", MIDNIGHT, MIDNIGHT + timedelta(days=1))
    assert_frame_equal(minutes.stored("1m"), truth)


def test_damaged_object_is_replaced(minutes: Platform) -> None:
    """A damaged object is replaced, unread: its day was fetched whole, so its rows could add nothing."""
    minutes.backfill("1m", "2026-11-19")
    whole, key = minutes.objects("ohlcv/"), "ohlcv/1m/ETHUSDT/20261119_0000.parquet"
    client, name = minutes.bucket.client, minutes.bucket.name
    client.put_object(Bucket=name, Key=key, Body=whole[key][:1000])
    minutes.backfill("1m", "2026-11-19")
    assert minutes.objects("ohlcv/") == whole
    assert minutes.objects("damaged/") == {}
