"""Dagster's storage in PostgreSQL: few connections, no password shown, and runs that outlast a restart."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    asset,
    job,
    materialize,
    op,
)
from dagster._cli import cli as dagster_cli
from dagster._core.test_utils import create_run_for_test
from dagster._daemon.auto_run_reexecution.auto_run_reexecution import should_retry
from dagster_postgres.run_storage import PostgresRunStorage
from pydantic import SecretStr
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError

from pipeline_assets.dagster_instance import postgres_engine
from pipeline_assets.dagster_instance.event_storage import (
    delete_superseded_check_evaluations,
    delete_superseded_reports,
)
from pipeline_assets.dagster_instance.postgres_engine import Address, StorageUnreachableError
from pipeline_assets.dagster_instance.postgres_schema import StorageOutdatedError
from pipeline_assets.dagster_instance.postgres_storage import PooledPostgresRunStorage
from pipeline_assets.resources.retry import RetryPolicy
from pipeline_assets.settings import SettingsError
from pipeline_assets_tests.fixtures.dagster_home import STORAGE_URL
from pipeline_assets_tests.fixtures.postgres import PASSWORD, PostgresServer
from pipeline_assets_tests.fixtures.redis import free_port

pytestmark = pytest.mark.xdist_group("postgres")
GIVES_UP_SOON = RetryPolicy(deadline=0.3, first_wait=0.1)


@pytest.fixture
def opened() -> Iterator[list[object]]:
    """Provide a list that grows with each connection of this process."""
    found: list[object] = []

    def note(connection: object, _: object) -> None:
        found.append(connection)

    event.listen(Engine, "connect", note)
    yield found
    event.remove(Engine, "connect", note)


@asset
def candle() -> None:
    """Something to materialize."""


# Connections


def test_run_needs_few_connections(
    postgres_instance: DagsterInstance, opened: list[object]
) -> None:
    """A process opens two connections at most for its first run, and none for the next."""
    assert materialize([candle], instance=postgres_instance).success
    assert len(opened) <= 2
    before = len(opened)
    with DagsterInstance.get() as second:
        assert materialize([candle], instance=second).success
        assert len(second.get_runs()) == 2
    assert len(opened) == before


def _write_run() -> None:
    with DagsterInstance.get() as forked:
        create_run_for_test(forked, run_id="00000000-0000-0000-0000-00000000000a")


def test_forked_process_opens_own_connections(postgres_instance: DagsterInstance) -> None:
    """A process that is forked while connections are open leaves these to its parent."""
    written = create_run_for_test(postgres_instance)
    child = multiprocessing.get_context("fork").Process(target=_write_run)
    child.start()
    child.join()
    assert child.exitcode == 0
    found = {run.run_id for run in postgres_instance.get_runs()}
    assert found == {written.run_id, "00000000-0000-0000-0000-00000000000a"}


def test_many_may_start_on_empty_database(postgres_home: Path) -> None:
    """Processes that start at once over an empty database all find its tables."""
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_write_own_run, args=(number,)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    with DagsterInstance.get() as instance:
        assert len(instance.get_runs()) == 4


def _write_own_run(number: int) -> None:
    with DagsterInstance.get() as forked:
        create_run_for_test(forked, run_id=f"00000000-0000-0000-0000-00000000000{number}")


def test_concurrent_reports_are_complete(postgres_instance: DagsterInstance) -> None:
    """Events that several threads report at once are all stored, on one connection a thread at most."""

    def tell(number: int) -> None:
        materialization = AssetMaterialization("candle", partition=str(number))
        postgres_instance.report_runless_asset_event(materialization)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tell, range(40)))
    found = postgres_instance.fetch_materializations(candle.key, limit=100).records
    assert {record.partition_key for record in found} == {str(number) for number in range(40)}


def test_web_server_limits_statements(postgres_instance: DagsterInstance) -> None:
    """The web server's slow statements are ended by the server, as with Dagster's own class."""
    postgres_instance.optimize_for_webserver(
        statement_timeout=50, pool_recycle=3600, max_overflow=20
    )
    storage = postgres_instance.run_storage
    with (
        pytest.raises(OperationalError, match="statement timeout"),
        storage.connect() as connection,
    ):
        connection.execute(text("SELECT pg_sleep(60)"))


# Records


def test_runs_are_interchangeable(
    postgres_instance: DagsterInstance, postgres_server: PostgresServer, storage_database: str
) -> None:
    """Dagster's own class reads what ours wrote, and the other way round."""
    url = postgres_server.url(database=storage_database).get_secret_value()
    own = PostgresRunStorage(url.replace("postgresql://", "postgresql+psycopg2://"))
    written = create_run_for_test(postgres_instance)
    assert [run.run_id for run in own.get_runs()] == [written.run_id]
    own.delete_run(written.run_id)
    assert not postgres_instance.get_runs()


def test_superseded_events_go(any_instance: DagsterInstance) -> None:
    """Housekeeping removes superseded reports of sensors from either storage, and keeps the newest."""
    for partition in ("a", "a", "b"):
        any_instance.report_runless_asset_event(
            AssetMaterialization("candle", partition=partition, tags={"number": partition})
        )
        any_instance.report_runless_asset_event(
            AssetCheckEvaluation(asset_key=AssetKey("candle"), check_name="fresh", passed=True)
        )
    now = datetime.now(UTC)
    assert delete_superseded_check_evaluations(any_instance, now - timedelta(minutes=5)) == 0
    assert delete_superseded_reports(any_instance, now - timedelta(minutes=5)) == 0
    later = now + timedelta(minutes=5)
    assert delete_superseded_check_evaluations(any_instance, later) == 2
    # One materialization a partition and the newest evaluation stay.
    assert delete_superseded_reports(any_instance, later) == 3
    assert delete_superseded_reports(any_instance, later) == 0
    assert any_instance.get_materialized_partitions(candle.key) == {"a", "b"}


