"""Metadata as a person likes to read it in Dagster's UI. Figures are computed from candles in market."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dagster import (
    MarkdownMetadataValue,
    MetadataValue,
    TableColumn,
    TableMetadataValue,
    TableRecord,
    TableSchema,
)

from pipeline_assets.collection.findings import Table


def table(columns: Mapping[str, str], records: Iterable[Sequence[Any]]) -> TableMetadataValue:
    """Return a small table: column names to Dagster types ("string", "int", "float"), and its rows."""
    rows = Table.of(columns, records).rows
    return MetadataValue.table(
        records=[TableRecord(dict(zip(columns, row, strict=True))) for row in rows],
        schema=TableSchema(columns=[TableColumn(name, kind) for name, kind in columns.items()]),
    )


def metadata(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report's values as Dagster takes them: each Table as a table."""
    return {
        name: table(value.columns, value.rows) if isinstance(value, Table) else value
        for name, value in values.items()
    }


def picture_metadata(picture: bytes, name: str = "completeness") -> MarkdownMetadataValue:
    """Return a PNG as metadata that Dagster's UI shows as a picture, or else as `name`."""
    return MetadataValue.md(
        f"![{name}](data:image/png;base64,{base64.b64encode(picture).decode()})"
    )
