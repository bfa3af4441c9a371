"""What passes between steps, on a real S3 server."""

import errno
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from pipeline_assets.market.candles import empty_raw
from pipeline_assets.market.interval import Interval
from pipeline_assets.resources.object_store import ObjectStore, StoredObject
from pipeline_assets.resources.staging import (
    Output,
    Staged,
    StagingError,
    newest_first,
    read_frames,
    write_frames,
)

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
    keys = [key for run in runs for key in (run.plan, run.set_aside, *map(run.key, Output))]
    assert len(set(keys)) == len(keys) == 10


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StagingError),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), StagingError),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), ConnectionResetError),
        (PermissionError(errno.EACCES, "Permission denied"), PermissionError),
    ],
)
def test_only_a_disk_that_is_full_is_told_as_one(s3_bucket, error, told) -> None:
    store = ObjectStore(s3_bucket.settings())
    write_frames(store, "raw/1m/a.parquet", empty_raw(), [])
    with pytest.raises(told), read_frames(store, "raw/1m/a.parquet"):
        raise error


def test_frames_that_end_in_an_error_leave_what_was_stored_before(s3_bucket) -> None:
    def frames():
        yield empty_raw().clear(3)
        raise ValueError("no more")

    store = ObjectStore(s3_bucket.settings())
    write_frames(store, "raw/1m/a.parquet", empty_raw(), [])
    before = store.get("raw/1m/a.parquet")
    with pytest.raises(ValueError, match="no more"):
        write_frames(store, "raw/1m/a.parquet", empty_raw(), frames())
    assert store.get("raw/1m/a.parquet") == before
