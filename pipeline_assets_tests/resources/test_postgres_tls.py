"""PostgreSQL over TLS, for Dagster's storage and for the journal: certificates of both sides, and what an
error says about them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance
from dagster._core.test_utils import create_run_for_test
from pydantic import SecretStr

from pipeline_assets.dagster_instance.postgres_engine import Address, StorageUnreachableError
from pipeline_assets.dagster_instance.postgres_storage import PooledPostgresRunStorage
from pipeline_assets.resources.journal import JournalError
from pipeline_assets.resources.journal_postgres import PostgresJournal
from pipeline_assets_tests.fixtures.dagster_home import STORAGE_URL
from pipeline_assets_tests.fixtures.postgres import PASSWORD, PostgresServer
from pipeline_assets_tests.fixtures.tls import Tls

pytestmark = pytest.mark.xdist_group("postgres")


def url_of(
    server: PostgresServer, tls: Tls, port: int, database: str = "postgres", *, client: bool = False
) -> str:
    """Return an address that demands TLS, with a client's certificate if there shall be one."""
    options = f"sslmode=verify-full&sslrootcert={tls.ca_file}"
    if client:
        certificate, key = tls.client_files
        options += f"&sslcert={certificate}&sslkey={key}"
    return f"{server.url(port=port, database=database).get_secret_value()}?{options}"


def open_storage(url: SecretStr) -> None:
    PooledPostgresRunStorage(Address(url))


def open_journal(url: SecretStr) -> None:
    PostgresJournal(url, "gateway_journal_paper", answer_seconds=2)


def test_storage_takes_client_certificate(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres_server: PostgresServer,
    storage_database: str,
    tls: Tls,
) -> None:
    """Dagster's storage is used by TLS where the server demands a client's certificate."""
    proxy = tls.proxy(postgres_server.port, asks_clients=True)
    tls.client()
    url = url_of(postgres_server, tls, proxy.port, storage_database, client=True)
    monkeypatch.setenv(STORAGE_URL, url)
    with DagsterInstance.get() as instance:
        written = create_run_for_test(instance)
        assert [run.run_id for run in instance.get_runs()] == [written.run_id]
    assert proxy.handshakes > 0


@pytest.mark.parametrize(
    ("opened", "error"),
    [(open_storage, StorageUnreachableError), (open_journal, JournalError)],
    ids=["storage", "journal"],
)
@pytest.mark.parametrize(
    ("server", "client", "reported"),
    [
        ({"expired": True}, None, "refused: certificate has expired.*Renew the server"),
        ({"foreign": True}, None, "refused: unable to get local issuer.*let sslrootcert in PIPE"),
        ({"asks_clients": True}, None, "demands a client's certificate. Name it by sslcert"),
        (
            {"asks_clients": True},
            {"foreign": True},
            r"refuses the client's certificate .*client\.pem",
        ),
    ],
    ids=["expired", "foreign", "missing", "foreign client"],
)
def test_error_names_the_certificate(
    postgres_server: PostgresServer,
    tls: Tls,
    server: Any,
    client: dict[str, bool] | None,
    reported: str,
    opened: Callable[[SecretStr], None],
    error: type[Exception],
) -> None:
    """The error tells which side's certificate is wrong, and what to do, without the password."""
    port = tls.server(postgres_server.port, **server)
    if client is not None:
        tls.client(**client)
    url = url_of(postgres_server, tls, port, client=client is not None)
    with pytest.raises(error, match=reported) as raised:
        opened(SecretStr(url))
    assert PASSWORD not in str(raised.value)
