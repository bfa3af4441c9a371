"""Dagster's runs, schedules and sensors in SQLite, with connections that stay open. Events are in
event_log.py, the same in PostgreSQL in postgres_storage.py, and the choice in storage_choice.py.

Dagster's own classes open the file for every query, and the last connection to close writes SQLite's log back
into the file each time. They also read all of their migrations whenever an instance is made, and the code
server makes an instance for each evaluation of a sensor. All this took 3.1 of the 4.8 CPU seconds a minute of
Dagster's daemon and code server.

Necessary because of `connect` and `from_local` of Dagster 1.13's `SqliteRunStorage` and
`SqliteScheduleStorage`. The module can go with the version whose SQLite storage keeps its engines, or where
Dagster's storage is PostgreSQL.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from alembic.runtime.migration import MigrationContext
from dagster import Field, StringSource
from sqlalchemy import Connection, Engine, create_engine, inspect
from sqlalchemy.event import listen
from sqlalchemy.pool import QueuePool

from pipeline_assets.dagster_instance.found_once import RunTables, ScheduleTables
from pipeline_assets.dagster_instance.private_storage import (
    SQLITE_BUSY_TIMEOUT_SECONDS,
    ConfigurableClassData,
    SqliteRunStorage,
    SqliteScheduleStorage,
    create_db_conn_string,
)
from pipeline_assets.dagster_instance.storage_directory import storage_directory

# A process has one instance, so two files. Only tests open more.
_KEPT = 8


def open_engine(conn_string: str, pool_size: int) -> Engine:
    """Return an engine whose connections stay open.

    A commit survives the end of the process, and is on the disk with SQLite's next checkpoint
    (`synchronous=NORMAL`, which in write-ahead mode never leaves a torn file).
    """
    engine = create_engine(
        conn_string,
        poolclass=QueuePool,
        pool_size=pool_size,
        # Dagster's threads never wait for one another's connections.
        max_overflow=-1,
        connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
    )
    listen(engine, "connect", _without_waiting_for_the_disk)
    return engine


def _without_waiting_for_the_disk(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=NORMAL")


@dataclass
class _File:
    """A database file that this process keeps open, and what the process has found in the file."""

    identity: tuple[int, int] | None
    engine: Engine
    found: set[str] = field(default_factory=set)


class _Files:
    """The open files of this process, by connection string."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._inherited: list[object] = []

    def get(self, conn_string: str) -> _File:
        """Return a file, opened if necessary."""
        with self._lock:
            held = self._files.get(conn_string)
            if held is None:
                held = _File(_identity(conn_string), open_engine(conn_string, pool_size=5))
                self._files[conn_string] = held
            self._files.move_to_end(conn_string)
            while len(self._files) > _KEPT:
                # A connection in use outlives its engine, and is closed when it is given back.
                self._files.popitem(last=False)[1].engine.dispose()
            return held

    def has(self, conn_string: str) -> bool:
        """Return whether the file is open and was not replaced by another; close a replaced file."""
        with self._lock:
            held = self._files.get(conn_string)
            if held is not None and held.identity != _identity(conn_string):
                self._files.pop(conn_string).engine.dispose()
                return False
            return held is not None

    def after_fork(self) -> None:
        """Open all files anew. SQLite's connections must be neither used nor closed by a forked process."""
        self._inherited.append(self._files)
        self._lock, self._files = threading.Lock(), OrderedDict()


def _identity(conn_string: str) -> tuple[int, int] | None:
    try:
        found = Path(conn_string.removeprefix("sqlite:///")).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _is_complete(conn_string: str, table: str) -> bool:
    """Return whether the file has the table, and the revision with which Dagster stamps complete tables."""
    if _identity(conn_string) is None:
        return False
    with _files.get(conn_string).engine.connect() as connection:
        context = MigrationContext.configure(connection)
        return context.get_current_revision() is not None and inspect(connection).has_table(table)


_files = _Files()
os.register_at_fork(after_in_child=_files.after_fork)


class _OpenFile:
    """Keeps what Dagster's classes make anew for every query. A table that was found once stays there."""

    STORAGE: ClassVar[str]
    BELOW_HOME: ClassVar[str]
    FILE: ClassVar[str]
    # The table that Dagster's own method makes last.
    LAST_TABLE: ClassVar[str]
    _conn_string: str

    @classmethod
    def config_type(cls) -> Any:
        """`base_dir`: where the file is; by default where Dagster's own class has it."""
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Any:
        """Return the storage. Dagster's own method makes the tables where some are missing."""
        directory = storage_directory(config_value, cls.STORAGE, cls.BELOW_HOME)
        conn_string = create_db_conn_string(directory, cls.FILE)
        kind: Any = cls
        if _files.has(conn_string) or _is_complete(conn_string, cls.LAST_TABLE):
            return kind(conn_string, inst_data)
        return kind.from_local(directory, inst_data)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Provide a connection in a transaction."""
        with _files.get(self._conn_string).engine.begin() as connection:
            yield connection

    def _found(self) -> set[str]:
        return _files.get(self._conn_string).found


class PooledSqliteRunStorage(_OpenFile, RunTables, SqliteRunStorage):
    """The same file as Dagster's own class writes, so either may be used on it at any time."""

    STORAGE, BELOW_HOME, FILE, LAST_TABLE = "run_storage", "history", "runs", "instance_info"


class PooledSqliteScheduleStorage(_OpenFile, ScheduleTables, SqliteScheduleStorage):
    """The same file as Dagster's own class writes, so either may be used on it at any time."""

    STORAGE, BELOW_HOME, FILE, LAST_TABLE = "schedule_storage", "schedules", "schedules", "jobs"
