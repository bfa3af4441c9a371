"""The journal of the order gateway: numbered records that are on the disk before the caller goes on.

`Journal` is the interface. `SqliteJournal` keeps it in a file, in WAL mode with synchronous=FULL: a commit
returns after fsync. The one in PostgreSQL is in journal_postgres.py, the choice between the two in
journals.py, the meaning of a record in trading/records.py.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol
from zlib import crc32

from pipeline_assets.errors import DataError, OutsideSystemError

_BUSY_SECONDS = 5.0
# The form of the file. A newer version that changes it raises the number, and this one refuses the file.
_FORM = 0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (
    seq INTEGER PRIMARY KEY, body BLOB NOT NULL, checksum INTEGER NOT NULL
) STRICT
"""
# Follows the name of a damaged journal.
RESTORE = "restore it from its backup (docs/backup.md), and compare with the exchange."
_REMEDIES = {
    sqlite3.SQLITE_FULL: "Free space on its disk",
    sqlite3.SQLITE_IOERR: "Check its disk",
    sqlite3.SQLITE_BUSY: "End the process that holds it",
    sqlite3.SQLITE_LOCKED: "End the process that holds it",
    sqlite3.SQLITE_READONLY: "Let this user write the file and its directory",
    sqlite3.SQLITE_CANTOPEN: "Let this user write the file and its directory",
    sqlite3.SQLITE_PERM: "Let this user write the file and its directory",
    sqlite3.SQLITE_NOMEM: "Free memory",
}


class JournalError(OutsideSystemError):
    """The journal could not be written or read. The message says where and what to do."""


class JournalDamagedError(DataError):
    """The journal holds something else than was written. The message says where and what to do."""


class Journal(Protocol):
    """Numbered records, kept in order for all time."""

    @property
    def name(self) -> str:
        """Where the journal is, for people."""

    @property
    def last(self) -> int:
        """The number of the newest record."""

    def append(self, bodies: Sequence[bytes]) -> int:
        """Store records durably, all or none; return the number of the last one."""

    def read(self, after: int = 0, most: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield the records with a higher number, in order."""

    def close(self) -> None:
        """End the connection."""


def numbered(last: int, bodies: Sequence[bytes]) -> list[tuple[int, bytes, int]]:
    """Return the rows of new records: number, body and checksum."""
    return [(last + place, body, crc32(body)) for place, body in enumerate(bodies, 1)]


def checked(
    rows: Iterable[tuple[int, bytes, int]], after: int, name: str
) -> Iterator[tuple[int, bytes]]:
    """Yield records from rows, the first of which has the number `after` + 1.

    Raises:
        JournalDamagedError: a record is missing or is not what was written.
    """
    for expected, (seq, body, checksum) in enumerate(rows, after + 1):
        if seq != expected or crc32(body) != checksum:
            raise JournalDamagedError(
                f"Record {expected} of the journal {name} is missing or damaged: {RESTORE}"
            )
        yield seq, body


class SqliteJournal:
    """A journal in one file. One thread at a time may use it.

    Numbers are given here and are the primary key: a second writer's records collide with the first's and
    fail, whatever else went wrong.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it.

        Raises:
            JournalError: the file cannot be opened.
            JournalDamagedError: the file is no journal.
        """
        self._path = path
        with self._errors("opened"):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            path.chmod(0o600)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=FULL")
            self._require_form()
            self._connection.execute(_SCHEMA)
            (self._last,) = self._connection.execute(
                "SELECT coalesce(max(seq), 0) FROM journal"
            ).fetchone()

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self._path)

    @property
    def last(self) -> int:
        """The number of the newest record."""
        return int(self._last)

    def append(self, bodies: Sequence[bytes]) -> int:
        """Store records durably, all or none; return the number of the last one.

        Raises:
            JournalError: the disk is full, the file is locked, or another process wrote to it.
        """
        rows = numbered(self._last, bodies)
        with self._errors("written"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany("INSERT INTO journal VALUES (?, ?, ?)", rows)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        self._last += len(rows)
        return int(self._last)

    def read(self, after: int = 0, most: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Yield the records with a number above `after`, in order, at most `most`.

        Raises:
            JournalError: the file cannot be read.
            JournalDamagedError: a record is missing or is not what was written.
        """
        with self._errors("read"):
            rows = self._connection.execute(
                "SELECT seq, body, checksum FROM journal WHERE seq > ? ORDER BY seq LIMIT ?",
                (after, -1 if most is None else most),
            )
            yield from checked(rows, after, self.name)

    def pin(self) -> None:
        """Have later reads and backups of this object show the journal as it is now.

        Raises:
            JournalError: the file cannot be read.
        """
        with self._errors("read"):
            self._connection.execute("BEGIN")
            # The file's state is fixed by the first read.
            self._connection.execute("SELECT max(seq) FROM journal").fetchone()

    def backup(self, target: Path) -> None:
        """Write a consistent copy while the journal is in use; the new file is whole or not there.

        Raises:
            JournalError: the copy cannot be written, or exists.
        """
        if target.exists():
            raise JournalError(f"{target} exists: name a new file for the backup.")
        with (
            self._errors(f"copied to {target}", "repeat the backup"),
            # SQLite makes files beside the copy, too: on failure all of these go with their directory.
            TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as directory,
        ):
            part = Path(directory) / target.name
            with closing(sqlite3.connect(part)) as copy:
                part.chmod(0o600)
                self._connection.backup(copy)
            part.rename(target)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _require_form(self) -> None:
        """Refuse a file whose form this version does not know.

        Raises:
            JournalError: a newer version wrote the file.
        """
        (form,) = self._connection.execute("PRAGMA user_version").fetchone()
        if form > _FORM:
            self._connection.close()
            raise JournalError(
                f"A newer version wrote the journal {self._path} (form {form}, known is {_FORM}): use "
                "that version."
            )

    @contextmanager
    def _errors(self, done: str, then: str = "start the gateway again") -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise JournalError(
                f"Another process wrote to the journal {self._path}: stop the second gateway."
            ) from error
        except sqlite3.ProgrammingError as error:
            raise JournalError(
                f"The journal {self._path} is closed: the gateway stopped."
            ) from error
        except sqlite3.DatabaseError as error:
            remedy = _REMEDIES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
            if remedy is None:
                raise JournalDamagedError(
                    f"The journal {self._path} is damaged ({error}): {RESTORE}"
                ) from error
            raise JournalError(
                f"The journal {self._path} could not be {done}: {error}. {remedy}, and {then}."
            ) from error
        except OSError as error:
            raise JournalError(
                f"The journal {self._path} could not be {done}: {error.strerror}. Let PIPELINE_DATA_DIR or "
                f"PIPELINE_TRADING__JOURNAL name a place that may be written, and {then}."
            ) from error
