"""Dagster's event log in SQLite, with connections that stay open. Dagster decides which events to log; their
removal is in dagster_instance/event_storage.py, and the choice of a storage in storage_choice.py.

Dagster's own class makes an engine and a connection for every event, three of them for one of an
asset, and the last connection to close writes SQLite's log back into its file each time: 10 ms of
CPU an event, a fifth of a backfill's time. With connections kept, and what the tables have looked
up once, it is 2 ms.

Necessary because of Dagster 1.13's `SqliteEventLogStorage._connect`, which makes an engine without a pool
at each call, and of `supports_asset_checks`, which looks for its table at each event (dagster-io/dagster
pull request 34154 mentions that caching it is left open). It can go with the version whose SQLite storage
keeps its engines, or where Dagster's storage is PostgreSQL.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Self

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from dagster import Field, StringSource
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DatabaseError

from pipeline_assets.dagster_instance.found_once import EventTables
from pipeline_assets.dagster_instance.private_storage import (
    ConfigurableClassData,
    SqlEventLogStorageMetadata,
    SqliteEventLogStorage,
    get_alembic_config,
    sqlite_event_log,
)
from pipeline_assets.dagster_instance.sqlite_storage import open_engine
from pipeline_assets.dagster_instance.storage_directory import storage_directory
from pipeline_assets.private_apis import require_names

# A run's events are in a file of its own; who looks at many runs must not keep them all open.
_KEPT = 8


class PooledSqliteEventLogStorage(EventTables, SqliteEventLogStorage):
    """The same files as Dagster's own class writes, so either may be used on them at any time.

    One thread at a time is at the files, as there. A commit survives the end of the process, and is
    on the disk with SQLite's next checkpoint (`synchronous=NORMAL`, which in write-ahead mode never
    leaves a torn file): a power cut may take the last events of the runs that it ended anyway.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        """See `from_config_value`."""
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._there: set[str] = set()
        super().__init__(base_dir, inst_data)
        require_names("dagster", self, ("_db_lock", "_initialized_dbs"), __name__)

    @classmethod
    def config_type(cls) -> Any:
        """`base_dir`: where the files are; by default where Dagster's own class has them."""
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:
        """Made by Dagster from dagster.yaml."""
        directory = storage_directory(config_value, "event_log_storage", "history", "runs")
        return cls(directory, inst_data)

    def _found(self) -> set[str]:
        return self._there

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:
        """Make the tables of a run's file, unless they are there.

        Dagster's own reads its 89 migrations twice for a new file, and once for each process that opens the
        file: 0.09 s and 0.03 s of CPU a run. Here a process reads the migrations once.
        """
        if for_index_shard:
            super()._initdb(engine, for_index_shard=True)
            return
        try:
            with engine.begin() as connection:
                if MigrationContext.configure(connection).get_current_revision() is not None:
                    return
            with engine.connect() as connection:
                connection.execute(text("PRAGMA journal_mode=WAL"))
            SqlEventLogStorageMetadata.create_all(engine)
            with engine.begin() as connection:
                MigrationContext.configure(connection).stamp(_migrations(), "head")
        except DatabaseError:
            # Another process makes the same tables. Dagster's own waits, and completes what is missing.
            super()._initdb(engine)

    def _engine(self, shard: str) -> Engine:
        engine = self._engines.pop(shard, None)
        if engine is None:
            engine = open_engine(self.conn_string_for_shard(shard), pool_size=1)
        self._engines[shard] = engine
        while len(self._engines) > _KEPT:
            # A connection in use outlives its engine, and is closed when it is given back.
            self._engines.popitem(last=False)[1].dispose()
        return engine

    def dispose(self) -> None:
        """Close the files."""
        with self._db_lock:
            while self._engines:
                self._engines.popitem()[1].dispose()
        super().dispose()


@cache
def _migrations() -> ScriptDirectory:
    return ScriptDirectory.from_config(get_alembic_config(sqlite_event_log.__file__))
