"""Sessions of Snowflake: how one is opened, how statements run in it, and what its connector's errors mean
for people. Which statements run is decided in warehouse.py.

The connector is called directly: `dagster_snowflake` builds the same arguments, and to import it costs five
CPU seconds a process (it loads Snowpark and snowflake.core).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.outside_text import printable
from pipeline_assets.resources.retry import RetryPolicy
from pipeline_assets.resources.warehouse_login import (
    LOGIN_SETTINGS,
    LoginError,
    login_arguments,
    tls_problem,
)
from pipeline_assets.settings import SnowflakeSettings

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.cursor import SnowflakeCursor
    from snowflake.connector.errors import Error

LOGIN_TIMEOUT_SECONDS = 10
# Snowflake's numbers: an object does not exist (2003, 2043).
_ABSENT = (2003, 2043)
# A column does not exist. The embedded server answers 2043 with a text about the column.
_INVALID_COLUMN = 904
_COLUMN_ADVICE = (
    "The table has the columns of another version. Drop a table of features and materialize its asset over "
    "all days; rename the columns of another table as its file in pipeline_assets/resources/warehouse_sql/ "
    "has them."
)
# Wrong password (390100), wrong key (390144), wrong or expired token (390303, 390318).
_REFUSED_LOGINS = (390100, 390144, 390422, 390303, 390318)
# Another statement holds the table's lock (625), or the transaction was chosen to end a deadlock (606).
# The embedded server answers the first also where two transactions changed the same rows.
LOCKED = (625, 606)


class WarehouseError(OutsideSystemError):
    """Snowflake refused or could not be reached. The message names where, what, and what to do."""


@dataclass(frozen=True)
class WarehouseSessions:
    """Opens sessions of one account. `bucket` is that of the stages, for people."""

    settings: SnowflakeSettings
    bucket: str

    @contextmanager
    def open(self, purpose: str) -> "Iterator[SnowflakeConnection]":
        """Provide a session of its own, closed at the end; the connector's errors as WarehouseError."""
        from snowflake.connector import connect

        with self.explained(purpose), closing(connect(**self._arguments())) as connection:
            yield connection

    def require_own_bucket(self, address: str) -> None:
        """Check that a COPY read an object of the settings' bucket.

        A stage keeps the bucket that it was made for. After the lake was restored into another bucket, COPY
        would go on loading the old lake's objects.

        Args:
            address: the object's, as COPY reports it; one without a bucket passes.

        Raises:
            WarehouseError: the object is another bucket's.
        """
        if address.startswith("s3://") and not address.startswith(f"s3://{self.bucket}/"):
            raise WarehouseError(
                f"{self.where()} loaded {printable(address)}, but the lake is the bucket {self.bucket}: the "
                "stage was made for another bucket. The table was not changed. Drop the stages of the schema "
                "(docs/backup.md); the next load makes them again."
            )

    @contextmanager
    def explained(self, purpose: str) -> Iterator[None]:
        """Raise the connector's errors within the block as WarehouseError, which names the purpose."""
        from snowflake.connector.errors import Error

        try:
            yield
        except Error as error:
            if _is_unreachable(error) and (problem := tls_problem(self.settings)) is not None:
                raise WarehouseError(
                    f"{self.where()} could not {purpose}: {problem}. Then repeat the run."
                ) from None
            advice = _COLUMN_ADVICE if is_column_missing(error) else self._advice(error)
            raise WarehouseError(
                f"{self.where()} could not {purpose}: {printable(error.msg or error)} {advice}"
            ) from None

    def _arguments(self) -> dict[str, Any]:
        """Return the connector's arguments: the account, one way to log in, and the session's parameters."""
        settings = self.settings
        try:
            login = login_arguments(settings)
        except LoginError as error:
            raise WarehouseError(f"{self.where()}: {error}") from None
        address = {"host": settings.host, "port": settings.port, "protocol": settings.protocol}
        named = {
            "account": settings.account,
            "user": settings.user,
            "role": settings.role,
            "warehouse": settings.warehouse,
            "database": settings.database,
            "schema": settings.schema_name,
        }
        return {
            **{name: value for name, value in named.items() if value is not None},
            **login,
            **(address if settings.host else {}),
            "autocommit": True,
            "login_timeout": LOGIN_TIMEOUT_SECONDS,
            "network_timeout": settings.timeout_seconds,
            "session_parameters": {
                # COPY casts instants to the tables' zoneless UTC by this: see candles.sql.
                "TIMEZONE": "UTC",
                "STATEMENT_TIMEOUT_IN_SECONDS": settings.timeout_seconds,
                "QUERY_TAG": "pipeline-assets",
                "CLIENT_TELEMETRY_ENABLED": False,
            },
        }

    def where(self) -> str:
        """Return the account, for people."""
        settings = self.settings
        at = f" at {settings.host}:{settings.port}" if settings.host else ""
        return f"Snowflake account {settings.account}{at}"

    def _advice(self, error: "Error") -> str:
        number, text = error.errno, error.msg or ""
        if number in _REFUSED_LOGINS or "Incorrect username or password" in text:
            return f"Check PIPELINE_SNOWFLAKE__USER ({self.settings.user}) and {LOGIN_SETTINGS}."
        if _is_unreachable(error):
            return (
                "Is it running (`pipeline-assets status`)? Check PIPELINE_SNOWFLAKE__ACCOUNT, "
                "PIPELINE_SNOWFLAKE__HOST and PIPELINE_SNOWFLAKE__PORT."
            )
        if number == 91016:
            return "Upload the object again (materialize its day), then repeat the load."
        if number == 91003:
            return (
                f"Check that the bucket {self.bucket} (PIPELINE_S3__BUCKET) exists and that the "
                "stage's storage integration may read it."
            )
        if number in (*_ABSENT, 3001):
            return (
                "Grant the role what pipeline_assets/resources/warehouse_sql/production.sql lists, "
                "and check PIPELINE_SNOWFLAKE__DATABASE, __SCHEMA_NAME and __ROLE."
            )
        busy = "Other loads held the table's lock all the time. " if number in LOCKED else ""
        return f"{busy}The table was not changed by this statement; the load may be repeated."


