"""The output of runs in files, or on S3 by a setting."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance
from dagster._core.storage.compute_log_manager import ComputeLogManager
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

from pipeline_assets.dagster_instance.s3_compute_logs import _client
from pipeline_assets_tests.fixtures.s3 import S3Bucket

LOG = ["run-1", "compute_logs", "step"]
KEY = "dagster/storage/run-1/compute_logs/step"


@pytest.fixture
def logs_on_s3(
    home: Path, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ComputeLogManager]:
    """Provide the manager of dagster.yaml, with the product's settings of S3 and none of AWS' own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_bucket.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIPELINE_DAGSTER__LOG_BUCKET", s3_bucket.name)
    _client.cache_clear()
    with DagsterInstance.get() as instance:
        yield instance.compute_log_manager
    _client.cache_clear()


def stored(bucket: S3Bucket) -> list[str]:
    found = bucket.client.list_objects_v2(Bucket=bucket.name)
    return [each["Key"] for each in found.get("Contents", [])]


def write(logs: ComputeLogManager, capfd: pytest.CaptureFixture[str], **streams: str) -> None:
    # Dagster redirects the process's own output, which pytest has redirected already.
    with capfd.disabled(), logs.capture_logs(LOG):
        for name, text in streams.items():
            print(text, flush=True, file=getattr(sys, name))


def test_output_stays_on_s3_with_its_run(
    logs_on_s3: ComputeLogManager,
    home: Path,
    s3_bucket: S3Bucket,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Output is readable on another machine, and goes with its run."""
    write(logs_on_s3, capfd, stdout="a line", stderr="a warning")
    assert stored(s3_bucket) == [f"{KEY}.err", f"{KEY}.out"]
    shutil.rmtree(home / "storage")
    data = logs_on_s3.get_log_data(LOG)
    assert b"a line" in (data.stdout or b"")
    assert b"a warning" in (data.stderr or b"")
    logs_on_s3.delete_logs(prefix=["run-1"])
    assert stored(s3_bucket) == []


def test_empty_files_are_left_out(
    logs_on_s3: ComputeLogManager, s3_bucket: S3Bucket, capfd: pytest.CaptureFixture[str]
) -> None:
    """A step that wrote to standard output only has one object, and counts as ended."""
    assert not logs_on_s3.is_capture_complete(LOG)
    write(logs_on_s3, capfd, stdout="a line")
    assert stored(s3_bucket) == [f"{KEY}.out"]
    assert logs_on_s3.is_capture_complete(LOG)
    shown = logs_on_s3.get_log_metadata(LOG)
    assert shown.stdout_location == f"s3://{s3_bucket.name}/{KEY}.out"


def test_output_is_in_files_by_default(home: Path) -> None:
    with DagsterInstance.get() as instance:
        logs = instance.compute_log_manager
        assert isinstance(logs, LocalComputeLogManager)
        assert logs.get_captured_local_path(LOG, "out").startswith(f"{home / 'storage'}/")
