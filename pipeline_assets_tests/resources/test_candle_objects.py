"""Candle objects on a real S3 server: writers in any order lose no stored candle."""

import io
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline_assets import lake
from pipeline_assets.market.encoding import encode_candles
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.candle_objects import (
    finalize_day,
    list_objects,
    object_key,
    window_start,
    write_candles,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import DamagedObjectError
from pipeline_assets_tests.fixtures.counting_s3 import KINDS, CountsRequests
from pipeline_assets_tests.fixtures.damage import flip_bit, store_damaged
from pipeline_assets_tests.fixtures.faulty_s3 import faulty_s3
from pipeline_assets_tests.fixtures.s3 import passed_check
from pipeline_assets_tests.market.frames import candle_frame, raw_row

DAY = date(2026, 11, 20)
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
HOUR = Window(MIDNIGHT.replace(hour=12), MIDNIGHT.replace(hour=13))
ONE = Interval.ONE_MINUTE
SYMBOL = "币安人生USDT"
real_server = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def store(s3_bucket):
    return ObjectStore(s3_bucket.settings())


def minutes(numbers, start=HOUR.start, **changes):
    """Candles of these minutes after `start`, each with its minute as its close."""
    return candle_frame(
        [
            raw_row(start + timedelta(minutes=n), ONE, SYMBOL, close=f"100.{n % 100:02}", **changes)
            for n in sorted(numbers)
        ]
    )


def stored_rows(store, key=None):
    body = store.get(key or object_key(ONE, SYMBOL, HOUR.start))
    return pl.read_parquet(io.BytesIO(body))


def clear(store):
    store.delete([each.key for each in store.objects("")])


def write(store, numbers, etag, window=HOUR):
    return write_candles(store, ONE, window, minutes(numbers), etag)


def test_key_names_interval_symbol_and_start():
    """An object's key gives the interval, the symbol and the start of its window."""
    key = object_key(ONE, SYMBOL, HOUR.start)
    assert key == "ohlcv/1m/币安人生USDT/20261120_1200.parquet"
    assert window_start(key) == HOUR.start


@pytest.mark.parametrize(
    "name",
    [
        *("readme.txt", "20261332_2500.parquet", "20261120_2400.parquet", "00000101_0000.parquet"),
        *("٢٠٢٦١١٢٠_٠٠٠٠.parquet", "20261120_0000.parquet\n"),
    ],
)
def test_foreign_keys_are_no_candle_objects(name):
    """Keys that other programs store are not taken for candle objects."""
    assert window_start(f"ohlcv/1m/BTCUSDT/{name}") is None


def test_a_repeated_write_changes_nothing(store):
    first = write(store, range(10), None)
    again = write(store, range(10), None)
    assert (first.changed, again.changed) == (True, False)
    assert (first.etag, first.rows, first.newest) == (again.etag, again.rows, again.newest)


def test_writer_with_current_etag_replaces(store):
    """A writer that knows the stored object replaces it."""
    known = write(store, range(10), None)
    after = write(store, range(12), known.etag)
    assert after.rows == 12
    assert_frame_equal(stored_rows(store), minutes(range(12)))


def test_writer_with_old_etag_merges_rows(store):
    """A writer that knows an earlier object merges its rows into the stored object."""
    known = write(store, range(10), None)
    write(store, range(20), known.etag)
    late = write(store, range(5, 11), known.etag)
    assert late.rows == 20
    assert_frame_equal(stored_rows(store), minutes(range(20)))


def test_later_written_candle_wins(store):
    """If both objects hold a candle, the one written later stays."""
    write(store, range(10), None)
    corrected = minutes(range(5, 6), volume="99.000")
    write_candles(store, ONE, HOUR, corrected, None)
    rows = stored_rows(store)
    assert rows["volume"].to_list() == [12.5] * 5 + [99.0] + [12.5] * 4


@pytest.mark.parametrize("with_digest", [True, False])
def test_damaged_object_is_kept_aside(store, s3_bucket, with_digest):
    """A damaged object counts as not stored, and its bytes are kept."""
    key = object_key(ONE, SYMBOL, HOUR.start)
    write(store, range(10), None)
    whole = store.get(key)
    damaged = flip_bit(whole, 99) if with_digest else whole[:-20]
    if with_digest:
        store_damaged(s3_bucket, key, whole, damaged)
    else:
        s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=key, Body=damaged)
    assert write(store, range(5, 12), None).rows == 7
    assert_frame_equal(stored_rows(store), minutes(range(5, 12)))
    [kept] = store.objects("damaged/")
    assert kept.key.startswith(f"damaged/{key}.")
    assert store.get(kept.key) == damaged


