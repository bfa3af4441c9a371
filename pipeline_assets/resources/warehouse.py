"""The warehouse: loads candle objects and the gap ledger into Snowflake's tables, and says what the
tables hold.

The statements are filled in warehouse_statements.py, sessions are opened in warehouse_connection.py. Which
objects to load, and when, is decided in collection/.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from pipeline_assets.market.intervals import Interval
from pipeline_assets.outside_text import printable
from pipeline_assets.resources.warehouse_connection import (
    Answer,
    WarehouseError,
    WarehouseSession,
    WarehouseSessions,
    execute,
    is_absent,
    is_column_missing,
    repeated,
    rows_by_name,
)
from pipeline_assets.resources.warehouse_statements import (
    FUNDING_TABLE,
    LANDING,
    GapStatements,
    LoadStatements,
    SchemaStatements,
    Sql,
    identifier,
    literal,
    table_name,
)
from pipeline_assets.resources.write_guard import require_lease
from pipeline_assets.settings import S3Settings, SnowflakeSettings
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.cursor import SnowflakeCursor


@dataclass(frozen=True)
class LoadResult:
    """The result of a load: rows and files counted, and the seconds its COPY and MERGE took."""

    rows_loaded: int
    rows_inserted: int
    rows_updated: int
    files: int
    copy_seconds: float
    merge_seconds: float

    def values(self) -> dict[str, int | float]:
        """Return the result as a run's metadata show it."""
        return {
            "rows read": self.rows_loaded,
            "rows inserted": self.rows_inserted,
            "rows updated": self.rows_updated,
            "COPY (s)": round(self.copy_seconds, 3),
            "MERGE (s)": round(self.merge_seconds, 3),
        }


@dataclass(frozen=True)
class SymbolSummary:
    """A summary of a table's rows of one symbol: their count, and the newest open time (aware, UTC)."""

    rows: int
    newest_open_time: datetime


