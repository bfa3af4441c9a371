"""Frames that pass between steps, on a real S3 server."""

import errno
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipeline_assets.market.candles import empty_raw
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import (
    Output,
    Staged,
    StagingError,
    newest_first,
    read_document,
    read_frames,
    write_document,
    write_frames,
)
from pipeline_assets.resources.stored_objects import StoredObject
from pipeline_assets_tests.fixtures.damage import encoded_day, flip_bit, store_damaged

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Listing(ObjectStore):
    """A store that lists these keys, each written a second after the one before it."""

    def __init__(self, *keys: str) -> None:
        self._keys = keys

    def objects(self, prefix: str, start_after: str | None = None) -> Iterator[StoredObject]:
        for age, key in enumerate(self._keys):
            if key.startswith(prefix):
                yield StoredObject(key, "etag", 1, NOON + timedelta(seconds=age))


def test_outputs_are_listed_newest_first() -> None:
    """A range of days is listed too; keys of other outputs and of earlier versions are not."""
    days = date(2026, 11, 18), date(2026, 11, 20)
    written = [
        Staged(Interval.ONE_MINUTE, days[1], days[1], "b"),
        Staged(Interval.ONE_MINUTE, *days, "c"),
        Staged(Interval.ONE_MINUTE, days[1], days[1], "a"),
    ]
    store = Listing(
        "staging/1m/old.parquet",
        "staging/1m/old.plan.json",
        written[0].plan,
        *(each.key(Output.FORMATTED) for each in written),
        written[0].key(Output.OBJECTS),
    )
    assert newest_first(store, Interval.ONE_MINUTE, Output.FORMATTED) == written[::-1]
    assert newest_first(store, Interval.ONE_MINUTE, Output.OBJECTS) == written[:1]
    assert newest_first(store, Interval.ONE_MINUTE, Output.RAW) == []


def test_each_run_has_its_own_addresses() -> None:
    """Neither two runs of one day nor two outputs of one run share a key."""
    day = date(2026, 11, 20)
    runs = [Staged(Interval.ONE_MINUTE, day, day, run) for run in ("a", "b")]
    keys = [key for run in runs for key in (run.plan, run.rejected, *map(run.key, Output))]
    assert len(set(keys)) == len(keys) == 10


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StagingError),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), StagingError),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), ConnectionResetError),
        (PermissionError(errno.EACCES, "Permission denied"), PermissionError),
    ],
)
def test_only_full_disk_is_reported_so(s3_bucket, error, reported) -> None:
    """An error while frames are read is reported as a full disk only if the disk is full."""
    store = ObjectStore(s3_bucket.settings())
    write_frames(store, "raw/1m/a.parquet", empty_raw(), [])
    with pytest.raises(reported), read_frames(store, "raw/1m/a.parquet"):
        raise error


def test_failed_frames_leave_stored_ones(s3_bucket) -> None:
    """Frames that end in an error leave the stored ones in place."""

    def frames():
        yield empty_raw().clear(3)
        raise ValueError("no more")

    store = ObjectStore(s3_bucket.settings())
    write_frames(store, "raw/1m/a.parquet", empty_raw(), [])
    before = store.get("raw/1m/a.parquet")
    with pytest.raises(ValueError, match="no more"):
        write_frames(store, "raw/1m/a.parquet", empty_raw(), frames())
    assert store.get("raw/1m/a.parquet") == before


RAW = "raw/1m/a.parquet"
PLAN = "staging/1m/a.plan.json"


def test_damaged_page_is_detected(s3_bucket) -> None:
    """A damaged page of an object uploaded in parts is detected.

    An object uploaded in parts has no digest; each of its pages has a checksum.
    """
    store, numbers = ObjectStore(s3_bucket.settings()), random.Random(5)
    values = np.random.default_rng(5).random(900_000)
    frame = pl.DataFrame({"symbol": pl.repeat("BTCUSDT", 900_000, eager=True), "close": values})
    write_frames(store, RAW, frame.clear(), [frame])
    found = store.find(RAW)
    assert found is not None
    assert found.digest is None
    with read_frames(store, RAW) as frames:
        assert pl.concat(frames).equals(frame)
    for bit in numbers.sample(range(8000, len(found.body) * 8 - 20_000), 5):
        s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=RAW, Body=flip_bit(found.body, bit))
        with (
            pytest.raises(StagingError, match=r"raw/1m/a\.parquet is damaged"),
            read_frames(store, RAW) as frames,
        ):
            list(frames)


@pytest.mark.parametrize("what", ["empty", "magic number only", "HTML", "cut end"])
def test_undecodable_rows_are_named(s3_bucket, what) -> None:
    """Staged rows without a digest that cannot be decoded are named."""
    store, whole = ObjectStore(s3_bucket.settings()), encoded_day()
    body = {
        "empty": b"",
        "magic number only": b"PAR1",
        "HTML": b"<html>",
        "cut end": whole[:-9],
    }[what]
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=RAW, Body=body)
    with (
        pytest.raises(StagingError, match=r"raw/1m/a\.parquet is damaged"),
        read_frames(store, RAW) as frames,
    ):
        list(frames)


@pytest.mark.parametrize(
    "body",
    [b"", b'{"days": [', b"\xff\x00", b"[" * 100_000],
    ids=["empty", "cut", "no UTF-8", "nested too deeply"],
)
def test_invalid_staged_json_is_named(s3_bucket, body) -> None:
    """A staged document that is not JSON is named."""
    store = ObjectStore(s3_bucket.settings())
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=PLAN, Body=body)
    with pytest.raises(StagingError, match=r"a\.plan\.json is damaged.*Materialize"):
        read_document(store, PLAN)


def test_staged_digest_mismatch_is_named(s3_bucket) -> None:
    """Staged bytes that do not match their digest are named."""
    store = ObjectStore(s3_bucket.settings())
    write_document(store, PLAN, {"days": ["2026-11-19"]})
    assert read_document(store, PLAN) == {"days": ["2026-11-19"]}
    store_damaged(s3_bucket, PLAN, b'{"days":["2026-11-19"]}', b'{"days":["2026-11-18"]}')
    with pytest.raises(StagingError, match=r"a\.plan\.json is damaged.*Materialize"):
        read_document(store, PLAN)
    store_damaged(s3_bucket, RAW, encoded_day(), flip_bit(encoded_day(), 9000))
    with (
        pytest.raises(StagingError, match=r"raw/1m/a\.parquet is damaged"),
        read_frames(store, RAW),
    ):
        pass