def _is_unreachable(error: "Error") -> bool:
    return 250000 <= (error.errno or 0) < 252000


def is_column_missing(error: "Error") -> bool:
    """Return whether a statement failed because a table misses a column that it names."""
    return error.errno == _INVALID_COLUMN or (
        error.errno in _ABSENT and "column" in (error.msg or "").lower()
    )


def is_absent(error: "Error") -> bool:
    """Return whether a statement failed because a table, schema, database or stage does not exist."""
    return error.errno in _ABSENT and not is_column_missing(error)


Answer = TypeVar("Answer")
# For a statement that was aborted for another loader's lock. The waits differ, or two that collided would
# collide again. The connector itself repeats an unanswered request until its network_timeout.
_LOCK_RETRIES = RetryPolicy(attempts=7, first_wait=0.25, longest_wait=8.0, jitter=0.5)


def repeated(action: Callable[[], Answer]) -> Answer:
    """Run a repeatable action, again while another loader holds the lock of its table."""
    from snowflake.connector.errors import ProgrammingError

    return _LOCK_RETRIES.run(
        action, lambda error: isinstance(error, ProgrammingError) and error.errno in LOCKED
    )


def execute(connection: "SnowflakeConnection", statements: Sequence[str]) -> None:
    """Run statements in order."""
    cursor = connection.cursor()
    for text in statements:
        cursor.execute(text)


def rows_by_name(cursor: "SnowflakeCursor") -> list[dict[str, Any]]:
    """Return the rows of a result as dictionaries, by column."""
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@dataclass(frozen=True)
class WarehouseSession:
    """An open session, for several queries."""

    sessions: WarehouseSessions
    connection: "SnowflakeConnection"

    def query(
        self, purpose: str, text: str, action: "Callable[[SnowflakeCursor], Answer]"
    ) -> Answer | None:
        """Run a query and return what `action` makes of its result; None where its table is absent.

        Raises:
            WarehouseError: unreachable, or refused; see its message.
        """
        from snowflake.connector.errors import ProgrammingError

        with self.sessions.explained(purpose):
            try:
                return action(self.connection.cursor().execute(text))
            except ProgrammingError as error:
                if not is_absent(error):
                    raise
                return None
