"""The journal, as a file and in PostgreSQL: durable, numbered, and honest about damage and second writers."""

import os
import signal
import sqlite3
import subprocess
from itertools import islice
from pathlib import Path

import pytest

from pipeline_assets.resources.journal import JournalDamagedError, JournalError, SqliteJournal
from pipeline_assets_tests.fixtures.disks import small_files
from pipeline_assets_tests.fixtures.journals import FilePlace, Place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway" / "journal.sqlite"


# Both implementations


def test_reads_what_was_written(journal_place: Place) -> None:
    journal = journal_place.open()
    assert list(journal.read()) == []
    assert journal.append([b"one", b"two"]) == 2
    journal.close()
    again = journal_place.open()
    assert again.last == 2
    assert again.append([b"three", b""]) == 4
    assert list(again.read(after=1)) == [(2, b"two"), (3, b"three"), (4, b"")]
    assert list(again.read(after=1, most=1)) == [(2, b"two")]
    again.close()


def test_second_writer_fails(journal_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline_assets.resources.journal_postgres._LOCK_SECONDS", 0.1)
    first = journal_place.open()
    first.append([b"one"])
    with pytest.raises(JournalError, match="second gateway"):
        _write_beside(journal_place)
    assert list(first.read()) == [(1, b"one")]
    first.close()


def _write_beside(place: Place) -> None:
    """Write as a process that opened the journal at the same moment."""
    other = place.open()
    other._last = 0  # type: ignore[attr-defined]
    other.append([b"other"])


@pytest.mark.parametrize(
    "damage", ["UPDATE {} SET checksum = 7 WHERE seq = 2", "DELETE FROM {} WHERE seq = 2"]
)
def test_damage_is_named(journal_place: Place, damage: str) -> None:
    journal = journal_place.open()
    journal.append([b"one", b"two", b"three"])
    journal_place.harm(damage.format(journal_place.table))
    with pytest.raises(JournalDamagedError, match=r"Record 2 .* restore") as caught:
        list(journal.read())
    assert journal.name in str(caught.value)
    journal.close()


_WRITER = """
import sys
while True:
    last = journal.append([b"x" * 50] * 3)
    sys.stdout.write(f"{last}\\n")
    sys.stdout.flush()
"""


def test_acknowledged_survives_kill(journal_place: Place) -> None:
    """A writer is killed at some moments; every number that it printed before is in the journal."""
    for kills in (1, 4):
        command = journal_place.program(_WRITER)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        said = [int(line) for line in islice(process.stdout, 5 * kills)]
        process.send_signal(signal.SIGKILL)
        said += [int(line) for line in process.stdout.read().split()]
        process.wait()
        journal = journal_place.open()
        assert journal.last >= said[-1]
        assert sum(1 for _ in journal.read()) == journal.last
        assert journal.last % 3 == 0
        journal.close()


# The file


def test_file_is_private_and_synchronous(path: Path) -> None:
    journal = SqliteJournal(path)
    assert path.stat().st_mode & 0o077 == 0
    assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_locked_file_names_cause(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline_assets.resources.journal._BUSY_SECONDS", 0.01)
    journal = SqliteJournal(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(
        JournalError, match=r"journal\.sqlite .*locked.* End the process that holds"
    ):
        journal.append([b"one"])
    other.execute("ROLLBACK")
    assert journal.append([b"one"]) == 1


def test_full_disk_stores_nothing(path: Path) -> None:
    """The limit of pages stands for the disk's end: SQLite answers the same."""
    journal = SqliteJournal(path)
    journal.append([b"one"])
    journal._connection.execute("PRAGMA max_page_count = 8")
    with pytest.raises(JournalError, match=r"journal\.sqlite .*full.* Free space"):
        journal.append([os.urandom(100_000)])
    assert list(journal.read()) == [(1, b"one")]
    journal._connection.execute("PRAGMA max_page_count = 100000")
    assert journal.append([b"two"]) == 2


def test_unwritable_file_is_named(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(JournalError, match=r"journal\.sqlite could not be opened.* Let this user"):
        SqliteJournal(path)


def test_unwritable_place_names_the_settings() -> None:
    """The kernel refuses files below this directory to every user, as on a read-only disk."""
    with pytest.raises(JournalError, match="PIPELINE_DATA_DIR or PIPELINE_TRADING__JOURNAL name"):
        SqliteJournal(Path("/sys/trading/journal.sqlite"))


def test_foreign_file_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database, but long enough to be read as the head of one" * 100)
    with pytest.raises(JournalDamagedError, match=r"journal\.sqlite is damaged"):
        SqliteJournal(path)


def test_other_table_is_refused(path: Path) -> None:
    place = FilePlace(path)
    path.parent.mkdir()
    place.harm("CREATE TABLE journal (number INTEGER)")
    with pytest.raises(JournalDamagedError, match=r"journal\.sqlite is damaged \(no such column"):
        place.open()


def test_newer_file_is_refused(path: Path) -> None:
    """A file of a newer form is left as it is."""
    place = FilePlace(path)
    place.open().close()
    place.harm("PRAGMA user_version = 1")
    with pytest.raises(
        JournalError, match=r"newer version wrote .*journal\.sqlite .*use that version"
    ):
        place.open()


def test_damaged_page_is_never_believed(path: Path) -> None:
    """One byte of the file is wrong: the records are those written, or an error names the file."""
    bodies = [bytes([number]) * 300 for number in range(60)]
    journal = SqliteJournal(path)
    journal.append(bodies)
    journal.close()
    whole = path.read_bytes()
    refusals = []
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            damaged = SqliteJournal(path)
            found = [body for _, body in damaged.read()]
        except (JournalError, JournalDamagedError) as error:
            refusals.append(str(error))
        else:
            assert found == bodies
            damaged.close()
    assert all(str(path) in said for said in refusals)
    assert len(refusals) > len(whole) // 97 // 2


def test_pinned_backup_is_of_that_moment(path: Path, tmp_path: Path) -> None:
    """A record that is appended between the pin and the copy is not in the copy."""
    journal, pinned = SqliteJournal(path), SqliteJournal(path)
    journal.append([b"before"])
    pinned.pin()
    journal.append([b"after"])
    pinned.backup(tmp_path / "copy")
    pinned.close()
    assert [body for _, body in SqliteJournal(tmp_path / "copy").read()] == [b"before"]


def test_backup_is_whole(path: Path, tmp_path: Path) -> None:
    journal = SqliteJournal(path)
    journal.append([b"one", b"two"])
    journal.backup(tmp_path / "copy")
    journal.append([b"three"])
    assert list(SqliteJournal(tmp_path / "copy").read()) == [(1, b"one"), (2, b"two")]
    with pytest.raises(JournalError, match="exists"):
        journal.backup(tmp_path / "copy")


def test_failed_backup_leaves_nothing(path: Path, tmp_path: Path) -> None:
    """The disk is full: neither a part nor an empty file has the backup's name, and a repeat succeeds."""
    journal, directory = SqliteJournal(path), tmp_path / "backups"
    directory.mkdir()
    journal.append([b"x" * (2 << 20)])
    with small_files(), pytest.raises(JournalError, match=r"copied to .* and repeat the backup"):
        journal.backup(directory / "copy")
    assert not list(directory.iterdir())
    journal.backup(directory / "copy")
    assert [each.name for each in directory.iterdir()] == ["copy"]
    assert SqliteJournal(directory / "copy").last == 1
    journal.close()
