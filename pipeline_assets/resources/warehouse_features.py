"""The tables of features in the warehouse, `FEATURES_15M` and `FEATURES_1H`: one MERGE makes the rows, two
queries read these. Features are declared in research/features/, from which the statements are generated.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.resources.warehouse_connection import rows_by_name
from pipeline_assets.resources.warehouse_statements import (
    Sql,
    identifier,
    literal,
    table_name,
    template,
)
from pipeline_assets.resources.write_guard import require_lease

if TYPE_CHECKING:
    import polars as pl
    from snowflake.connector import SnowflakeConnection
    from snowflake.connector.cursor import SnowflakeCursor

# `newest` scans the rows of so many candles. Older features are of no use to a decision.
NEWEST_CANDLES = 8
_MINUTES = "MINUTES_"


@dataclass(frozen=True)
class MergeResult:
    """The result of a MERGE: rows inserted and updated, the seconds it took, and the newest row of the span.

    `newest_available_at` is None where the span has no row.
    """

    rows_inserted: int
    rows_updated: int
    seconds: float
    newest_available_at: datetime | None

    @property
    def rows_merged(self) -> int:
        """How many rows were written."""
        return self.rows_inserted + self.rows_updated


def features_table(interval: Interval) -> Sql:
    """Return the table of an interval's features.

    Raises:
        WarehouseError: the interval has no table of candles.
    """
    return identifier(table_name(interval).replace("CANDLES_", "FEATURES_"))


class FeatureTable:
    """The features of candles: made in the warehouse by one statement, read as frames.

    A frame has `symbol`, `open_time`, `available_at` and a column a feature, in the order of the catalogue.
    Times are aware UTC. A value whose history has a hole is null.
    """

    def __init__(self, warehouse: Warehouse, load_lag_seconds: int = 60) -> None:
        """Keep the warehouse; nothing is imported, read or connected before a method is called.

        Args:
            warehouse: the schema.
            load_lag_seconds: as in the settings, `features.load_lag_seconds`. Only `merge` uses it.
        """
        self._warehouse = warehouse
        self._lag = load_lag_seconds

    def merge(self, interval: Interval, start: datetime, end: datetime) -> MergeResult:
        """Make the table hold the features that candles of start <= open time < end take part in.

        These are the rows of the span and those after it that look back into it, of all symbols. One MERGE
        statement, which may be repeated: a row that is the same already is not written.

        Raises:
            WarehouseError: unreachable, or refused; see its message.
        """
        sql, table = self._warehouse.sql, features_table(interval)
        merge = self.statement(interval, start, end)
        newest = sql.statement("features_until", TABLE=table, **_span(start, end))
        made = [
            sql.candle_tables(interval)[-1],
            sql.funding_tables()[-1],
            sql.statement("features", TABLE=table),
        ]
        return self._warehouse.change(
            f"merge features into {table}", made, lambda each: _merged(each, merge, newest)
        )

    def statement(self, interval: Interval, start: datetime, end: datetime) -> Sql:
        """Return the MERGE of a span: durations in the interval's minutes, by their counts of candles."""
        minutes = interval.span // timedelta(minutes=1)
        durations = {
            name: Sql(str(int(name.removeprefix(_MINUTES)) * minutes))
            for name in template("features_merge").get_identifiers()
            if name.startswith(_MINUTES)
        }
        return self._warehouse.sql.statement(
            "features_merge",
            TABLE=features_table(interval),
            CANDLES=table_name(interval),
            LOAD_LAG_SECONDS=Sql(str(self._lag)),
            **_span(start, end),
            **durations,
        )

    def read(
        self, interval: Interval, symbols: Sequence[str], start: datetime, end: datetime
    ) -> "pl.DataFrame":
        """Return the features of these symbols with start <= available_at < end, by symbol and open time.

        Empty where there is no table yet.

        Raises:
            WarehouseError: unreachable, or refused; see its message.
        """
        return self._frame("features_read", interval, symbols, start, end)

    def newest(
        self, interval: Interval, symbols: Sequence[str], moment: datetime
    ) -> "pl.DataFrame":
        """Return each symbol's newest features with available_at <= moment, by symbol.

        A symbol whose features are older than NEWEST_CANDLES candles has no row.

        Raises:
            WarehouseError: unreachable, or refused; see its message.
        """
        # The times have microseconds, so the end is the first moment after.
        end = moment + timedelta(microseconds=1)
        start = end - NEWEST_CANDLES * interval.span
        return self._frame("features_newest", interval, symbols, start, end)

    def _frame(
        self, name: str, interval: Interval, symbols: Sequence[str], start: datetime, end: datetime
    ) -> "pl.DataFrame":
        if not symbols:
            return _empty()
        table = features_table(interval)
        text = self._warehouse.sql.statement(
            name,
            TABLE=table,
            SYMBOLS=Sql(", ".join(map(literal, dict.fromkeys(symbols)))),
            **_span(start, end),
        )
        found = self._warehouse.query(f"read {table}", text, _as_frame)
        return _empty() if found is None else found


def _span(start: datetime, end: datetime) -> dict[str, Sql]:
    """Return the placeholders of a span: times as the tables have these, UTC without a zone."""
    return {
        name: literal(moment.astimezone(UTC).replace(tzinfo=None).isoformat(" "))
        for name, moment in (("START", start), ("END", end))
    }


def _merged(connection: "SnowflakeConnection", merge: Sql, newest: Sql) -> MergeResult:
    require_lease()
    cursor = connection.cursor()
    started = time.perf_counter()
    cursor.execute(merge)
    (counts,) = rows_by_name(cursor)
    seconds = time.perf_counter() - started
    ((until,),) = cursor.execute(newest).fetchall()
    return MergeResult(
        rows_inserted=int(counts["number of rows inserted"]),
        rows_updated=int(counts["number of rows updated"]),
        seconds=seconds,
        newest_available_at=until.replace(tzinfo=UTC) if until else None,
    )


def _as_frame(cursor: "SnowflakeCursor") -> "pl.DataFrame":
    """Return a result as a frame; Arrow, because a year of rows as Python's values takes minutes."""
    import polars as pl

    found = pl.DataFrame(cursor.fetch_arrow_all(force_return_table=True))
    return found.rename(str.lower).cast(_schema(found.columns))


def _empty() -> "pl.DataFrame":
    """Return a frame without rows; its columns are those of the query."""
    import polars as pl

    names = template("features_read").template.partition("FROM")[0].removeprefix("SELECT")
    return pl.DataFrame(schema=_schema([name.strip() for name in names.split(",")]))


def _schema(columns: Sequence[str]) -> "pl.Schema":
    import polars as pl

    utc = pl.Datetime("us", "UTC")
    first: dict[str, pl.DataType] = {"symbol": pl.String(), "open_time": utc, "available_at": utc}
    return pl.Schema({name: first.get(name, pl.Float64()) for name in map(str.lower, columns)})
