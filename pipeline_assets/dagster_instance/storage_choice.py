"""Which storage Dagster uses: files below DAGSTER_HOME, or PostgreSQL where PIPELINE_DAGSTER__STORAGE_URL
names a database. dagster.yaml names the classes below, so neither an address nor a path is in dagster.yaml
or in what Dagster passes on to processes elsewhere.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

from dagster import Field, StringSource
from pydantic import SecretStr, ValidationError

from pipeline_assets.dagster_instance.storage_directory import storage_directory
from pipeline_assets.private_apis import private_imports
from pipeline_assets.settings import PREFIX, DagsterSettings, SettingsError, load_settings

with private_imports("dagster", __name__):
    from dagster._core.storage.event_log import EventLogStorage
    from dagster._core.storage.root import LocalArtifactStorage
    from dagster._core.storage.runs import RunStorage
    from dagster._core.storage.schedules import ScheduleStorage
    from dagster._serdes import ConfigurableClass, ConfigurableClassData

URL = f"{PREFIX}DAGSTER__STORAGE_URL"


def dagster_setting(key: str) -> Any:
    """Return a setting of the section `dagster`.

    The code server makes an instance for each evaluation of a sensor, and reading all settings takes 20 ms.
    So a setting that is in the environment, as under `pipeline-assets up`, is read alone.

    Raises:
        SettingsError: the setting is wrong.
    """
    given = os.environ.get(f"{PREFIX}DAGSTER__{key}".upper())
    if given is not None:
        with suppress(ValidationError):
            return getattr(DagsterSettings.model_validate({key: given}), key)
    return getattr(load_settings().dagster, key)


class _Chosen(ConfigurableClass):
    """Names no storage itself: makes the one that the settings choose."""

    # The class of each storage, in files and in PostgreSQL, with its module in this folder.
    FILES: ClassVar[tuple[str, str]]
    DATABASE: ClassVar[str]

    @classmethod
    def config_type(cls) -> Any:
        """`base_dir`: where the files are; by default where Dagster's own classes have them."""
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Any:
        """Return the chosen storage; called by Dagster.

        Raises:
            SettingsError: the database's driver is not installed.
            StorageUnreachableError: the database does not answer.
        """
        url: SecretStr | None = dagster_setting("storage_url")
        if url is None:
            return _named(*cls.FILES).from_config_value(inst_data, config_value)
        if find_spec("dagster_postgres") is None or find_spec("psycopg2") is None:
            raise SettingsError(
                f"{URL} needs dagster-postgres and psycopg2: pip install 'pipeline-assets[postgres]'."
            )
        from pipeline_assets.dagster_instance.postgres_engine import Address

        return _named("postgres_storage", cls.DATABASE)(Address(url), inst_data)


def _named(module: str, name: str) -> Any:
    return getattr(import_module(f"pipeline_assets.dagster_instance.{module}"), name)


class RunStorageOfSettings(RunStorage, _Chosen):
    """The storage of runs."""

    FILES = ("sqlite_storage", "PooledSqliteRunStorage")
    DATABASE = "PooledPostgresRunStorage"


class ScheduleStorageOfSettings(ScheduleStorage, _Chosen):
    """The storage of schedules and sensors."""

    FILES = ("sqlite_storage", "PooledSqliteScheduleStorage")
    DATABASE = "PooledPostgresScheduleStorage"


class EventLogStorageOfSettings(EventLogStorage, _Chosen):
    """The storage of events."""

    FILES = ("event_log", "PooledSqliteEventLogStorage")
    DATABASE = "PooledPostgresEventLogStorage"


class ArtifactStorageOfHome(LocalArtifactStorage):
    """DAGSTER_HOME of the process that asks, not of the one that made the instance's description."""

    @classmethod
    def config_type(cls) -> Any:
        """`base_dir`: the directory; by default DAGSTER_HOME."""
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> "ArtifactStorageOfHome":
        """Return the storage; called by Dagster."""
        return cls(storage_directory(config_value, "local_artifact_storage"), inst_data)
