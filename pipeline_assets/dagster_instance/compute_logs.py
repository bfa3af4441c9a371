"""Where the output of runs is kept: files below DAGSTER_HOME, or S3 where PIPELINE_DAGSTER__LOG_BUCKET names
a bucket. dagster.yaml names the class below. Events of runs are not output: see storage_choice.py.
"""

from typing import Any

from dagster import Field, StringSource

from pipeline_assets.dagster_instance.storage_choice import dagster_setting
from pipeline_assets.dagster_instance.storage_directory import storage_directory
from pipeline_assets.private_apis import private_imports

with private_imports("dagster", __name__):
    from dagster._core.storage.compute_log_manager import ComputeLogManager
    from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
    from dagster._serdes import ConfigurableClass, ConfigurableClassData


class ComputeLogsOfSettings(ComputeLogManager, ConfigurableClass):
    """Names no place itself: makes the manager that the settings choose."""

    @classmethod
    def config_type(cls) -> Any:
        """`base_dir`: where the files are; by default where Dagster's own class has them."""
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Any:
        """Return the chosen manager; called by Dagster."""
        directory = storage_directory(config_value, "compute_logs", "storage")
        bucket = dagster_setting("log_bucket")
        if bucket is None:
            return LocalComputeLogManager(directory, inst_data=inst_data)
        # It loads boto3.
        from pipeline_assets.dagster_instance.s3_compute_logs import ComputeLogsOnS3

        return ComputeLogsOnS3(bucket, directory, inst_data)
