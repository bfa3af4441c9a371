"""The statements of the features: `python -m pipeline_assets_tests.generated_features` writes them, and a
test compares. Snowpark needs a session with tables for it, which the embedded Snowflake server provides.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.features.statements import statements
from pipeline_assets.resources.warehouse_statements import SchemaStatements, table_name
from pipeline_assets.settings import SnowflakeSettings
from pipeline_assets_tests.fixtures.snowflake import SnowflakeServer, running_snowflake_server

if TYPE_CHECKING:
    from snowflake.snowpark import Session

FOLDER = files("pipeline_assets.resources").joinpath("warehouse_sql")
INTERVAL = Interval.FIFTEEN_MINUTES


@contextmanager
def snowpark_session(server: SnowflakeServer, settings: SnowflakeSettings) -> "Iterator[Session]":
    """Provide a session of Snowpark on a schema that has the tables that features are made from."""
    from snowflake.snowpark import Session
    from snowflake.snowpark.exceptions import SnowparkSessionException

    sql = SchemaStatements(settings, "candles")
    tables = [sql.candle_tables(INTERVAL)[-1], sql.funding_tables()[-1]]
    with server.connect(settings) as connection:
        for text in (sql.statement("database"), sql.statement("schema"), *tables):
            connection.cursor().execute(text)
        session = Session.builder.configs({"connection": connection}).create()
        try:
            yield session
        finally:
            # It ends, although the embedded server has no SYSTEM$CANCEL_ALL_QUERIES.
            with suppress(SnowparkSessionException):
                session.close()


def generated(server: SnowflakeServer, settings: SnowflakeSettings) -> dict[str, str]:
    """Return the text of each generated file, by its name."""
    with snowpark_session(server, settings) as session:
        schema = f"{settings.database}.{settings.schema_name}"
        return statements(session, schema, table_name(INTERVAL))


def main() -> None:
    """Write every generated file."""
    with (
        tempfile.TemporaryDirectory() as name,
        running_snowflake_server(Path(name), "http://127.0.0.1:1") as server,
    ):
        for file, text in generated(server, server.settings()).items():
            Path(str(FOLDER.joinpath(f"{file}.sql"))).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
