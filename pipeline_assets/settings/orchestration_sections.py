"""The settings of Dagster and Airflow: where they listen, who schedules, and the databases in which both keep
their records. Other sections are in sections.py.
"""

from typing import Literal

from pydantic import Field, SecretStr, field_validator

from pipeline_assets.settings.postgres_address import postgres_database
from pipeline_assets.settings.sections import Section, http_address


class DagsterSettings(Section):
    """Where Dagster's web server and code server listen, and who schedules."""

    host: str = "127.0.0.1"
    webserver_port: int = Field(23000, ge=1, le=65535, examples=[3000])
    code_server_port: int = Field(24000, ge=1, le=65535, examples=[4000])
    schedules: bool = Field(False, examples=[True])
    sensors: bool = Field(True, examples=[False])
    read_only: bool = Field(False, examples=[True])
    launcher: Literal["celery", "process"] = Field("celery", examples=["process"])
    # For links in reports, which are read elsewhere: the web server may stand behind a proxy.
    public_url: str | None = Field(None, examples=["https://dagster.example.com"])
    # Holds a password, so it is a secret. Unset: files below DAGSTER_HOME.
    storage_url: SecretStr | None = Field(
        None, examples=["postgresql://user:…@db.example.com:5432/dagster"]
    )

    # For the output of runs. Unset: files below DAGSTER_HOME.
    log_bucket: str | None = Field(None, min_length=3, max_length=63, examples=["my-dagster-logs"])

    @field_validator("public_url")
    @classmethod
    def _http(cls, value: str | None) -> str | None:
        return http_address(value)

    @field_validator("storage_url")
    @classmethod
    def _postgres(cls, value: SecretStr | None) -> SecretStr | None:
        return postgres_database(value)


class AirflowSettings(Section):
    """The embedded Airflow. When it schedules, Dagster's own schedules stay off."""

    enabled: bool = Field(False, examples=[True])
    port: int = Field(26000, ge=1, le=65535, examples=[8080])
    # Holds a password, so it is a secret. Unset: a file below the data directory.
    database_url: SecretStr | None = Field(
        None, examples=["postgresql://user:…@db.example.com:5432/airflow"]
    )

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: SecretStr | None) -> SecretStr | None:
        return postgres_database(value)
