"""The output of runs on S3, by the configuration that docs/production.md shows."""

import shutil
from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance

from pipeline_assets.local.stack import REPOSITORY
from pipeline_assets_tests.fixtures.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Bucket

LOG = ["run-1", "compute_logs", "step"]


def test_output_of_runs_is_kept_on_s3_until_the_run_is_deleted(
    s3_bucket: S3Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
    page = (REPOSITORY / "docs" / "production.md").read_text("utf-8")
    shown = yaml.safe_load(page.partition("```yaml\ncompute_logs:")[2].partition("```")[0])
    shown["config"] |= {
        "bucket": s3_bucket.name,
        "endpoint_url": s3_bucket.endpoint,
        "local_dir": str(tmp_path / "local"),
    }
    with DagsterInstance.local_temp(str(tmp_path), {"compute_logs": shown}) as instance:
        logs = instance.compute_log_manager
        # Dagster redirects the process's own output, which pytest has redirected already.
        with capfd.disabled(), logs.capture_logs(LOG):
            print("a line", flush=True)
        found = s3_bucket.client.list_objects_v2(Bucket=s3_bucket.name)["Contents"]
        assert [each["Key"] for each in found] == ["dagster/storage/run-1/compute_logs/step.out"]
        shutil.rmtree(tmp_path / "local")
        assert b"a line" in (logs.get_log_data(LOG).stdout or b"")
        logs.delete_logs(prefix=["run-1"])
        assert "Contents" not in s3_bucket.client.list_objects_v2(Bucket=s3_bucket.name)
