"""The journal in PostgreSQL, and the faults of its server. The tests of both implementations are in
test_journal.py.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline_assets.local.stack import REPOSITORY
from pipeline_assets.resources.journal import JournalDamagedError, JournalError
from pipeline_assets.resources.journal_postgres import PostgresJournal
from pipeline_assets.settings import SettingsError
from pipeline_assets_tests.fixtures.journals import TABLE, PostgresPlace
from pipeline_assets_tests.fixtures.postgres import PASSWORD, PostgresServer, program
from pipeline_assets_tests.fixtures.redis import free_port
from pipeline_assets_tests.fixtures.s3 import eventually
from pipeline_assets_tests.fixtures.tcp_proxy import TcpProxy

pytestmark = pytest.mark.xdist_group("postgres")
PATTERN = "*_journal_desk-1"
RIGHT = "(seq bigint PRIMARY KEY, body bytea NOT NULL, checksum bigint NOT NULL)"


@pytest.fixture
def postgres_server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """Provide the server, and start it again after a test that ended it."""
    yield postgres_server
    if postgres_server.process is None:
        postgres_server.start()


def refusal(url: SecretStr, kind: type[Exception] = JournalError) -> str:
    with pytest.raises(kind) as caught:
        PostgresJournal(url, TABLE, answer_seconds=2)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


# Backups


def test_restored_journals_go_on(
    postgres_server: PostgresServer, storage_database: str, tmp_path: Path
) -> None:
    """The pattern of docs/backup.md takes both tables of the account and no other, while both are open."""
    tables = ("gateway_journal_desk-1", "paper_journal_desk-1")
    url = postgres_server.url(database=storage_database)
    with ExitStack() as open_journals:
        for table in (*tables, "gateway_journal_desk-10"):
            journal = open_journals.enter_context(closing(PostgresJournal(url, table)))
            journal.append([table.encode(), b"two"])
        dump = tmp_path / "journals.dump"
        postgres_server.dump(storage_database, dump, f"--table={PATTERN}")
    restored = postgres_server.restored(dump)
    for table in tables:
        url = postgres_server.url(database=restored)
        with closing(PostgresJournal(url, table)) as journal:
            assert journal.append([b"three"]) == 3
            assert [body for _, body in journal.read()] == [table.encode(), b"two", b"three"]
    held = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    assert postgres_server.execute(held, database=restored) == [(table,) for table in tables]
    postgres_server.drop(restored)


def test_pattern_is_that_of_the_documentation() -> None:
    assert f"--table='{PATTERN}'" in (REPOSITORY / "docs" / "backup.md").read_text("utf-8")


# Opening


def test_unreachable_server_is_named(postgres_server: PostgresServer) -> None:
    port = free_port()
    said = refusal(postgres_server.url(port=port))
    assert f"{TABLE} in PostgreSQL at 127.0.0.1:{port}/postgres could not be opened" in said
    assert "PIPELINE_TRADING__JOURNAL_URL" in said


def test_wrong_password_is_not_shown(postgres_server: PostgresServer) -> None:
    said = refusal(postgres_server.url(password="hidden-word"))
    assert "password authentication failed" in said
    assert "hidden-word" not in said


def test_malformed_address_is_not_shown() -> None:
    said = refusal(SecretStr(f"postgresql://u:{PASSWORD}@h:1/d?no_such_option=1"), SettingsError)
    assert "Example: postgresql://" in said


def test_frozen_server_is_given_up(postgres_place: PostgresPlace) -> None:
    """SIGSTOP: opening and writing end, and acknowledged records are there after it."""
    journal = PostgresJournal(postgres_place.url, TABLE, answer_seconds=1)
    journal.append([b"one"])
    postgres_place.server.pause()
    try:
        with pytest.raises(JournalError, match=r"are stored is unknown"):
            journal.append([b"two"])
        refusal(postgres_place.url)
    finally:
        postgres_place.server.resume()
    with pytest.raises(JournalError, match="connection is closed"):
        journal.append([b"two"])
    again = postgres_place.open()
    assert [body for _, body in again.read()] in ([b"one"], [b"one", b"two"])
    again.close()


@pytest.mark.parametrize(
    "table",
    [
        f"TABLE {TABLE} (seq bigint PRIMARY KEY, body bytea NOT NULL)",
        f"TABLE {TABLE} (seq bigint, body bytea NOT NULL, checksum bigint NOT NULL)",
        f"UNLOGGED TABLE {TABLE} {RIGHT}",
        f"VIEW {TABLE} AS SELECT 1 AS seq, 'x'::bytea AS body, 1 AS checksum",
    ],
)
def test_wrong_table_is_refused(postgres_place: PostgresPlace, table: str) -> None:
    """A table without checksum, without the key, that a crash empties, and no table at all."""
    postgres_place.harm(f"CREATE {table}")
    assert "is no journal of this version" in refusal(postgres_place.url, JournalDamagedError)


def test_missing_right_is_named(postgres_place: PostgresPlace) -> None:
    postgres_place.harm("DROP SCHEMA public")
    said = refusal(postgres_place.url)
    assert "no schema has been selected to create in" in said


def test_server_without_fsync_is_refused(postgres_place: PostgresPlace) -> None:
    settings = ("ALTER SYSTEM SET fsync = {}", "SELECT pg_reload_conf()")
    try:
        for each in settings:
            postgres_place.harm(each.format("off"))
        # The server reads its settings a moment later.
        eventually(
            lambda: postgres_place.server.execute("SHOW fsync") == [("off",)], "fsync is off"
        )
        assert "Set fsync = on" in refusal(postgres_place.url)
    finally:
        for each in settings:
            postgres_place.harm(each.format("DEFAULT"))


def test_second_writer_names_the_first(postgres_place: PostgresPlace) -> None:
    first = postgres_place.open()
    said = refusal(postgres_place.url)
    assert f"is held by {TABLE[:20]}" in said
    assert f"pid {os.getpid()}" in said
    first.close()


# Writing


def test_full_disk_is_named(postgres_place: PostgresPlace) -> None:
    """A trigger raises the error that a full disk raises."""
    journal = postgres_place.open()
    journal.append([b"one"])
    postgres_place.harm(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$;"
        f"CREATE TRIGGER full_disk BEFORE INSERT ON {TABLE} EXECUTE FUNCTION full_disk()"
    )
    with pytest.raises(JournalError, match=r"No space left on device\. Free space"):
        journal.append([b"two"])
    postgres_place.harm(f"DROP TRIGGER full_disk ON {TABLE}")
    assert journal.append([b"two"]) == 2
    journal.close()


def test_killed_server_keeps_acknowledged(postgres_place: PostgresPlace) -> None:
    """The server is killed twice; the next start has every record that was acknowledged."""
    acknowledged: list[bytes] = []
    for kill in range(2):
        journal = postgres_place.open()
        assert [body for _, body in journal.read()] == acknowledged
        for number in range(20):
            acknowledged.append(b"%d-%d" % (kill, number))
            journal.append(acknowledged[-1:])
        postgres_place.server.kill()
        with pytest.raises(JournalError, match=r"stored is unknown.* start the gateway again"):
            journal.append([b"lost"])
        with pytest.raises(JournalError):
            list(journal.read())
        postgres_place.server.start()


def test_lost_answer_is_not_a_refusal(
    postgres_place: PostgresPlace, tcp_proxies: list[TcpProxy]
) -> None:
    """The commit arrives and its answer does not: an error, and the records are there on the next start."""
    proxy = _AnswersLost(postgres_place.server.port)
    tcp_proxies.append(proxy)
    url = postgres_place.server.url(port=proxy.port, database=postgres_place.database)
    journal = PostgresJournal(url, TABLE, answer_seconds=1)
    journal.append([b"one"])
    proxy.silence()
    with pytest.raises(JournalError, match="stored is unknown"):
        journal.append([b"two"])
    assert journal.last == 1
    proxy.close()
    again = postgres_place.open()
    assert [body for _, body in again.read()] == [b"one", b"two"]
    again.close()


class _AnswersLost(TcpProxy):
    """Hands requests on, and loses the answers once it is silenced."""

    def silence(self) -> None:
        self._silent |= {each for each in self._open if each.getpeername()[1] == self.target}


def test_dump_restores_the_journal(postgres_place: PostgresPlace, tmp_path: Path) -> None:
    """The backup that docs/backup.md names."""
    journal = postgres_place.open()
    journal.append([b"one", b"\0\xff"])
    url, dump = postgres_place.url.get_secret_value(), tmp_path / "journals.sql"
    pattern = "--table=*_journal_paper"
    subprocess.run([program("pg_dump"), f"--dbname={url}", pattern, f"--file={dump}"], check=True)
    journal.append([b"three"])
    journal.close()
    postgres_place.harm(f"DROP TABLE {TABLE}")
    restore = [program("psql"), url, "--quiet", "--output=/dev/null", f"--file={dump}"]
    subprocess.run(restore, check=True)
    again = postgres_place.open()
    assert list(again.read()) == [(1, b"one"), (2, b"\0\xff")]
    again.close()
