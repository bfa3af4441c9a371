"""The warehouse: loads candle objects and the gap ledger into Snowflake's tables, and says what the
tables hold.

The statements themselves stand in warehouse_sql/, one a file, and are filled in warehouse_statements.py;
sessions are opened in warehouse_connection.py. Which objects to load, and when, is
the assets' business; DDL that only a real account needs is in warehouse_sql/production.sql.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline_assets.market.intervals import Interval
from pipeline_assets.outside_text import printable
from pipeline_assets.resources.gap_objects import PREFIX as GAPS_PREFIX
from pipeline_assets.resources.gap_objects import gaps_key
from pipeline_assets.resources.retry import RetryPolicy
from pipeline_assets.resources.warehouse_connection import (
    ABSENT,
    LOCKED,
    WarehouseError,
    WarehouseSessions,
)
from pipeline_assets.resources.warehouse_statements import (
    LANDING,
    MAX_FILES,
    STAGES,
    GapStatements,
    LoadStatements,
    Sql,
    identifier,
    landing_name,
    literal,
    statement,
    table_name,
)
from pipeline_assets.settings import S3Settings, SnowflakeSettings

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.cursor import SnowflakeCursor


Answer = TypeVar("Answer")

# Of what was aborted for another loader's lock. The waits differ, or two that collided once would collide
# again. A request that is not answered is repeated by the connector itself until its network_timeout.
_LOCK_RETRIES = RetryPolicy(attempts=7, first_wait=0.25, longest_wait=8.0, jitter=0.5)


@dataclass(frozen=True)
class LoadResult:
    """What a load did: rows and files counted, and the seconds its COPY and MERGE took."""

    rows_loaded: int
    rows_inserted: int
    rows_updated: int
    files: int
    copy_seconds: float
    merge_seconds: float


@dataclass(frozen=True)
class SymbolSummary:
    """What a table holds of one symbol: rows, and the newest open time (aware, UTC)."""

    rows: int
    newest_open_time: datetime


class Warehouse:
    """The tables of candles and gaps of one Snowflake schema."""

    def __init__(self, snowflake: SnowflakeSettings, s3: S3Settings) -> None:
        """Keep the settings; nothing is imported, read or connected before a method is called."""
        self._settings = snowflake
        self._bucket = s3.bucket
        self._sessions = WarehouseSessions(snowflake, s3.bucket)

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

        One loader at a time per table, whoever asks: a MERGE locks its table, in Snowflake and in the
        embedded server, and a load that is aborted for another's lock is repeated.

        Raises:
            WarehouseError: unreachable, refused, an object absent or unreadable; see its message.
        """
        keys = list(dict.fromkeys(object_keys))
        statements = self.statements(interval, keys, load_id)
        if not keys:
            return LoadResult(0, 0, 0, 0, 0.0, 0.0)
        with self._sessions.open(
            f"load {len(keys)} objects into {table_name(interval)}"
        ) as connection:
            return self._with_tables(
                connection,
                self._candle_tables(interval),
                lambda: _repeated(lambda: self._run_load(connection, statements, len(keys))),
            )

    def statements(
        self, interval: Interval, object_keys: Sequence[str], load_id: str
    ) -> LoadStatements:
        """Return what `load` runs, in order; each COPY names up to 1,000 objects.

        Raises:
            WarehouseError: the interval has no table.
        """
        names = {
            "TABLE": table_name(interval),
            "LANDING": landing_name(interval, load_id, datetime.now(UTC).date()),
        }
        starts = range(0, len(object_keys), MAX_FILES)
        lists = (object_keys[start : start + MAX_FILES] for start in starts)
        return LoadStatements(
            landing=self._statement("landing", **names),
            copies=tuple(self._copy("CANDLE_OBJECTS", names["LANDING"], part) for part in lists),
            merge=self._statement("merge", **names),
            drop=self._statement("drop", **names),
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
        statements = self.gap_statements(days, with_gaps, load_id)
        with self._sessions.open(f"load the gaps of {len(days)} days") as connection:
            return self._with_tables(
                connection,
                [self._stage("GAP_OBJECTS"), self._statement("gaps")],
                lambda: _repeated(
                    lambda: self._run_replacement(connection, statements, len(with_gaps))
                ),
            )

    def gap_statements(
        self, days: Sequence[date], with_gaps: Sequence[date], load_id: str
    ) -> GapStatements:
        """Return what `replace_gaps` runs, in order."""
        landing = landing_name("gaps", load_id, datetime.now(UTC).date())
        listed = Sql(", ".join(literal(day.isoformat()) for day in days))
        objects = [gaps_key(day).removeprefix(GAPS_PREFIX) for day in with_gaps]
        return GapStatements(
            landing=self._statement("gap_landing", LANDING=landing),
            copies=(self._copy("GAP_OBJECTS", landing, objects),) if objects else (),
            replace=(
                Sql("BEGIN"),
                self._statement("gap_delete", DAYS=listed),
                self._statement("gap_insert", DAYS=listed, LANDING=landing),
                Sql("COMMIT"),
            ),
            drop=self._statement("drop", LANDING=landing),
        )

    def landing_tables(self, older_than: datetime) -> list[str]:
        """The names of the landing tables whose UTC day had ended at `older_than`.

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
                    connection.cursor().execute(self._statement("drop", LANDING=identifier(name)))
        return names

    def table_summary(self, interval: Interval) -> dict[str, SymbolSummary]:
        """Per symbol, in order: rows and newest open time. Empty where there is no table yet."""
        from snowflake.connector.errors import ProgrammingError

        with self._sessions.open(f"read {table_name(interval)}") as connection:
            try:
                cursor = connection.cursor().execute(
                    self._statement("summary", TABLE=table_name(interval))
                )
            except ProgrammingError as error:
                if error.errno not in ABSENT:
                    raise
                return {}
            return {
                symbol: SymbolSummary(rows, newest.replace(tzinfo=UTC))
                for symbol, rows, newest in cursor.fetchall()
            }

    def _landing_names(self) -> list[str]:
        from snowflake.connector.errors import ProgrammingError

        text = self._statement("landing_tables", SCHEMA_NAME=literal(self._settings.schema_name))
        with self._sessions.open("list landing tables") as connection:
            try:
                return [name for (name,) in connection.cursor().execute(text).fetchall()]
            except ProgrammingError as error:
                if error.errno not in ABSENT:
                    raise
                return []

    def _statement(self, name: str, **values: Sql) -> Sql:
        database = identifier(self._settings.database)
        schema = identifier(self._settings.schema_name)
        return statement(name, DATABASE=database, SCHEMA=schema, **values)

    def _copy(self, stage: str, landing: Sql, objects: Sequence[str]) -> Sql:
        return self._statement(
            "copy",
            STAGE=identifier(stage),
            LANDING=landing,
            FILES=Sql(", ".join(map(literal, objects))),
        )

    def _stage(self, name: str) -> Sql:
        integration = self._settings.storage_integration
        clause = f"STORAGE_INTEGRATION = {identifier(integration)}" if integration else ""
        url = literal(f"s3://{self._bucket}/{STAGES[name]}")
        return self._statement("stage", STAGE=identifier(name), URL=url, STORAGE_CLAUSE=Sql(clause))

    def _candle_tables(self, interval: Interval) -> list[Sql]:
        table = self._statement("candles", TABLE=table_name(interval))
        return [self._stage("CANDLE_OBJECTS"), table]

    def _make(self, connection: "SnowflakeConnection", absent: Sequence[Sql]) -> None:
        from snowflake.connector.errors import ProgrammingError

        try:
            _execute(connection, absent)
        except ProgrammingError as error:
            if error.errno not in ABSENT:
                raise
            _execute(connection, [self._statement("database"), self._statement("schema"), *absent])

    def _with_tables(
        self,
        connection: "SnowflakeConnection",
        made: Sequence[Sql],
        action: Callable[[], Answer],
    ) -> Answer:
        """Run a repeatable action, again after making what it found absent by the statements `made`.

        Asking first would cost each load two statements, for a case of the first load alone (and
        of the first after the embedded server started, which forgets its stages).
        """
        from snowflake.connector.errors import ProgrammingError

        try:
            return action()
        except ProgrammingError as error:
            if error.errno not in ABSENT:
                raise
            self._make(connection, made)
        return action()

    def _run_load(
        self, connection: "SnowflakeConnection", statements: LoadStatements, expected: int
    ) -> LoadResult:
        cursor = connection.cursor()
        cursor.execute(statements.landing)
        started = time.perf_counter()
        rows = self._copied(cursor, statements.copies, expected)
        copied = time.perf_counter()
        cursor.execute(statements.merge)
        (counts,) = _rows_by_name(cursor)
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
        try:
            _execute(connection, statements.replace)
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
            for row in _rows_by_name(cursor):
                loaded += row.get("status") == "LOADED"
                rows += int(row.get("rows_loaded") or 0)
        if loaded != expected:
            raise WarehouseError(
                f"{self._sessions.where()} loaded {loaded} of {expected} objects and reported no error. "
                "The table was not changed. Repeat the load."
            )
        return rows


def _repeated(action: Callable[[], Answer]) -> Answer:
    """Run a repeatable action, again while another loader holds the lock of its table."""
    from snowflake.connector.errors import ProgrammingError

    return _LOCK_RETRIES.run(
        action, lambda error: isinstance(error, ProgrammingError) and error.errno in LOCKED
    )


def _execute(connection: "SnowflakeConnection", statements: Sequence[Sql]) -> None:
    cursor = connection.cursor()
    for text in statements:
        cursor.execute(text)


def _rows_by_name(cursor: "SnowflakeCursor") -> list[dict[str, Any]]:
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _day_after(stamp: str) -> datetime:
    return datetime.strptime(stamp, "%Y%m%d").replace(tzinfo=UTC) + timedelta(days=1)
