"""Metadata as a person likes to read it in Dagster's UI. What is computed from candles is in market."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dagster import (
    MarkdownMetadataValue,
    MetadataValue,
    TableColumn,
    TableMetadataValue,
    TableRecord,
    TableSchema,
)

if TYPE_CHECKING:
    from pipeline_assets.collection.archive_source import ArchiveReport
    from pipeline_assets.collection.fetch_plan import FetchPlan

# An event with a table of 500 rows is written every minute; twenty tell what is wrong.
_ROWS = 20
# In the metadata: how many symbols could not be fetched.
FAILED = "failed symbols"


def table(columns: Mapping[str, str], records: Iterable[Sequence[Any]]) -> TableMetadataValue:
    """A small table: column names to Dagster types ("string", "int", "float"), and its rows."""
    return MetadataValue.table(
        records=[
            TableRecord(dict(zip(columns, record, strict=True))) for record in list(records)[:_ROWS]
        ],
        schema=TableSchema(columns=[TableColumn(name, kind) for name, kind in columns.items()]),
    )


def moment(value: datetime) -> str:
    """A UTC time as text, to the second."""
    return value.strftime("%Y-%m-%d %H:%M:%S UTC")


def failures(plan: "FetchPlan") -> dict[str, Any]:
    """Metadata about the symbols that failed, and those that are gone; nothing where there are none."""
    columns = {"symbol": "string", "reason": "string"}
    found: dict[str, Any] = {}
    if plan.failures:
        found[FAILED] = len(plan.failures)
        found["failures"] = table(columns, sorted(plan.failures.items()))
    if plan.gone:
        found["symbols gone"] = len(plan.gone)
        found["gone"] = table(columns, sorted(plan.gone.items()))
    return found


def archive_metadata(report: "ArchiveReport") -> dict[str, Any]:
    """Return metadata about what a fetch took from the archive, and what it could not take."""
    found: dict[str, Any] = {
        "rows from the archive": report.rows,
        "symbol-days not in the archive": report.absent,
    }
    if report.refused:
        columns = {"file": "string", "why": "string"}
        found["archive files refused"] = table(columns, sorted(report.refused.items()))
    if report.distrusted:
        columns = {"symbol": "string", "day": "string", "why": "string"}
        rows = [(symbol, str(day), why) for symbol, day, why in sorted(report.distrusted)]
        found["archive days not taken"] = table(columns, rows)
    records = [
        (symbol, each["kind"], each["first"], each["last"], each["count"])
        for noted in (report.records, report.unfilled)
        for _, by_symbol in sorted(noted.items())
        for symbol, held in sorted(by_symbol.items())
        for each in held
    ]
    if records:
        columns = dict.fromkeys(("symbol", "kind", "first", "last"), "string")
        found["archive disagreements"] = table(columns | {"candles": "int"}, records)
    return found


def picture_metadata(picture: bytes) -> MarkdownMetadataValue:
    """A PNG as metadata that Dagster's UI shows as a picture."""
    return MetadataValue.md(
        f"![completeness](data:image/png;base64,{base64.b64encode(picture).decode()})"
    )
