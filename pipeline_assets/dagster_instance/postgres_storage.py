"""Dagster's runs, schedules and events in PostgreSQL: dagster-postgres' classes on the connections of
postgres_engine.py. Which storage is used is storage_choice.py's.
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar

import sqlalchemy
from sqlalchemy import Connection, Engine

from pipeline_assets.dagster_instance.found_once import EventTables, RunTables, ScheduleTables
from pipeline_assets.dagster_instance.postgres_engine import DRIVER, Address, Database, databases
from pipeline_assets.dagster_instance.postgres_schema import require_current_schema
from pipeline_assets.private_apis import private_imports, require_names

with private_imports("dagster-postgres", __name__):
    from dagster._serdes import ConfigurableClassData
    from dagster_postgres.event_log import PostgresEventLogStorage
    from dagster_postgres.run_storage import PostgresRunStorage
    from dagster_postgres.schedule_storage import PostgresScheduleStorage

_SHARED = ("_init_db", "optimize_for_webserver", "config_type")
for _kind, _names in (
    (PostgresRunStorage, ("connect", "migrate", "optimize", "has_run_stats_index_cols")),
    (PostgresScheduleStorage, ("connect", "has_instigators_table", "_has_instigators_table")),
    (PostgresEventLogStorage, ("_connect", "reindex_events", "reindex_assets", "has_table")),
):
    require_names("dagster-postgres", _kind, (*_SHARED, *_names), __name__)

# Any number that no other program locks in this database.
_LOCK = 7_205_759_403_792


class _Pooled:
    """Replaces the engine of dagster-postgres' classes, which keeps no connection open."""

    # The table by which dagster-postgres recognises that its tables are there.
    MAIN_TABLE: ClassVar[str]
    _address: Address

    def __init__(self, address: Address, inst_data: ConfigurableClassData | None = None) -> None:
        self._address = address
        own: Any = super()
        # Dagster's own would look for tables at each start. The address, with its password, stays out.
        own.__init__(DRIVER, should_autocreate_tables=False, inst_data=inst_data)
        self._make_tables()

    @property
    def _engine(self) -> Engine:
        # Asked for at each use: a forked process has another one.
        return self._database().engine

    @_engine.setter
    def _engine(self, engine: Engine) -> None:
        """Drop the engine that dagster-postgres makes."""

    def optimize_for_webserver(
        self, statement_timeout: int, pool_recycle: int, max_overflow: int
    ) -> None:
        """Let the server end statements that take longer than `statement_timeout` milliseconds."""
        del pool_recycle, max_overflow
        self._address = Address(self._address.url, statement_timeout)

    def _database(self) -> Database:
        return databases.get(self._address)

    def _found(self) -> set[str]:
        return self._database().found

    def _make_tables(self) -> None:
        """Make the tables in an empty database, while other processes that start wait.

        Raises:
            StorageUnreachableError: the database does not answer.
            StorageOutdatedError: its tables are those of an older Dagster.
        """
        database = self._database()
        with database.lock:
            if self.MAIN_TABLE in database.found:
                return
            with database.connect() as connection:
                connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({_LOCK})"))
                try:
                    if sqlalchemy.inspect(connection).has_table(self.MAIN_TABLE):
                        require_current_schema(connection, self._address)
                    else:
                        self._fill_database()
                finally:
                    connection.execute(sqlalchemy.text(f"SELECT pg_advisory_unlock({_LOCK})"))
            database.found.add(self.MAIN_TABLE)

    @abstractmethod
    def _fill_database(self) -> None:
        """Make the tables of this storage in an empty database."""


class PooledPostgresRunStorage(_Pooled, RunTables, PostgresRunStorage):
    """The same tables as Dagster's own class writes, so either may be used on them at any time."""

    MAIN_TABLE = "runs"

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Provide a connection."""
        with self._database().connect() as connection:
            yield connection

    def _fill_database(self) -> None:
        self._init_db()
        self.migrate()
        self.optimize()


class PooledPostgresScheduleStorage(_Pooled, ScheduleTables, PostgresScheduleStorage):
    """The same tables as Dagster's own class writes, so either may be used on them at any time."""

    MAIN_TABLE = "jobs"

    def connect(self, run_id: str | None = None) -> AbstractContextManager[Connection]:
        """Provide a connection."""
        del run_id
        return self._database().connect()

    def _fill_database(self) -> None:
        self._init_db()


class PooledPostgresEventLogStorage(_Pooled, EventTables, PostgresEventLogStorage):
    """The same tables as Dagster's own class writes, so either may be used on them at any time."""

    MAIN_TABLE = "event_logs"

    def has_secondary_index(self, name: str) -> bool:
        """Return whether an index was built."""
        own = super().has_secondary_index
        return self._once(f"index {name}", lambda: own(name))

    def _connect(self) -> AbstractContextManager[Connection]:
        return self._database().connect()

    def _fill_database(self) -> None:
        self._init_db()
        self.reindex_events()
        self.reindex_assets()