def test_finalize_replaces_damaged_object(store, s3_bucket):
    """A finalize replaces a damaged object by the candles that it fetched."""
    key, window = object_key(ONE, SYMBOL, MIDNIGHT), day_window(DAY)
    write_candles(store, ONE, window, minutes(range(1440), MIDNIGHT), None)
    whole = store.get(key)
    store_damaged(s3_bucket, key, whole, flip_bit(whole, 5000))
    stored = list_objects(store, ONE, SYMBOL, window.start, window.end)
    nothing = minutes(range(1), MIDNIGHT).clear()
    with pytest.raises(DamagedObjectError, match="nothing of its day was fetched"):
        finalize_day(store, ONE, DAY, nothing, stored)
    finalized = finalize_day(store, ONE, DAY, minutes(range(1440), MIDNIGHT), stored)
    assert finalized.rows == 1440
    assert store.get(key) == whole


def test_removed_object_is_written_anew(store):
    """An object removed in the meantime is written again."""
    known = write(store, range(10), None)
    clear(store)
    assert write(store, range(11), known.etag).rows == 11


@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 59), min_size=1), st.integers(0, 6)),
        min_size=1,
        max_size=6,
    )
)
@real_server
def test_no_writer_loses_candles(store, writes):
    """No writer loses a candle unless it replaces the object that it knows.

    Each writer has some minutes, and knows the object as it was before some earlier write.
    """
    clear(store)
    etags: list[str | None] = [None]
    expected: set[int] = set()
    for numbers, knows in writes:
        etag = etags[min(knows, len(etags) - 1)]
        # Same rows give the same ETag, so an object may be known again without being the newest.
        current = store.get_with_etag(object_key(ONE, SYMBOL, HOUR.start))
        replaces = current is not None and current[1] == etag
        expected = numbers if replaces else expected | numbers
        etags.append(write(store, numbers, etag).etag)
        assert_frame_equal(stored_rows(store), minutes(expected))


@given(st.lists(st.sets(st.integers(0, 59), min_size=1), min_size=2, max_size=5))
@real_server
def test_concurrent_writers_lose_nothing(store, parts):
    """Writers at the same time lose nothing."""
    clear(store)
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda numbers: write(store, numbers, None), parts))
    assert_frame_equal(stored_rows(store), minutes(set().union(*parts)))


# Finalizing


def hour_windows(hours):
    return [Window(MIDNIGHT + timedelta(hours=h), MIDNIGHT + timedelta(hours=h + 1)) for h in hours]


def store_hours(store, hours):
    for window in hour_windows(hours):
        write_candles(store, ONE, window, minutes(range(60), window.start), None)


def listed(store, day=DAY):
    window = day_window(day)
    return list_objects(store, ONE, SYMBOL, window.start, window.end)


def whole_day():
    return minutes(range(1440), MIDNIGHT)


def test_finalizing_leaves_one_day_object(store):
    """Finalizing leaves one object with the day's candles."""
    store_hours(store, range(24))
    finalized = finalize_day(store, ONE, DAY, whole_day(), listed(store))
    assert [each.key for each in listed(store)] == [finalized.key]
    assert finalized.key == "ohlcv/1m/币安人生USDT/20261120_0000.parquet"
    assert_frame_equal(stored_rows(store, finalized.key), whole_day())


def test_finalizing_reads_no_object_that_fetched_rows_replace(store, s3_bucket):
    """A day that was fetched whole costs a listing, a write and a removal; a stored row fills a hole."""
    store_hours(store, range(24))
    with faulty_s3(s3_bucket.endpoint, CountsRequests()) as proxy:
        passed_check(proxy.endpoint, s3_bucket.name)
        counted = ObjectStore(s3_bucket.settings(endpoint_url=proxy.endpoint))
        finalize_day(counted, ONE, DAY, whole_day(), listed(counted))
        counts = proxy.fault.taken()
        store_hours(store, range(24))
        again = finalize_day(counted, ONE, DAY, minutes(range(1, 1440), MIDNIGHT), listed(counted))
    assert {kind: counts[kind] for kind in KINDS} == {"LIST": 1, "PUT": 1, "DELETE": 1, "GET": 0}
    assert again.rows == 1440


def test_finalized_bytes_ignore_former_content(store):
    """A finalized day has the same bytes whatever was stored before."""
    bodies = set()
    for hours in ([], [0], [3, 4], range(24)):
        clear(store)
        store_hours(store, hours)
        finalized = finalize_day(store, ONE, DAY, whole_day(), listed(store))
        bodies.add(store.get(finalized.key))
        again = finalize_day(store, ONE, DAY, whole_day(), listed(store))
        assert not again.changed
    assert bodies == {encode_candles(whole_day(), ONE, SYMBOL, day_window(DAY))}


