"""The readers of a report's sections, as one argument: the warehouse, the lake and the records of runs.
Figures are in the sections' modules.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline_assets.research.daily_report.parts import NO_VALUE, Edition, Figure, Source
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.report_queries import Answer, ReportQueries
from pipeline_assets.resources.warehouse_statements import Sql

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class RunRecord:
    """The figures that a run reported when it materialized an asset.

    Attributes:
        asset: key of the asset, as "candle_slots_1m".
        at: when the asset was materialized, UTC.
        weight: request weight that the run spent; 0 where it spent none.
        lag: seconds from the close of the newest candle until the asset held it; None where it does not say.
        warehouse: seconds that the warehouse worked; None where the run sent it no statement.
    """

    asset: str
    at: datetime
    weight: int = 0
    lag: float | None = None
    warehouse: float | None = None


@dataclass(frozen=True)
class Readers:
    """The readers of sections.

    Attributes:
        queries: the warehouse.
        store: the lake.
        account: whose trading is shown first; None for the account with the most fills.
        runs: the records of the edition's runs; None if these were not read.
    """

    queries: ReportQueries
    store: ObjectStore
    account: str | None = None
    runs: tuple[RunRecord, ...] | None = field(default=None)


@dataclass(frozen=True)
class Answered:
    """A query's rows and the source that figures made of these name."""

    frame: "pl.DataFrame"
    source: Source
    exists: bool


def ask(readers: Readers, edition: Edition, name: str, text: str, **values: Sql) -> Answered:
    """Return the answer to a query over an edition.

    Args:
        readers: what is read.
        edition: the span.
        name: of the query.
        text: a few words that name the source.
        values: further placeholders of the query.

    Raises:
        WarehouseError: unreachable, or refused; see its message.
    """
    found: Answer = readers.queries.read(name, edition.window(), **values)
    return Answered(found.frame, Source(text, query=found.query), found.exists)


def nothing(label: str, why: str, source: Source) -> Figure:
    """Return a figure without a value, with the reason."""
    return Figure(label, NO_VALUE, why, source)


def reason(answer: Answered, table: str, otherwise: str) -> str:
    """Return why an answer has no rows: its table does not exist yet, or another reason."""
    return otherwise if answer.exists else f"The warehouse has no {table} yet."
