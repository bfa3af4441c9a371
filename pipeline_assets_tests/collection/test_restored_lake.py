"""A lake that was copied while runs wrote to it, and goes on from the copy: no candle, candidate or row of
the warehouse is lost or doubled. docs/backup.md says why the copy has this order.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline_assets.collection.record_load import load_records
from pipeline_assets.resources import record_tables
from pipeline_assets.resources.candidate_objects import (
    finalize_candidates,
    read_stored,
    store_candidates,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.resources.warehouse_connection import WarehouseError
from pipeline_assets.resources.warehouse_statements import Sql
from pipeline_assets.trading.record_objects import Kind
from pipeline_assets_tests.fixtures.instance import instance_in_memory
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT, candidates
from pipeline_assets_tests.fixtures.lake_copy import DOCUMENTS, OBJECTS, copy_pass, selected
from pipeline_assets_tests.fixtures.platform import Platform
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import S3Bucket, S3Server, make_bucket
from pipeline_assets_tests.fixtures.trading_records import an_order, put
from pipeline_assets_tests.market.frames import candidates_frame

EVENING = datetime(2026, 11, 20, 20, 10, 5, tzinfo=UTC)
SYMBOLS = ("BTCUSDT", "ETHUSDT")


@pytest.fixture
def copy(s3_server: S3Server) -> S3Bucket:
    """Provide the bucket for the copy."""
    return make_bucket(s3_server)


@pytest.fixture
def running(minutes: Platform) -> Platform:
    """Provide the platform in the evening, after its first ingest run."""
    minutes.exchange.set_clock(EVENING)
    running = minutes.with_settings(symbols=SYMBOLS)
    pass_minutes(running, 0)
    return running


@pytest.fixture
def restore(copy: S3Bucket, redis_server: RedisServer) -> Iterator[Callable[[Platform], Platform]]:
    """Provide the platform over the copy: an empty Redis, and a Dagster that knows no run."""
    with instance_in_memory() as instance:

        def restored(running: Platform) -> Platform:
            redis_server.client().flushall()
            again = running.with_settings(s3={"bucket": copy.name})
            return replace(again, bucket=copy, instance=instance)

        yield restored


def pass_minutes(platform: Platform, count: int) -> None:
    """Let minutes pass, and execute the ingest run that is due then."""
    platform.exchange.advance(60 * count)
    platform.ingest("1m")


def finalize(platform: Platform) -> None:
    """Let midnight pass, and make the finished day one object a symbol."""
    pass_minutes(platform, 235)
    platform.backfill("1m", "2026-11-20", without="candle_slots_1m")


def lost(platform: Platform) -> int:
    """Return how many candles since the day began are not stored as the exchange has them."""
    start = EVENING.replace(hour=0, minute=0, second=0)
    return sum(
        truth.join(platform.stored("1m", symbol), on=truth.columns, how="anti").height
        for symbol in SYMBOLS
        for truth in [platform.truth("1m", symbol, start, platform.now())]
    )


def test_restored_lake_loses_no_candle(
    running: Platform, copy: S3Bucket, restore: Callable[[Platform], Platform]
) -> None:
    """The day is finalized during the first pass, which misses objects; the second has what replaced them."""
    copy_pass(running.bucket, copy, DOCUMENTS)
    pass_minutes(running, 1)
    assert copy_pass(running.bucket, copy, OBJECTS, lambda: finalize(running)) > 0
    assert copy_pass(running.bucket, copy, OBJECTS) == 0
    restored = restore(running)
    pass_minutes(restored, 1)
    assert lost(restored) == 0
    assert {len(restored.slots(symbol)) for symbol in SYMBOLS} == {15}


def test_documents_copied_last_lose_candles(
    running: Platform, copy: S3Bucket, restore: Callable[[Platform], Platform]
) -> None:
    """The reason for the order: a newer document says that candles are stored which the copy has not."""
    copy_pass(running.bucket, copy, OBJECTS)
    pass_minutes(running, 150)
    copy_pass(running.bucket, copy, DOCUMENTS)
    restored = restore(running)
    pass_minutes(restored, 1)
    assert lost(restored) > 0


def test_copied_candidates_are_whole(s3_bucket: S3Bucket, copy: S3Bucket) -> None:
    """The day's candidates are merged into one object during the first pass."""
    lake, restored = ObjectStore(s3_bucket.settings()), ObjectStore(copy.settings())
    first, second = candidates(2), candidates(5)[2:]
    day = MIDNIGHT.date()
    store_candidates(lake, candidates_frame(first))
    store_candidates(lake, candidates_frame(second))
    copy_pass(s3_bucket, copy, OBJECTS, lambda: finalize_candidates(lake, day))
    copy_pass(s3_bucket, copy, OBJECTS)
    ids = [each.id for each in (*first, *second)]
    assert sorted(read_stored(restored, day)["id"]) == sorted(ids)
    # The sensor's cursor is older than the lake, so it evaluates the last minutes again.
    store_candidates(restored, candidates_frame([*second, *candidates(6)[5:]]))
    assert read_stored(restored, day)["id"].is_unique().all()
    assert read_stored(restored, day).height == 6


@pytest.mark.parametrize("marks", [False, True])
def test_older_warehouse_gets_missing_rows(
    s3_bucket: S3Bucket, copy: S3Bucket, warehouse_settings: SimpleNamespace, marks: bool
) -> None:
    """A warehouse of an earlier time: the copy has no load marks, which would hide the lost row."""
    lake, restored = ObjectStore(s3_bucket.settings()), ObjectStore(copy.settings())
    warehouse = Warehouse(warehouse_settings.snowflake, s3_bucket.settings())
    put(lake, Kind.ORDERS, an_order(1), an_order(2))
    load_records(lake, warehouse, record_tables.ORDERS, None, "run")
    for each in (DOCUMENTS, OBJECTS):
        copy_pass(s3_bucket, copy, each)
    if marks:
        [mark] = lake.objects("state/loaded/")
        restored.put(mark.key, lake.get(mark.key) or b"")
    assert rows(warehouse, "delete from ORDERS where CLIENT_ID = 'order-2'") == [(1,)]
    moved = Warehouse(warehouse_settings.snowflake, copy.settings())
    if not marks:
        with pytest.raises(WarehouseError, match=f"but the lake is the bucket {copy.name}"):
            load_records(restored, moved, record_tables.ORDERS, None, "run")
    make_stage_again(moved)
    load_records(restored, moved, record_tables.ORDERS, None, "run")
    held = rows(warehouse, "select CLIENT_ID from ORDERS order by 1")
    assert held == [("order-1",), *([] if marks else [("order-2",)])]


@pytest.mark.parametrize(
    "key",
    [
        "state/15m.loaded.json",
        "state/1h.features.json",
        "state/loaded/orders.json",
        "state/views.json",
    ],
)
def test_load_marks_stay_behind(key: str) -> None:
    """Neither pass copies a document about the warehouse."""
    assert not any(selected(key, filters) for filters in (DOCUMENTS, OBJECTS))


def make_stage_again(warehouse: Warehouse) -> None:
    """Do what dropping the stage of orders does, which the embedded server cannot."""
    made = warehouse.sql.stage(record_tables.ORDERS.stage, record_tables.ORDERS.prefix)
    assert rows(warehouse, made.replace("STAGE IF NOT EXISTS", "OR REPLACE STAGE"))


def rows(warehouse: Warehouse, text: str) -> list[Any]:
    """Return the rows of a statement in the warehouse's schema."""
    return (
        warehouse.query("ask a test's question", Sql(text), lambda cursor: cursor.fetchall()) or []
    )