class Warehouse:
    """The tables of candles and gaps of one Snowflake schema."""

    def __init__(self, snowflake: SnowflakeSettings, s3: S3Settings) -> None:
        """Keep the settings; nothing is imported, read or connected before a method is called."""
        self._settings = snowflake
        self.sql = SchemaStatements(snowflake, s3.bucket)
        self._sessions = WarehouseSessions(snowflake, s3.bucket)

    @property
    def target(self) -> str:
        """Name the account and the schema, for notes of what was loaded there."""
        settings = self._settings
        return f"{settings.account} {settings.database}.{settings.schema_name}"

    def make_tables(self, interval: Interval) -> None:
        """Create the stage and the interval's table where they are absent, as a load does; may be repeated.

        Raises:
            WarehouseError: unreachable, or refused.
        """
        with self._sessions.open(f"create {table_name(interval)}") as connection:
            self._make(connection, self.sql.candle_tables(interval))

    def load(self, interval: Interval, object_keys: Sequence[str], load_id: str) -> LoadResult:
        """Make the table hold the candles of `object_keys`; other rows stay as they are.

        Args:
            interval: one that has a table.
            object_keys: relative to the lake's `ohlcv/`, like `15m/BTCUSDT/20261101_0000.parquet`.
            load_id: the Dagster root run's id: repeats of one load share it, two loads do not.

        Any part may be repeated, after a crash between any two statements too:

        - The landing table is created or replaced, so it holds what this attempt copied, whatever
          Snowflake's load metadata (kept by table, dropped with it) says of the files.
        - The MERGE is one atomic statement, keyed by (symbol, open time) with one landing row a
          key; it inserts what is new and updates what differs, so a second one changes nothing.
        - A landing table that was not dropped is replaced by a repeat of the load on the same day,
          and otherwise found by `landing_tables`.

        One loader at a time per table, in any process: a MERGE locks its table, in Snowflake and in the
        embedded server, and a load that is aborted for another's lock is repeated.

        Raises:
            WarehouseError: unreachable, refused, an object absent or unreadable; see its message.
        """
        keys = list(dict.fromkeys(object_keys))
        statements = self.sql.load(interval, keys, load_id)
        made = self.sql.candle_tables(interval) if keys else []
        return self.load_objects(table_name(interval), made, statements, len(keys))

    def load_funding(self, object_keys: Sequence[str], load_id: str) -> LoadResult:
        """Make the table FUNDING_RATES hold the rates of `object_keys`, as `load` does for candles.

        Args:
            object_keys: relative to the lake's `funding/`, like `BTCUSDT/202611.parquet`.
            load_id: the Dagster root run's id.

        Raises:
            WarehouseError: unreachable, refused, an object absent or unreadable; see its message.
        """
        keys = list(dict.fromkeys(object_keys))
        statements = self.sql.load_funding(keys, load_id)
        return self.load_objects(FUNDING_TABLE, self.sql.funding_tables(), statements, len(keys))

    def is_empty(self, table: str) -> bool:
        """Return whether a table has no row, or does not exist.

        Raises:
            WarehouseError: unreachable, or refused; see its message.
        """
        text = self.sql.statement("rows", TABLE=identifier(table))
        return not self.query(f"count {table}", text, lambda cursor: cursor.fetchall()[0][0])

    def load_objects(
        self, table: str, made: Sequence[Sql], statements: LoadStatements, objects: int
    ) -> LoadResult:
        """Run the statements of a load of so many objects; none of them if there is no object.

        Raises:
            WarehouseError: unreachable, refused, an object absent or unreadable; see its message.
        """
        if not objects:
            return LoadResult(0, 0, 0, 0, 0.0, 0.0)
        return self.change(
            f"load {objects} objects into {table}",
            made,
            lambda connection: self._run_load(connection, statements, objects),
        )

    def replace_gaps(self, days: Sequence[date], with_gaps: Sequence[date], load_id: str) -> int:
        """Make the table CANDLE_GAPS hold, of these days, what the ledger's objects say of them.

        All rows of the days are replaced in one transaction: a reader sees what was known before or
        what is known now, and a repeat leaves the same rows. It may be repeated after a crash between
        any two statements, as a load may. One loader at a time: the DELETE locks the table until the
        transaction ends, and a replacement that is aborted for another's lock is repeated.

        Args:
            days: UTC days, 1,000 at most.
            with_gaps: those of them whose objects `gaps/{yyyyMMdd}.parquet` have rows. Only these are
                loaded: of a file without rows no COPY needs to say that it was.
            load_id: the Dagster root run's id.

        Returns:
            How many gaps the days' objects hold.

        Raises:
            WarehouseError: unreachable, refused, an object absent or unreadable; see its message.
        """
        if not days:
            return 0
        statements = self.sql.replace_gaps(days, with_gaps, load_id)
        return self.change(
            f"load the gaps of {counted(len(days), 'day')}",
            self.sql.gap_tables(),
            lambda connection: self._run_replacement(connection, statements, len(with_gaps)),
        )

    def change(
        self, purpose: str, made: Sequence[Sql], action: "Callable[[SnowflakeConnection], Answer]"
    ) -> Answer:
        """Run a repeatable change of a table in a session, again while another holds the table's lock.

        Args:
            purpose: what is done, for the error.
            made: the statements that make what the action may find absent.
            action: takes the session; may run several times.

        Raises:
            WarehouseError: unreachable, or refused; see its message.
        """
        with self._sessions.open(purpose) as connection:
            return self._with_tables(connection, made, lambda: repeated(lambda: action(connection)))

    def query(
        self, purpose: str, text: Sql, action: "Callable[[SnowflakeCursor], Answer]"
    ) -> Answer | None:
        """Run a query in a session of its own; see WarehouseSession.query."""
        with self.session(purpose) as session:
            return session.query(purpose, text, action)

    @contextmanager
    def session(self, purpose: str) -> Iterator[WarehouseSession]:
        """Provide a session for several queries: a login costs more than a small query.

        Raises:
            WarehouseError: unreachable, or the login was refused; see its message.
        """
        with self._sessions.open(purpose) as connection:
            yield WarehouseSession(self._sessions, connection)

    def landing_tables(self, older_than: datetime) -> list[str]:
        """Return the names of the landing tables whose UTC day had ended at `older_than`.

        A load takes minutes, so give a time a day or more ago: those are of dead runs.
        """
        return [
            name
            for name in self._landing_names()
            if (match := LANDING.fullmatch(name))
            and _day_after(match[1]) <= older_than.astimezone(UTC)
        ]

    def drop_landing_tables(self, older_than: datetime) -> list[str]:
        """Drop what `landing_tables` finds and return the names; may be repeated."""
        names = self.landing_tables(older_than)
        if names:
            with self._sessions.open("drop landing tables") as connection:
                for name in names:
                    connection.cursor().execute(
                        self.sql.statement("drop", LANDING=identifier(name))
                    )
        return names

    def table_summary(self, interval: Interval) -> dict[str, SymbolSummary]:
        """Return per symbol, in order: rows and newest open time. Empty where there is no table yet."""
        text = self.sql.statement("summary", TABLE=table_name(interval))
        found = self.query(
            f"read {table_name(interval)}",
            text,
            lambda cursor: {
                symbol: SymbolSummary(rows, newest.replace(tzinfo=UTC))
                for symbol, rows, newest in cursor.fetchall()
            },
        )
        return found or {}

    def _landing_names(self) -> list[str]:
        text = self.sql.statement("landing_tables", SCHEMA_NAME=literal(self._settings.schema_name))
        found = self.query(
            "list landing tables", text, lambda cursor: [name for (name,) in cursor.fetchall()]
        )
        return found or []

    def _make(self, connection: "SnowflakeConnection", absent: Sequence[Sql]) -> None:
        from snowflake.connector.errors import ProgrammingError

        try:
            execute(connection, absent)
        except ProgrammingError as error:
            if not is_absent(error):
                raise
            execute(
                connection, [self.sql.statement("database"), self.sql.statement("schema"), *absent]
            )

    def _with_tables(
        self, connection: "SnowflakeConnection", made: Sequence[Sql], action: Callable[[], Answer]
    ) -> Answer:
        """Run a repeatable action, again after making what it found absent by the statements `made`.

        Asking first would cost each load two statements, for a case of the first load alone (and
        of the first after the embedded server started, which forgets its stages).
        """
        from snowflake.connector.errors import ProgrammingError

        try:
            return action()
        except ProgrammingError as error:
            if not is_absent(error) and not is_column_missing(error):
                raise
            self._make(connection, made)
        return action()

    def _run_load(
        self, connection: "SnowflakeConnection", statements: LoadStatements, expected: int
    ) -> LoadResult:
        require_lease()
        cursor = connection.cursor()
        cursor.execute(statements.landing)
        started = time.perf_counter()
        rows = self._copied(cursor, statements.copies, expected)
        copied = time.perf_counter()
        require_lease()
        cursor.execute(statements.merge)
        (counts,) = rows_by_name(cursor)
        merged = time.perf_counter()
        cursor.execute(statements.drop)
        return LoadResult(
            rows_loaded=rows,
            rows_inserted=int(counts["number of rows inserted"]),
            rows_updated=int(counts["number of rows updated"]),
            files=expected,
            copy_seconds=copied - started,
            merge_seconds=merged - copied,
        )

    def _run_replacement(
        self, connection: "SnowflakeConnection", statements: GapStatements, expected: int
    ) -> int:
        from snowflake.connector.errors import Error

        cursor = connection.cursor()
        cursor.execute(statements.landing)
        rows = self._copied(cursor, statements.copies, expected)
        require_lease()
        try:
            execute(connection, statements.replace)
        except BaseException as cause:
            try:
                cursor.execute("ROLLBACK")
            except Error as refused:
                # The end of the session rolls back too; why the statements failed is what to tell.
                cause.add_note(f"ROLLBACK failed too: {printable(refused.msg)}")
            raise
        cursor.execute(statements.drop)
        return rows

    def _copied(self, cursor: "SnowflakeCursor", copies: Sequence[Sql], expected: int) -> int:
        """Run the COPY statements of so many objects; how many rows they loaded."""
        rows = loaded = 0
        for text in copies:
            cursor.execute(text)
            for row in rows_by_name(cursor):
                self._sessions.require_own_bucket(str(row.get("file", "")))
                loaded += row.get("status") == "LOADED"
                rows += int(row.get("rows_loaded") or 0)
        if loaded != expected:
            raise WarehouseError(
                f"{self._sessions.where()} loaded {loaded} of {expected} objects and reported no error. "
                "The table was not changed. Repeat the load."
            )
        return rows


def _day_after(stamp: str) -> datetime:
    return datetime.strptime(stamp, "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)
