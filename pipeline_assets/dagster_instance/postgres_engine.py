"""Connections to the PostgreSQL of Dagster's storage: kept open by the process, tested before use, made anew
when the server was restarted. Tables and queries are Dagster's own: see postgres_storage.py.

Necessary because dagster-postgres opens a connection for every query (dagster-io/dagster issues 20325 and
33054): 85 of them for a run of four steps, 0.9 s of the server's CPU time. It can go with the version that
keeps connections open.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.pool import QueuePool

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.resources.postgres_tls import refuses_certificate, tls_remedy
from pipeline_assets.resources.retry import RetryPolicy
from pipeline_assets.settings import SettingsError

URL = "PIPELINE_DAGSTER__STORAGE_URL"
# Since SQLAlchemy 2.1, `postgresql` alone is another driver (dagster-io/dagster issue 33958).
DRIVER = "postgresql+psycopg2://"
# A restart takes seconds. A longer failover ends the runs that write meanwhile, and Dagster repeats these.
PATIENCE = RetryPolicy(deadline=30.0, first_wait=0.2, longest_wait=2.0, jitter=0.5)
_CONNECT_SECONDS = 10
# Without these, a server whose host is gone is noticed after a quarter of an hour.
_SILENCE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
# Likewise the server forgets a client whose host is gone, with its locks. Dagster's times are without a zone.
_OPTIONS = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=4 -c timezone=UTC"
# Refusals that a repeat does not change. The server's other refusals pass: it starts, stops, or is full.
_FINAL = (
    *("authentication failed", "does not exist", "no pg_hba.conf entry", "permission denied"),
    *("server does not support SSL", "invalid sslmode value"),
)


class StorageUnreachableError(OutsideSystemError):
    """PostgreSQL refuses a connection, or does not answer. The message does not have the password."""


@dataclass(frozen=True)
class Address:
    """A database, and the time in milliseconds after which the server ends a statement (0: never)."""

    url: SecretStr
    statement_timeout: int = 0


@dataclass(frozen=True)
class Database:
    """A database that this process holds connections to, and what the process has found in it."""

    address: Address
    engine: Engine
    lock: threading.Lock = field(default_factory=threading.Lock)
    found: set[str] = field(default_factory=set)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Provide a connection, on which each statement is a transaction of its own.

        Raises:
            StorageUnreachableError: the server does not answer in time, or refuses.
        """
        try:
            connection = PATIENCE.run(self.engine.connect, _may_pass)
        except (OperationalError, InterfaceError) as error:
            raise StorageUnreachableError(_explained(self.address, error)) from error
        with connection:
            yield connection


class Databases:
    """The databases of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Address, Database] = {}
        self._inherited: list[object] = []

    def get(self, address: Address) -> Database:
        """Return a database, whose first connection is made when it is used."""
        with self._lock:
            if address not in self._held:
                self._held[address] = Database(address, _open(address))
            return self._held[address]

    def after_fork(self) -> None:
        """Forget what the parent process holds: its connections must be neither used nor closed here."""
        self._inherited.append(self._held)
        self._lock, self._held = threading.Lock(), {}


databases = Databases()
os.register_at_fork(after_in_child=databases.after_fork)


def _open(address: Address) -> Engine:
    return create_engine(
        DRIVER,
        creator=partial(_connected, _parts(address.url), address.statement_timeout),
        isolation_level="AUTOCOMMIT",
        poolclass=QueuePool,
        pool_size=2,
        # Dagster's threads never wait for one another's connections.
        max_overflow=-1,
        # One round trip, so that a restart of the server is not an error of the next query.
        pool_pre_ping=True,
        pool_use_lifo=True,
    )


def _parts(url: SecretStr) -> dict[str, Any]:
    """Return the parts of an address. An error does not repeat the address, which has the password."""
    from psycopg2 import ProgrammingError
    from psycopg2.extensions import parse_dsn

    text = url.get_secret_value().replace("+psycopg2://", "://", 1)
    try:
        return dict(parse_dsn(text))
    except ProgrammingError:
        raise SettingsError(
            f"{URL} cannot be read. Write special characters of a password as %23 (#), %2F (/) or %40 (@). "
            "Example: postgresql://dagster:…@db.example.com:5432/dagster?sslmode=verify-full"
        ) from None


def _connected(parts: dict[str, Any], statement_timeout: int) -> Any:
    import psycopg2

    ours: dict[str, Any] = {
        "connect_timeout": _CONNECT_SECONDS,
        "application_name": "dagster",
        # A database of encoding SQL_ASCII gives bytes for text otherwise.
        "client_encoding": "UTF8",
        # The one of several hosts that is no standby.
        "target_session_attrs": "read-write",
        **_SILENCE,
    }
    options = f"{_OPTIONS} -c statement_timeout={statement_timeout}"
    chosen = {**ours, **parts, "options": f"{parts.get('options', '')} {options}".strip()}
    return psycopg2.connect(**chosen)


def _may_pass(error: BaseException) -> bool:
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    said = str(error.orig)
    return not refuses_certificate(said) and not any(text in said for text in _FINAL)


def place(address: Address) -> str:
    """Return host, port and database of an address, without user and password."""
    parts = _parts(address.url)
    return f"{parts.get('host', '')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


def _explained(address: Address, error: OperationalError | InterfaceError) -> str:
    parts, where = _parts(address.url), place(address)
    reason = " ".join(str(error.orig).split())
    remedy = tls_remedy(reason, parts, URL) or (
        "Check that the server runs and accepts connections from here, and user, password and database in "
        f"{URL}"
    )
    return f"Dagster's storage, PostgreSQL at {where}, cannot be used: {reason}. {remedy}."
