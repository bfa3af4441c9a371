"""The queries of the report: named files of warehouse_sql/ over a span, answered as frames. Figures are
made of these in research/daily_report/.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline_assets.market.windows import Window
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.resources.warehouse_connection import WarehouseSession
from pipeline_assets.resources.warehouse_statements import Sql, literal

if TYPE_CHECKING:
    import polars as pl
    from snowflake.connector.cursor import SnowflakeCursor

# The columns of each query. A name alone is a text; `n` a whole number, `f` a float, `t` a time, `d` a date.
_COLUMNS = {
    "market": (
        "symbol first_open:f last_close:f candles:n quote_volume:f taker_buy_quote_volume:f "
        "changes:n squares:f"
    ),
    "hours": "open_time:t symbols:n quote_volume:f taker_buy_quote_volume:f",
    "closes": "symbol open_time:t close:f",
    "funding": "symbol settlements:n paid:f",
    "gaps": "day:d symbol width first_open_time:t last_open_time:t candles:n cause",
    "latency": "step cases:n p50:f p95:f p99:f longest:f",
    "candidates": "strategy hour:t candidates:n late:n accepted:n",
    "outcomes": (
        "strategy horizon_minutes:n hour:t cases:n returns:f positive:n not_over:n minutes_missing:n"
    ),
    "extremes": "strategy symbol side open_time:t signed_return:f favourable:f adverse:f verdict",
    "decisions": "author verdict decline_reason action outcome skip_reason decisions:n",
    "calibration": "bucket:n cases:n probability:f positive:n",
    "orders": "account kind status status_reason orders:n",
    "fills": "account symbol filled_at:t signed_quantity:f value:f fee:f cash_flow:f",
    "positions": "account symbol quantity:f",
    "marks": "symbol known_at:t price:f",
    "trades": "account strategy symbol decision_id profit:f fees:f closed_at:t",
    "slippage": "account strategy decision_id value:f slippage:f",
}


@dataclass(frozen=True)
class Answer:
    """The answer to a query.

    Attributes:
        frame: its rows; none where the query's table or view does not exist yet.
        query: the SQL text.
        exists: whether the table or view exists.
    """

    frame: "pl.DataFrame"
    query: str
    exists: bool


class ReportQueries:
    """The queries of one warehouse: each in a session of its own, or all in the one that is given."""

    def __init__(self, warehouse: Warehouse, session: WarehouseSession | None = None) -> None:
        """Keep the warehouse; nothing is imported, read or connected before a method is called."""
        self._warehouse, self._session = warehouse, session

    @contextmanager
    def in_one_session(self) -> Iterator["ReportQueries"]:
        """Provide the same queries in one session, which ends with the block.

        Raises:
            WarehouseError: unreachable, or the login was refused; see its message.
        """
        with self._warehouse.session("read the figures of a report") as session:
            yield ReportQueries(self._warehouse, session)

    def read(self, name: str, window: Window, **values: Sql) -> Answer:
        """Return the rows of the query `warehouse_sql/report_{name}.sql` over a span, in its order.

        Args:
            name: of the query.
            window: the span, UTC.
            values: further placeholders of the file.

        Raises:
            WarehouseError: unreachable, or refused; see its message.
        """
        span = {"START": time_literal(window.start), "END": time_literal(window.end)}
        text = self._warehouse.sql.statement(f"report_{name}", **span, **values)
        schema = _schema(_COLUMNS[name])
        found = (self._session or self._warehouse).query(
            f"read the {name} of a report", text, lambda cursor: _as_frame(cursor, schema)
        )
        exists = found is not None
        return Answer(schema.to_frame() if found is None else found, text.strip(), exists)


def time_literal(moment: datetime) -> Sql:
    """Return a time as the tables have it, UTC without a zone."""
    return literal(moment.astimezone(UTC).replace(tzinfo=None).isoformat(" "))


def _as_frame(cursor: "SnowflakeCursor", schema: "pl.Schema") -> "pl.DataFrame":
    """Return a result as a frame; Arrow, because a month of rows as Python's values takes minutes."""
    import polars as pl

    found = pl.DataFrame(cursor.fetch_arrow_all(force_return_table=True)).rename(str.lower)
    return found.select(schema.names()).cast(schema)


def _schema(columns: str) -> "pl.Schema":
    import polars as pl

    kinds: dict[str, pl.DataType] = {
        "": pl.String(),
        "n": pl.Int64(),
        "f": pl.Float64(),
        "t": pl.Datetime("us", "UTC"),
        "d": pl.Date(),
    }
    named = (each.partition(":") for each in columns.split())
    return pl.Schema({name: kinds[kind] for name, _, kind in named})
