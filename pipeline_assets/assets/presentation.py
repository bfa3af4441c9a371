"""Metadata as a person likes to read it in Dagster's UI. What is computed from candles is in market."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dagster import MetadataValue, TableColumn, TableMetadataValue, TableRecord, TableSchema

if TYPE_CHECKING:
    from pipeline_assets.assets.fetch_plan import FetchPlan

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
