"""Candidates on a real S3 server: repeats change nothing, and finalizing, wherever it stops, loses none."""

import datetime as dt
import io
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline_assets.market.candidates import candidate_schema
from pipeline_assets.resources.candidate_objects import (
    LATE,
    day_key,
    finalize_candidates,
    read_candidates,
    read_stored,
    store_candidates,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError
from pipeline_assets_tests.fixtures.kafka import MIDNIGHT, candidates
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.market.frames import candidates_frame

DAY = MIDNIGHT.date()
NEXT = DAY + dt.timedelta(days=1)
real_server = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def store(s3_bucket: S3Bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


def frame(minutes: int = 1, symbols: int = 1, **changes: object) -> pl.DataFrame:
    return candidates_frame(candidates(minutes, symbols, **changes))


def contents(store: ObjectStore) -> dict[str, bytes]:
    return {each.key: store.get(each.key) for each in store.objects("candidates/")}


def test_stored_candidates_are_read_by_day(store: ObjectStore) -> None:
    """Stored candidates are read by day, in order."""
    given_ = frame(minutes=4, symbols=3)
    (key,) = store_candidates(store, given_.reverse())
    assert key.startswith("candidates/1m/20261119/0000-")
    assert_frame_equal(read_candidates(store, DAY), given_)


def test_midnight_splits_candidates_by_day(store: ObjectStore) -> None:
    """Candidates on both sides of midnight become an object for each day."""
    given_ = frame(minutes=2, start=MIDNIGHT + dt.timedelta(hours=23, minutes=59))
    first, second = store_candidates(store, given_)
    assert first.startswith("candidates/1m/20261119/2359-")
    assert second.startswith("candidates/1m/20261120/0000-")
    for day, row in ((DAY, 0), (NEXT, 1)):
        assert_frame_equal(read_candidates(store, day), given_[row])


def test_nothing_stored_gives_empty_frame(store: ObjectStore) -> None:
    """If nothing is stored, the reader returns a frame without rows."""
    assert store_candidates(store, frame(minutes=0)) == []
    assert_frame_equal(read_candidates(store, DAY), candidate_schema().to_frame())
    assert finalize_candidates(store, DAY) is None


def test_repeat_writes_the_same_object(store: ObjectStore) -> None:
    """The same candidates written again give the same object; other candidates give another."""
    store_candidates(store, frame(minutes=2))
    once = contents(store)
    store_candidates(store, frame(minutes=2))
    assert contents(store) == once
    store_candidates(store, frame(minutes=3))
    assert len(contents(store)) == 2
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=3))


def test_first_created_row_of_id_counts(store: ObjectStore) -> None:
    """If rows share an id, the row that was created first counts."""
    store_candidates(store, frame(minutes=2, found=dt.timedelta(minutes=20)))
    store_candidates(store, frame(minutes=1))
    read = read_candidates(store, DAY)
    assert (read["created_at"] - read["open_time"]).to_list() == [
        dt.timedelta(seconds=63),
        dt.timedelta(minutes=20),
    ]


@real_server
@given(data=st.data())
def test_same_rows_give_same_bytes(store: ObjectStore, data: st.DataObject) -> None:
    """The same rows give the same bytes."""
    rows = candidates(minutes=3, symbols=4)
    (key,) = store_candidates(store, candidates_frame(rows))
    body = store.get(key)
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    parts = [candidates_frame(shuffled[:cut]), candidates_frame(shuffled[cut:])]
    store.delete([key])
    assert store_candidates(store, pl.concat(parts, rechunk=False)) == [key]
    assert store.get(key) == body


def test_finalized_day_is_one_stable_object(store: ObjectStore) -> None:
    """A finalized day is one object, and finalizing again changes nothing."""
    for minute in range(5):
        store_candidates(store, frame(start=MIDNIGHT + dt.timedelta(minutes=minute)))
    finalized = finalize_candidates(store, DAY)
    assert finalized is not None
    assert (finalized.key, finalized.rows, finalized.absorbed) == (day_key(DAY), 5, 5)
    once = contents(store)
    assert list(once) == [day_key(DAY)]
    again = finalize_candidates(store, DAY)
    assert again is not None
    assert (again.rows, again.absorbed) == (5, 0)
    assert contents(store) == once
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=5))


def test_candidates_after_finalizing_are_kept(store: ObjectStore) -> None:
    """Candidates stored after finalizing are read, and merged when the day is finalized again."""
    store_candidates(store, frame(minutes=5))
    finalize_candidates(store, DAY)
    store_candidates(store, frame(minutes=8, start=MIDNIGHT + dt.timedelta(minutes=3)))
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=11))
    finalized = finalize_candidates(store, DAY)
    assert finalized is not None
    assert (finalized.rows, finalized.absorbed) == (11, 1)
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=11))


