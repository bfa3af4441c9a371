"""Replacements of parts of fakesnow that behave otherwise than Snowflake. This module and snowflake_server.py
alone import fakesnow, after `check_fakesnow`.
"""

import re
import threading
from contextlib import nullcontext
from typing import Any

from pipeline_assets.local.staged_objects import StagedObjects
from pipeline_assets.private_apis import require_names

READ_FILE = re.compile(r"read_parquet\('((?:[^']|'')*)'", re.IGNORECASE)
ALONE = re.compile(r"\s*(MERGE|CREATE|ALTER|DROP)\b", re.IGNORECASE)
# Snowflake's number for a statement that was aborted for the lock of another, and its SQL state.
LOCKED, ABORTED = 625, "57014"


def check_fakesnow() -> None:
    """Check that fakesnow has the parts that are replaced or called.

    Raises:
        ImportError: this fakesnow is another one than in constraints.txt; says what is missing.
    """
    import fakesnow.copy_into
    import fakesnow.cursor
    import fakesnow.instance
    import fakesnow.server

    require_names("fakesnow", fakesnow.copy_into, ("_source_urls", "copy_into"), __name__)
    require_names("fakesnow", fakesnow.cursor, ("copy_into", "FakeSnowflakeCursor"), __name__)
    require_names("fakesnow", fakesnow.cursor.FakeSnowflakeCursor, ("execute",), __name__)
    require_names("fakesnow", fakesnow.instance, ("FakeSnow",), __name__)
    names = ("login_request", "query_request", "routes", "shared_fs")
    require_names("fakesnow", fakesnow.server, names, __name__)


class NamingConnection:
    """A DuckDB connection whose errors name the file that was being read.

    DuckDB names it where the file is no Parquet, and not where a page or a value is bad.
    """

    def __init__(self, connection: Any) -> None:
        """Pass everything on to `connection`."""
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *parameters: Any) -> Any:
        """Execute as DuckDB does.

        Raises:
            snowflake.connector.errors.ProgrammingError: 100144, the file could not be loaded.
            duckdb.Error: a table or column is absent, which fakesnow words as Snowflake does; or
                another transaction changed the same rows, for which see `lock_tables`.
        """
        import duckdb
        from snowflake.connector.errors import ProgrammingError

        try:
            return self._connection.execute(sql, *parameters)
        except (duckdb.CatalogException, duckdb.BinderException, duckdb.TransactionException):
            raise
        except duckdb.Error as error:
            file = READ_FILE.search(sql)
            raise ProgrammingError(
                msg=f"Error parsing the file {file[1] if file else ''}: {error}",
                errno=100144,
                sqlstate="22000",
            ) from None


def load_whole_statements(objects: StagedObjects) -> None:
    """Make fakesnow's COPY fetch its files side by side, and load all of them or none.

    fakesnow commits each file for itself, so a COPY that fails at its third file leaves the rows
    of two behind, and each commit waits for the disk. Snowflake's (ON_ERROR = ABORT_STATEMENT)
    leaves nothing, which one transaction gives here.
    """
    import fakesnow.copy_into
    import fakesnow.cursor

    source_urls = fakesnow.copy_into._source_urls
    copy_into = fakesnow.copy_into.copy_into

    def prefetched_urls(source: str, files: list[str]) -> list[str]:
        urls: list[str] = source_urls(source, files)
        objects.prefetch(url for url in urls if url.startswith("s3://"))
        return urls

    def copy_whole(connection: Any, *arguments: Any) -> str:
        with objects.held():
            connection.begin()
            try:
                result: str = copy_into(NamingConnection(connection), *arguments)
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
            # The commit closed the result that fakesnow reads next.
            connection.execute(result)
            return result

    fakesnow.copy_into._source_urls = prefetched_urls
    fakesnow.cursor.copy_into = copy_whole


def lock_tables() -> None:
    """Run MERGE and DDL statements one after the other, and word DuckDB's conflicts as Snowflake does.

    fakesnow runs such a statement as several, each committed for itself. When two ran at once, one failed
    with "Duplicate key": the row was inserted by the other MERGE, or is fakesnow's own note of a table's
    columns (such as of MERGE_CANDIDATES, which every MERGE makes). Snowflake's MERGE locks its table.
    DuckDB aborts a transaction that changes what another has changed, where Snowflake's waits.
    """
    import duckdb
    import fakesnow.cursor
    from snowflake.connector.errors import ProgrammingError

    execute = fakesnow.cursor.FakeSnowflakeCursor.execute
    # Held by one statement of one thread, which may execute statements of its own meanwhile.
    alone = threading.RLock()

    def execute_alone(cursor: Any, command: str, *arguments: Any, **options: Any) -> Any:
        is_alone = ALONE.match(command) is not None
        with alone if is_alone else nullcontext():
            try:
                return execute(cursor, command, *arguments, **options)
            except (duckdb.TransactionException, duckdb.ConstraintException) as error:
                message = str(error).lower()
                # A MERGE matches by the key, so a duplicate is another's row. A plain INSERT of one is
                # the statement's own fault, and to repeat it would not help.
                if "conflict" not in message and not (is_alone and "duplicate key" in message):
                    raise
                raise ProgrammingError(
                    msg=f"The statement was aborted: another changed the same rows. {error}",
                    errno=LOCKED,
                    sqlstate=ABORTED,
                ) from None

    fakesnow.cursor.FakeSnowflakeCursor.execute = execute_alone