# Errors


def test_password_is_in_no_description(
    postgres_instance: DagsterInstance, postgres_home: Path
) -> None:
    """The description that Dagster passes on to other processes has neither the password nor a directory."""
    passed_on = str(postgres_instance.get_ref().to_dict())
    storage = postgres_instance.run_storage
    shown = [passed_on, repr(storage._engine.url), storage.postgres_url, repr(storage._address)]
    assert not [each for each in shown if PASSWORD in each]
    assert (postgres_home / "dagster.yaml").read_text().find(PASSWORD) == -1
    assert "storage_choice" in passed_on


def refusal(url: SecretStr, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        PooledPostgresRunStorage(Address(url))
    assert PASSWORD not in str(caught.value)
    assert STORAGE_URL in str(caught.value)
    return str(caught.value)


def test_unreachable_server_is_named(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_engine, "PATIENCE", GIVES_UP_SOON)
    port = free_port()
    said = refusal(postgres_server.url(port=port), StorageUnreachableError)
    assert f"PostgreSQL at 127.0.0.1:{port}/postgres, cannot be used" in said
    assert "Check that the server runs" in said


def test_wrong_password_fails_at_once(postgres_server: PostgresServer) -> None:
    """A refusal that lasts is not repeated for half a minute."""
    said = refusal(postgres_server.url(password="hidden-word"), StorageUnreachableError)
    assert "password authentication failed" in said
    assert "hidden-word" not in said


def test_refused_tls_fails_at_once(postgres_server: PostgresServer) -> None:
    """A server without TLS does not get it within the half minute in which a connection is repeated."""
    url = f"{postgres_server.url().get_secret_value()}?sslmode=require"
    assert "server does not support SSL" in refusal(SecretStr(url), StorageUnreachableError)


def test_malformed_address_is_not_shown() -> None:
    url = SecretStr(f"postgresql://u:{PASSWORD}@h:1/d?no_such_option=1")
    assert "Example: postgresql://" in refusal(url, SettingsError)


# Restarts


def test_run_outlasts_a_restart(
    postgres_instance: DagsterInstance, postgres_server: PostgresServer
) -> None:
    """A crash of the server that is over within half a minute is not noticed by a run under way."""

    @op
    def crash() -> None:
        postgres_server.kill()
        postgres_server.start()

    @op
    def go_on() -> None:
        pass

    @job
    def restarted() -> None:
        crash()
        go_on()

    result = restarted.execute_in_process(instance=postgres_instance)
    assert result.success
    stored = postgres_instance.get_run_by_id(result.run_id)
    assert stored is not None
    assert stored.status is DagsterRunStatus.SUCCESS


def test_run_fails_clearly_without_server(
    postgres_instance: DagsterInstance,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that cannot record its steps ends with the reason, and Dagster repeats it afterwards."""
    monkeypatch.setattr(postgres_engine, "PATIENCE", GIVES_UP_SOON)

    @op
    def stop() -> None:
        postgres_server.stop()

    @job(tags={"dagster/max_retries": "1"})
    def stopped() -> None:
        stop()

    with pytest.raises(StorageUnreachableError, match="cannot be used"):
        stopped.execute_in_process(instance=postgres_instance)
    postgres_server.start()
    [run] = postgres_instance.get_runs()
    assert run.status is DagsterRunStatus.STARTED
    # Run monitoring does this once the run's lease is gone.
    postgres_instance.report_run_failed(run, "The run's process ended.")
    [ended] = postgres_instance.get_runs()
    assert should_retry(ended, postgres_instance)


# Schema


def at_revision(server: PostgresServer, database: str, revision: str) -> None:
    server.execute(f"UPDATE alembic_version SET version_num = '{revision}'", database=database)
    postgres_engine.databases.after_fork()


def test_older_schema_names_the_migration(
    postgres_instance: DagsterInstance, postgres_server: PostgresServer, storage_database: str
) -> None:
    """Tables of an older Dagster end a program at its start, and the command that it names mends them."""
    url = postgres_server.url(database=storage_database)
    older = "16e3115a602a"
    at_revision(postgres_server, storage_database, older)
    said = refusal(url, StorageOutdatedError)
    assert "`dagster instance migrate`" in said
    assert f"revision {older}" in said
    migrated = CliRunner().invoke(dagster_cli, ["instance", "migrate"], catch_exceptions=False)
    assert migrated.exit_code == 0
    postgres_engine.databases.after_fork()
    assert PooledPostgresRunStorage(Address(url)).get_runs() == []


def test_newer_schema_is_read(
    postgres_instance: DagsterInstance, postgres_server: PostgresServer, storage_database: str
) -> None:
    """Programs of the old release go on while an upgrade replaces them."""
    at_revision(postgres_server, storage_database, "of_a_newer_one")
    written = create_run_for_test(postgres_instance)
    storage = PooledPostgresRunStorage(Address(postgres_server.url(database=storage_database)))
    assert [run.run_id for run in storage.get_runs()] == [written.run_id]