def test_finalizing_one_day_leaves_the_others(store: ObjectStore) -> None:
    whole = frame(minutes=2, start=MIDNIGHT + dt.timedelta(hours=23, minutes=59))
    _, tomorrow = store_candidates(store, whole)
    finalize_candidates(store, DAY)
    assert set(contents(store)) == {day_key(DAY), tomorrow}


class Crash(BaseException):
    """The process ends here."""


def crashing(bucket: S3Bucket, number: int, event: str) -> ObjectStore:
    """A store whose process ends before or after its write of this number."""
    writes = 0

    def counted(write):
        def ending(*args: object) -> object:
            nonlocal writes
            writes += 1
            if (writes, "before") == (number, event):
                raise Crash
            result = write(*args)
            if (writes, "after") == (number, event):
                raise Crash
            return result

        return ending

    store = ObjectStore(bucket.settings())
    for operation in ("put", "put_if", "delete"):
        setattr(store, operation, counted(getattr(store, operation)))
    return store


@pytest.mark.parametrize("event", ["before", "after"])
@pytest.mark.parametrize("number", [1, 2])
def test_interrupted_finalize_is_completed_later(
    store: ObjectStore, s3_bucket: S3Bucket, number: int, event: str
) -> None:
    """A finalize that stops at any write is completed by the next."""
    for minute in range(3):
        store_candidates(store, frame(symbols=2, start=MIDNIGHT + dt.timedelta(minutes=minute)))
    with pytest.raises(Crash):
        finalize_candidates(crashing(s3_bucket, number, event), DAY)
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=3, symbols=2))
    finalize_candidates(store, DAY)
    assert list(contents(store)) == [day_key(DAY)]
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=3, symbols=2))


def test_concurrent_finalizes_lose_nothing(store: ObjectStore) -> None:
    """Two finalizing runs, a reader and a writer at the same time lose nothing."""
    early, late = frame(minutes=20), frame(minutes=20, start=MIDNIGHT + dt.timedelta(minutes=20))
    for minute in range(20):
        store_candidates(store, early[minute])

    def write_late() -> None:
        for minute in range(20):
            store_candidates(store, late[minute])

    with ThreadPoolExecutor(4) as pool:
        writing = pool.submit(write_late)
        finalizing = [pool.submit(finalize_candidates, store, DAY) for _ in range(2)]
        while not writing.done():
            seen = read_candidates(store, DAY)
            assert_frame_equal(seen.head(20), early)
        for each in (writing, *finalizing):
            each.result()
    finalize_candidates(store, DAY)
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=40))


def test_a_damaged_object_is_named(store: ObjectStore) -> None:
    (key,) = store_candidates(store, frame())
    store.put(key, b"PAR1 no more")
    with pytest.raises(ObjectStoreError, match=f"{key} is damaged"):
        read_candidates(store, DAY)
    with pytest.raises(ObjectStoreError, match=f"{key} is damaged"):
        finalize_candidates(store, DAY)
    assert store.get(key) == b"PAR1 no more"


def test_keeps_published_when_evaluated_again_late(store: ObjectStore) -> None:
    """A candidate stays published when its minute is evaluated again too late.

    As after a crash: the same minute is too old at the repeat, and Kafka has it all the same.
    """
    published, repeated = frame(minutes=2), frame(minutes=2, found=dt.timedelta(hours=2))
    store_candidates(store, published)
    store_candidates(store, repeated, late=True)
    late = frame(minutes=1, start=MIDNIGHT + dt.timedelta(minutes=5))
    store_candidates(store, late, late=True)
    for _ in range(2):
        stored = read_stored(store, DAY)
        assert stored[LATE].to_list() == [False, False, True]
        assert_frame_equal(read_candidates(store, DAY), pl.concat([published, late]))
        finalize_candidates(store, DAY)


def test_published_later_counts_as_published(store: ObjectStore) -> None:
    """A minute is evaluated again, now to be published, after the limit was raised."""
    store_candidates(store, frame(minutes=1), late=True)
    store_candidates(store, frame(minutes=1, found=dt.timedelta(hours=1)))
    assert read_stored(store, DAY)[LATE].to_list() == [False]


def test_objects_without_late_column_are_published(store: ObjectStore) -> None:
    """Objects without the late column, as earlier versions wrote, hold published candidates."""
    body = io.BytesIO()
    frame(minutes=3).write_parquet(body)
    store.put(f"candidates/1m/{DAY:%Y%m%d}.parquet", body.getvalue())
    stored = read_stored(store, DAY)
    assert stored[LATE].to_list() == [False] * 3
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=3))
