"""What passes between steps, on a real S3 server."""

import errno

import pytest

from pipeline_assets.market.candles import empty_raw
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import StagingError, read_frames, write_frames


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
