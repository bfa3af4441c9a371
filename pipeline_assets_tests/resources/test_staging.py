"""What passes between steps, on a real S3 server."""

import errno

import pytest

from pipeline_assets.market.candles import empty_raw
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import StagingError, write_frames


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
    def frames():
        yield empty_raw()
        raise error

    store = ObjectStore(s3_bucket.settings())
    with pytest.raises(told):
        write_frames(store, "raw/1m/a.parquet", empty_raw(), frames())
    assert list(store.objects("raw/")) == []
