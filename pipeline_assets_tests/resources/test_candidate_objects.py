"""Candidates on a real S3 server: repeats change nothing, and no sealing, wherever it stops, loses one."""

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
    read_candidates,
    read_stored,
    seal_candidates,
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


def test_what_was_stored_is_read_by_day_in_order(store: ObjectStore) -> None:
    given_ = frame(minutes=4, symbols=3)
    (key,) = store_candidates(store, given_.reverse())
    assert key.startswith("candidates/1m/20261119/0000-")
    assert_frame_equal(read_candidates(store, DAY), given_)


def test_a_set_across_midnight_is_an_object_for_each_day(store: ObjectStore) -> None:
    given_ = frame(minutes=2, start=MIDNIGHT + dt.timedelta(hours=23, minutes=59))
    first, second = store_candidates(store, given_)
    assert first.startswith("candidates/1m/20261119/2359-")
    assert second.startswith("candidates/1m/20261120/0000-")
    for day, row in ((DAY, 0), (NEXT, 1)):
        assert_frame_equal(read_candidates(store, day), given_[row])


def test_nothing_stored_is_a_frame_without_rows(store: ObjectStore) -> None:
    assert store_candidates(store, frame(minutes=0)) == []
    assert_frame_equal(read_candidates(store, DAY), candidate_schema().to_frame())
    assert seal_candidates(store, DAY) is None


def test_a_repeat_writes_the_same_object_and_another_set_another(store: ObjectStore) -> None:
    store_candidates(store, frame(minutes=2))
    once = contents(store)
    store_candidates(store, frame(minutes=2))
    assert contents(store) == once
    store_candidates(store, frame(minutes=3))
    assert len(contents(store)) == 2
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=3))


def test_of_one_id_the_row_that_was_created_first_counts(store: ObjectStore) -> None:
    store_candidates(store, frame(minutes=2, found=dt.timedelta(minutes=20)))
    store_candidates(store, frame(minutes=1))
    read = read_candidates(store, DAY)
    assert (read["created_at"] - read["open_time"]).to_list() == [
        dt.timedelta(seconds=63),
        dt.timedelta(minutes=20),
    ]


@real_server
@given(data=st.data())
def test_the_same_rows_give_the_same_bytes(store: ObjectStore, data: st.DataObject) -> None:
    rows = candidates(minutes=3, symbols=4)
    (key,) = store_candidates(store, candidates_frame(rows))
    body = store.get(key)
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    parts = [candidates_frame(shuffled[:cut]), candidates_frame(shuffled[cut:])]
    store.delete([key])
    assert store_candidates(store, pl.concat(parts, rechunk=False)) == [key]
    assert store.get(key) == body


def test_a_sealed_day_is_one_object_and_sealing_again_changes_nothing(store: ObjectStore) -> None:
    for minute in range(5):
        store_candidates(store, frame(start=MIDNIGHT + dt.timedelta(minutes=minute)))
    sealed = seal_candidates(store, DAY)
    assert sealed is not None
    assert (sealed.key, sealed.rows, sealed.absorbed) == (day_key(DAY), 5, 5)
    once = contents(store)
    assert list(once) == [day_key(DAY)]
    again = seal_candidates(store, DAY)
    assert again is not None
    assert (again.rows, again.absorbed) == (5, 0)
    assert contents(store) == once
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=5))


def test_what_comes_after_the_sealing_is_read_and_absorbed_by_the_next(store: ObjectStore) -> None:
    store_candidates(store, frame(minutes=5))
    seal_candidates(store, DAY)
    store_candidates(store, frame(minutes=8, start=MIDNIGHT + dt.timedelta(minutes=3)))
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=11))
    sealed = seal_candidates(store, DAY)
    assert sealed is not None
    assert (sealed.rows, sealed.absorbed) == (11, 1)
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=11))


def test_sealing_one_day_leaves_the_others(store: ObjectStore) -> None:
    whole = frame(minutes=2, start=MIDNIGHT + dt.timedelta(hours=23, minutes=59))
    _, tomorrow = store_candidates(store, whole)
    seal_candidates(store, DAY)
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
def test_a_sealing_that_stops_at_any_write_is_finished_by_the_next(
    store: ObjectStore, s3_bucket: S3Bucket, number: int, event: str
) -> None:
    for minute in range(3):
        store_candidates(store, frame(symbols=2, start=MIDNIGHT + dt.timedelta(minutes=minute)))
    with pytest.raises(Crash):
        seal_candidates(crashing(s3_bucket, number, event), DAY)
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=3, symbols=2))
    seal_candidates(store, DAY)
    assert list(contents(store)) == [day_key(DAY)]
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=3, symbols=2))


def test_two_sealings_a_reader_and_a_writer_at_once_lose_nothing(store: ObjectStore) -> None:
    early, late = frame(minutes=20), frame(minutes=20, start=MIDNIGHT + dt.timedelta(minutes=20))
    for minute in range(20):
        store_candidates(store, early[minute])

    def write_late() -> None:
        for minute in range(20):
            store_candidates(store, late[minute])

    with ThreadPoolExecutor(4) as pool:
        writing = pool.submit(write_late)
        sealing = [pool.submit(seal_candidates, store, DAY) for _ in range(2)]
        while not writing.done():
            seen = read_candidates(store, DAY)
            assert_frame_equal(seen.head(20), early)
        for each in (writing, *sealing):
            each.result()
    seal_candidates(store, DAY)
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=40))


def test_a_damaged_object_is_named(store: ObjectStore) -> None:
    (key,) = store_candidates(store, frame())
    store.put(key, b"PAR1 no more")
    with pytest.raises(ObjectStoreError, match=f"{key} is damaged"):
        read_candidates(store, DAY)
    with pytest.raises(ObjectStoreError, match=f"{key} is damaged"):
        seal_candidates(store, DAY)
    assert store.get(key) == b"PAR1 no more"


def test_keeps_what_was_published_when_evaluated_again_late(store: ObjectStore) -> None:
    """As after a crash: the same minute is too old at the repeat, and Kafka has it all the same."""
    published, repeated = frame(minutes=2), frame(minutes=2, found=dt.timedelta(hours=2))
    store_candidates(store, published)
    store_candidates(store, repeated, late=True)
    late = frame(minutes=1, start=MIDNIGHT + dt.timedelta(minutes=5))
    store_candidates(store, late, late=True)
    for _ in range(2):
        stored = read_stored(store, DAY)
        assert stored[LATE].to_list() == [False, False, True]
        assert_frame_equal(read_candidates(store, DAY), pl.concat([published, late]))
        seal_candidates(store, DAY)


def test_published_later_counts_as_published(store: ObjectStore) -> None:
    """A minute is evaluated again, now to be published, after the limit was raised."""
    store_candidates(store, frame(minutes=1), late=True)
    store_candidates(store, frame(minutes=1, found=dt.timedelta(hours=1)))
    assert read_stored(store, DAY)[LATE].to_list() == [False]


def test_objects_without_the_late_column_hold_published_candidates(store: ObjectStore) -> None:
    """As earlier versions wrote them."""
    body = io.BytesIO()
    frame(minutes=3).write_parquet(body)
    store.put(f"candidates/1m/{DAY:%Y%m%d}.parquet", body.getvalue())
    stored = read_stored(store, DAY)
    assert stored[LATE].to_list() == [False] * 3
    assert_frame_equal(read_candidates(store, DAY), frame(minutes=3))
