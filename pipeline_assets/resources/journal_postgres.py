"""The order gateway's journal in PostgreSQL: a table a journal, one transaction a call, one writer.

The interface, numbers and checksums are in journal.py, the choice in journals.py. Nothing here connects
again by itself: after a lost connection the caller cannot know what is stored, and has to read first.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr

from pipeline_assets.errors import PipelineError
from pipeline_assets.resources.journal import (
    RESTORE,
    JournalDamagedError,
    JournalError,
    checked,
    numbered,
)
from pipeline_assets.resources.postgres_connection import URL, connect, limited, parts_of, remedy
from pipeline_assets.resources.postgres_tls import PARTS, tls_remedy

# A server that does not answer for this long is given up.
_ANSWER_SECONDS = 10.0
# The server notices the end of a killed writer within milliseconds.
_LOCK_SECONDS = 5.0
# The first half of the advisory locks' keys; the second half is the table's number.
_LOCK_CLASS = 0x6F726472
_PAGE = 5_000
_COLUMNS = [("seq", "bigint", True), ("body", "bytea", True), ("checksum", "bigint", True)]
_CORRUPT = ("XX001", "XX002")


class PostgresJournal:
    """A journal in a table of its own. One thread at a time may use it.

    Numbers are given here and are the primary key, as in the file. An advisory lock of the session keeps a
    second writer from opening the table; a lost connection releases the lock.
    """

    def __init__(
        self, url: SecretStr, table: str, *, answer_seconds: float = _ANSWER_SECONDS
    ) -> None:
        """Connect, make the table if it is missing, and take its lock.

        Args:
            url: the database with user and password; never shown.
            table: the name, without a schema.
            answer_seconds: how long the server may be silent.

        Raises:
            SettingsError: the address cannot be read, or psycopg is not installed.
            JournalError: the server refuses or does not answer, or another process holds the table.
            JournalDamagedError: the table is no journal.
        """
        self._seconds, self._table, self._last = answer_seconds, table, 0
        parts = parts_of(url)
        place = f"{parts.get('host', '')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
        self._name = f"{table} in PostgreSQL at {place}"
        self._tls_parts = {name: parts[name] for name in PARTS if name in parts}
        with self._errors("opened"):
            self._connection = connect(parts, table, answer_seconds)
        try:
            with self._errors("opened"):
                self._prepare()
        except PipelineError:
            self.close()
            raise

    @property
    def name(self) -> str:
        """Table, server and database."""
        return self._name

    @property
    def last(self) -> int:
        """The number of the newest record."""
        return self._last

    def append(self, bodies: Sequence[bytes]) -> int:
        """Store records durably, all or none; return the number of the last one.

        Raises:
            JournalError: the server refused, or another process wrote to the table; or the connection was
                lost, and whether the records are stored is unknown. Then the journal is not usable any more.
        """
        from psycopg.sql import SQL, Identifier

        rows = numbered(self._last, bodies)
        # One statement is one transaction and one round trip.
        insert = SQL(
            "INSERT INTO {} SELECT * FROM unnest(%b::bigint[], %b::bytea[], %b::bigint[])"
        ).format(Identifier(self._table))
        with self._errors("written", unknown=True):
            self._connection.execute(insert, [list(column) for column in zip(*rows, strict=True)])
        self._last += len(rows)
        return self._last

    def read(self, after: int = 0, most: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield the records with a number above `after`, in order, at most `most`.

        Raises:
            JournalError: the server does not answer, or refuses.
            JournalDamagedError: a record is missing or is not what was written.
        """
        left = self._last if most is None else most
        while left > 0:
            page = self._page(after, min(left, _PAGE))
            yield from checked(page, after, self._name)
            after, left = after + len(page), left - len(page)
            if len(page) < _PAGE:
                return

    def close(self) -> None:
        """End the connection, which releases the lock."""
        self._connection.close()

    def _page(self, after: int, most: int) -> list[tuple[int, bytes, int]]:
        from psycopg.sql import SQL, Identifier

        select = SQL(
            "SELECT seq, body, checksum FROM {} WHERE seq > %s ORDER BY seq LIMIT %s"
        ).format(Identifier(self._table))
        with self._errors("read"):
            return self._connection.execute(select, (after, most), binary=True).fetchall()

    def _prepare(self) -> None:
        """Make sure that the table is there, durable, a journal, and this process's alone."""
        from psycopg.sql import SQL, Identifier

        table = Identifier(self._table)
        ask = self._connection.execute
        ask("SET synchronous_commit = on")
        if ask("SHOW fsync").fetchone() != ("on",):
            raise JournalError(
                f"The server of the journal {self._name} has fsync off, so a crash would lose orders. Set "
                "fsync = on in its postgresql.conf."
            )
        if ask("SELECT to_regclass(%s)", (table.as_string(),)).fetchone() == (None,):
            ask(
                SQL(
                    "CREATE TABLE IF NOT EXISTS {} (seq bigint PRIMARY KEY, body bytea NOT NULL, "
                    "checksum bigint NOT NULL)"
                ).format(table)
            )
        self._lock()
        self._require_journal()
        newest = SQL("SELECT coalesce(max(seq), 0) FROM {}").format(table)
        (self._last,) = _one(ask(newest).fetchone())

    def _lock(self) -> None:
        from psycopg.errors import LockNotAvailable

        ask, key = self._connection.execute, (_LOCK_CLASS, self._quoted)
        # Holds for later statements too: a table that someone locked is an error, not a long wait.
        ask(f"SET lock_timeout = {round(1000 * min(_LOCK_SECONDS, self._seconds / 2))}")
        try:
            ask("SELECT pg_advisory_lock(%s, %s::regclass::oid::int)", key)
        except LockNotAvailable as error:
            holder = ask(
                "SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE granted "
                "AND locktype = 'advisory' AND classid = %s AND objid = %s::regclass::oid",
                key,
            ).fetchone()
            raise JournalError(
                f"The journal {self._name} is held by {holder[0] if holder else 'another process'}: "
                "stop the second gateway."
            ) from error

    def _require_journal(self) -> None:
        ask, where = self._connection.execute, (self._quoted,)
        columns = ask(
            "SELECT attname, format_type(atttypid, NULL), attnotnull FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
            where,
        ).fetchall()
        key = ask(
            "SELECT indkey::text FROM pg_index WHERE indrelid = %s::regclass AND indisprimary",
            where,
        ).fetchone()
        kind = ask(
            "SELECT relkind::text, relpersistence::text FROM pg_class WHERE oid = %s::regclass",
            where,
        ).fetchone()
        if (columns, key, kind) != (_COLUMNS, ("1",), ("r", "p")):
            raise JournalDamagedError(
                f"{self._name} is no journal of this version: it must be a logged table (seq bigint "
                f"PRIMARY KEY, body bytea NOT NULL, checksum bigint NOT NULL). Name another database in "
                f"{URL}, or use the version that made the table."
            )

    @property
    def _quoted(self) -> str:
        from psycopg.sql import Identifier

        return Identifier(self._table).as_string()

    @contextmanager
    def _errors(self, done: str, *, unknown: bool = False) -> Iterator[None]:
        """Give up a silent server, and raise the product's errors."""
        import psycopg
        from psycopg import errors

        connection = getattr(self, "_connection", None)
        try:
            with limited(connection, self._seconds):
                yield
        except errors.UniqueViolation as error:
            raise JournalError(
                f"Another process wrote to the journal {self._name}: stop the second gateway."
            ) from error
        except psycopg.Error as error:
            said = (
                error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
            )
            if error.sqlstate in _CORRUPT:
                raise JournalDamagedError(
                    f"The journal {self._name} is damaged ({said}): {RESTORE}"
                ) from error
            failed = f"The journal {self._name} could not be {done}: {said}"
            if unknown and connection is not None and connection.closed:
                failed = (
                    f"The connection to the journal {self._name} was lost while records were written, and "
                    f"whether these are stored is unknown: {said}"
                )
            done_about_it = tls_remedy(said, self._tls_parts, URL) or remedy(error.sqlstate)
            raise JournalError(
                f"{failed}. {done_about_it}, and start the gateway again; it reads the journal "
                "first."
            ) from error


def _one(row: "tuple[Any, ...] | None") -> tuple[Any, ...]:
    """Return the row of a query that always has one."""
    assert row is not None  # noqa: S101 - an aggregate has a row
    return row