@given(
    fetched=st.sets(st.integers(0, 1439), max_size=30),
    hours=st.sets(st.integers(0, 23), max_size=4),
)
@real_server
def test_finalizing_keeps_candles_no_longer_served(store, fetched, hours):
    """Finalizing keeps stored candles that the exchange does not serve any more."""
    clear(store)
    store_hours(store, hours)
    expected = fetched | {60 * hour + minute for hour in hours for minute in range(60)}
    if not expected:
        return
    finalize_day(store, ONE, DAY, minutes(fetched, MIDNIGHT), listed(store))
    finalize_day(store, ONE, DAY, minutes(fetched, MIDNIGHT), listed(store))
    (only,) = listed(store)
    assert stored_rows(store, only.key)["open_time"].to_list() == [
        MIDNIGHT + timedelta(minutes=number) for number in sorted(expected)
    ]


def test_ingest_after_finalizing_is_absorbed(store):
    """An ingest run after finalizing leaves one row a minute, and the next finalize absorbs its object."""
    store_hours(store, range(23))
    before = write_candles(store, ONE, hour_windows([23])[0], last_hour(range(59)), None)
    finalize_day(store, ONE, DAY, whole_day(), listed(store))
    write_candles(store, ONE, hour_windows([23])[0], last_hour(range(60)), before.etag)
    assert len(listed(store)) == 2
    window = day_window(DAY)
    read = lake.scan("1m", [SYMBOL], window.start, window.end, store=store).collect()
    assert_frame_equal(read, whole_day())
    finalize_day(store, ONE, DAY, whole_day(), listed(store))
    assert len(listed(store)) == 1


def last_hour(numbers):
    return minutes(numbers, MIDNIGHT.replace(hour=23)).with_columns(
        close=whole_day()["close"][1380 : 1380 + len(numbers)]
    )


def test_first_hour_ingest_keeps_finalized_day(store):
    """An ingest run of the first hour after finalizing keeps the finalized day."""
    first = write_candles(store, ONE, hour_windows([0])[0], minutes(range(59), MIDNIGHT), None)
    finalized = finalize_day(store, ONE, DAY, whole_day(), listed(store))
    late = write_candles(store, ONE, hour_windows([0])[0], minutes(range(60), MIDNIGHT), first.etag)
    assert (late.key, late.rows) == (finalized.key, 1440)
    assert_frame_equal(stored_rows(store, finalized.key), whole_day())


def test_readers_see_each_candle_once_throughout(store):
    """A reader has one row for each open time at every moment of finalizing.

    The day is written before the hours go: what a crash in between leaves is read as usual.
    """
    store_hours(store, range(24))
    hours = {each.key: store.get(each.key) for each in listed(store)}
    finalize_day(store, ONE, DAY, whole_day(), listed(store))
    left = [key for key in hours if key != listed(store)[0].key]
    window = day_window(DAY)
    for key in left[::6]:
        store.put(key, hours[key])
        read = lake.scan("1m", [SYMBOL], window.start, window.end, store=store).collect()
        assert_frame_equal(read, whole_day())


# Reading


def test_listing_holds_only_requested_days(store):
    """A listing holds the requested days and nothing else."""
    for days_ago in range(4):
        start = MIDNIGHT - timedelta(days=days_ago)
        store.put(object_key(ONE, SYMBOL, start), b"x")
        store.put(object_key(ONE, SYMBOL, start.replace(hour=23)), b"x")
        store.put(object_key(ONE, "BTCUSDT", start), b"x")
    store.put("ohlcv/1m/币安人生USDT/notes.txt", b"x")
    asked = list_objects(
        store, ONE, SYMBOL, MIDNIGHT - timedelta(days=2), MIDNIGHT - timedelta(hours=1)
    )
    assert [each.key.rsplit("/", 1)[1] for each in asked] == [
        "20261118_0000.parquet",
        "20261118_2300.parquet",
        "20261119_0000.parquet",
    ]


def test_span_within_day_finds_day_object(store):
    """A span that begins within a day finds the day's object."""
    finalize_day(store, ONE, DAY, whole_day(), [])
    start, end = MIDNIGHT.replace(hour=13, minute=7), MIDNIGHT.replace(hour=13, minute=9)
    read = lake.scan("1m", [SYMBOL, "ABSENTUSDT"], start, end, store=store).collect()
    assert read["open_time"].to_list() == [start, start + timedelta(minutes=1)]


def test_tradeless_candles_are_optional(store):
    """Candles without a trade are stored, and left out on demand."""
    quiet = minutes([1], volume="0", trades=0)
    write_candles(store, ONE, HOUR, pl.concat([minutes([0]), quiet]), None)
    spans = (HOUR.start, HOUR.end)
    assert lake.scan("1m", [SYMBOL], *spans, store=store).collect().height == 2
    traded = lake.scan("1m", [SYMBOL], *spans, zero_volume=False, store=store).collect()
    assert traded["open_time"].to_list() == [HOUR.start]


def test_nothing_stored_gives_empty_columns(store):
    """If nothing is stored, the frame has the same columns and no rows."""
    write(store, [0], None)
    read = lake.scan("1m", ["ABSENTUSDT"], HOUR.start, HOUR.end, store=store).collect()
    assert read.is_empty()
    assert read.schema == stored_rows(store).schema
