"""The databases of PostgreSQL that the settings name, and whether each can be used now. Tables, and the
connections of the programs that write to these, do not belong here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.resources.postgres_connection import connect, limited, parts_of
from pipeline_assets.resources.postgres_tls import tls_remedy
from pipeline_assets.settings import PREFIX

if TYPE_CHECKING:
    from pipeline_assets.settings import Settings

_PORT = 5432


class DatabaseUnusableError(OutsideSystemError):
    """A database does not answer, or refuses. The message does not have the password."""


@dataclass(frozen=True)
class Database:
    """A database of the settings.

    Attributes:
        name: as `status` shows it.
        setting: the variable that has its address.
        url: the address, with the password.
        missed: what does not work without the database.
    """

    name: str
    setting: str
    url: SecretStr
    missed: str

    @property
    def hosts(self) -> tuple[tuple[str, int], ...]:
        """Return the servers of the address; none where it names a directory of sockets or a service."""
        found = urlsplit(self.url.get_secret_value()).netloc.rpartition("@")[2]
        return tuple(_host(each) for each in found.split(",") if each)

    @property
    def place(self) -> str:
        """Return servers and database, without user and password."""
        parts = urlsplit(self.url.get_secret_value())
        return f"{parts.netloc.rpartition('@')[2]}{parts.path}"

    def check(self, seconds: float) -> None:
        """Log in to the server that accepts writes, and have it answer.

        Args:
            seconds: how long each server may be silent.

        Raises:
            SettingsError: the address cannot be read, or the driver is not installed.
            DatabaseUnusableError: no server answers, or the login is refused.
        """
        parts = parts_of(self.url, self.setting)

        import psycopg

        try:
            with connect(parts, "status", seconds) as connection, limited(connection, seconds):
                connection.execute("SELECT 1")
        except psycopg.Error as error:
            said = " ".join(str(error).split())
            remedy = tls_remedy(said, parts, self.setting) or (
                "Check that the server runs and accepts connections from here, and user, password and "
                f"database in {self.setting}"
            )
            raise DatabaseUnusableError(
                f"PostgreSQL at {self.place} cannot be used: {said}. {remedy}."
            ) from error


def databases(settings: "Settings") -> list[Database]:
    """Return the databases that the settings name."""
    airflow, dagster, trading = settings.airflow, settings.dagster, settings.trading
    found = (
        (
            *("dagster-storage", "DAGSTER__STORAGE_URL", dagster.storage_url),
            "until it answers no run starts, and one that is under way fails after 30 s and is repeated",
        ),
        (
            *("journal", "TRADING__JOURNAL_URL", trading.journal_url),
            "until it answers the order gateway does not start, and no order is sent",
        ),
        (
            *("airflow-database", "AIRFLOW__DATABASE_URL"),
            airflow.database_url if airflow.enabled else None,
            "until it answers Airflow schedules nothing",
        ),
    )
    return [
        Database(name, f"{PREFIX}{setting}", url, missed)
        for name, setting, url, missed in found
        if url is not None
    ]


def _host(text: str) -> tuple[str, int]:
    # An address of version 6 stands in brackets.
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        return text.strip("[]"), _PORT
    return host.strip("[]"), int(port) if port.isdigit() else _PORT
