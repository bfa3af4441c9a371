"""The journal file: durable, numbered, and honest about damage and second writers."""

import os
import signal
import sqlite3
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from pipeline_assets.resources.journal import JournalDamagedError, JournalError, SqliteJournal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway" / "journal.sqlite"


def test_reads_what_was_written(path: Path) -> None:
    journal = SqliteJournal(path)
    assert journal.append([b"one", b"two"]) == 2
    journal.close()
    again = SqliteJournal(path)
    assert again.append([b"three"]) == 3
    assert list(again.read(after=1)) == [(2, b"two"), (3, b"three")]
    assert path.stat().st_mode & 0o077 == 0


def test_second_writer_fails(path: Path) -> None:
    first, second = SqliteJournal(path), SqliteJournal(path)
    first.append([b"one"])
    with pytest.raises(JournalError, match="second gateway"):
        second.append([b"other"])
    assert list(first.read()) == [(1, b"one")]


def test_locked_file_names_cause(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline_assets.resources.journal._BUSY_SECONDS", 0.01)
    journal = SqliteJournal(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match=r"locked.*process that holds it"):
        journal.append([b"one"])
    other.execute("ROLLBACK")
    assert journal.append([b"one"]) == 1


def test_full_disk_stores_nothing(path: Path) -> None:
    """The limit of pages stands for the disk's end: SQLite answers the same."""
    journal = SqliteJournal(path)
    journal.append([b"one"])
    journal._connection.execute("PRAGMA max_page_count = 8")
    with pytest.raises(JournalError, match=r"full.*Free space"):
        journal.append([os.urandom(100_000)])
    assert list(journal.read()) == [(1, b"one")]
    journal._connection.execute("PRAGMA max_page_count = 100000")
    assert journal.append([b"two"]) == 2


@pytest.mark.parametrize(
    "damage",
    ["UPDATE journal SET body = x'78' WHERE seq = 2", "DELETE FROM journal WHERE seq = 2"],
)
def test_damage_is_named(path: Path, damage: str) -> None:
    journal = SqliteJournal(path)
    journal.append([b"one", b"two", b"three"])
    sqlite3.connect(path, isolation_level=None).execute(damage)
    with pytest.raises(JournalDamagedError, match=r"Record 2 .* restore"):
        list(journal.read())


def test_foreign_file_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database, but long enough to be read as the head of one" * 100)
    with pytest.raises(JournalDamagedError, match=r"journal\.sqlite is damaged"):
        SqliteJournal(path)


def test_backup_is_whole(path: Path, tmp_path: Path) -> None:
    journal = SqliteJournal(path)
    journal.append([b"one", b"two"])
    journal.backup(tmp_path / "copy")
    journal.append([b"three"])
    assert list(SqliteJournal(tmp_path / "copy").read()) == [(1, b"one"), (2, b"two")]
    with pytest.raises(JournalError, match="exists"):
        journal.backup(tmp_path / "copy")


_WRITER = """
import sys
from pathlib import Path
from pipeline_assets.resources.journal import SqliteJournal
journal = SqliteJournal(Path(sys.argv[1]))
while True:
    last = journal.append([b"x" * 50] * 3)
    sys.stdout.write(f"{last}\\n")
    sys.stdout.flush()
"""


def test_acknowledged_survives_kill(path: Path) -> None:
    """A writer is killed at ten moments; every number that it printed before is in the file."""
    for kills in range(1, 11):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        said = [int(line) for line in islice(process.stdout, 5 * kills)]
        process.send_signal(signal.SIGKILL)
        said += [int(line) for line in process.stdout.read().split()]
        process.wait()
        journal = SqliteJournal(path)
        assert journal.last >= said[-1]
        assert sum(1 for _ in journal.read()) == journal.last
        assert journal.last % 3 == 0
        journal.close()
