"""The output of runs on S3: dagster-aws' class with the product's own settings of S3, and without the empty
files. Whether output is on S3 at all is compute_logs.py's choice.
"""

import os
from collections.abc import Sequence
from functools import cache
from typing import Any

from pipeline_assets.private_apis import private_imports, require_names
from pipeline_assets.resources.s3_clients import boto3_client
from pipeline_assets.settings import load_settings

with private_imports("dagster-aws", __name__):
    from dagster._core.storage.compute_log_manager import ComputeIOType
    from dagster._serdes import ConfigurableClassData
    from dagster_aws.s3.compute_log_manager import S3ComputeLogManager

require_names(
    "dagster-aws",
    S3ComputeLogManager,
    ("cloud_storage_has_logs", "local_manager", "is_capture_complete"),
    __name__,
)


class ComputeLogsOnS3(S3ComputeLogManager):  # type: ignore[misc] # dagster_aws is not typed
    """Output is kept below `directory` until its step has ended, then in the bucket."""

    def __init__(
        self, bucket: str, directory: str, inst_data: ConfigurableClassData | None = None
    ) -> None:
        super().__init__(bucket, local_dir=directory, inst_data=inst_data, skip_empty_files=True)
        require_names("dagster-aws", self, ("_s3_session", "_s3_bucket"), __name__)

    @property
    def _s3_session(self) -> Any:
        return _client()

    @_s3_session.setter
    def _s3_session(self, session: Any) -> None:
        """Drop the session that dagster-aws makes, with an address and credentials of its own."""

    def is_capture_complete(self, log_key: Sequence[str]) -> bool:
        """Return whether the output is whole: also that of a step which wrote to standard output only."""
        if super().is_capture_complete(log_key):
            return True
        found: bool = self.cloud_storage_has_logs(log_key, ComputeIOType.STDOUT)
        return found


@cache
def _client() -> Any:
    """Return the client of this process, made at its first use: Dagster makes many instances."""
    return boto3_client(load_settings().s3, attempts=3, connect_timeout=5.0, read_timeout=20.0)


# A connection must not be shared with the parent process.
os.register_at_fork(after_in_child=_client.cache_clear)
