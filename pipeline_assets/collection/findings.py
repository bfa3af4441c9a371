"""Findings: the result of a check for one day, with its tables. How a finding is shown is decided by
the caller: assets/check_results.py shows it in Dagster.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

# In the metadata: how many symbols could not be fetched.
FAILED = "failed symbols"
MISSING_COLUMNS = {"symbol": "string", "from": "string", "until": "string", "missing": "int"}
# An event with a table of 500 rows is written every minute; twenty tell what is wrong.
_ROWS = 20


@dataclass(frozen=True)
class Table:
    """A small table.

    Attributes:
        columns: column names to their types ("string", "int", "float").
        rows: the first rows, as many as a person reads.
    """

    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]]

    @classmethod
    def of(cls, columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> "Table":
        """Make a table of the first rows."""
        return cls(columns, list(rows)[:_ROWS])


@dataclass(frozen=True)
class Finding:
    """The result of a check for one day. The values of `metadata` are tables, numbers or text."""

    passed: bool
    description: str
    metadata: dict[str, Any] = field(default_factory=dict)


def moment(value: datetime) -> str:
    """Return a UTC time as text, to the second."""
    return value.strftime("%Y-%m-%d %H:%M:%S UTC")


class SymbolFailures(Protocol):
    """The symbols of a run, of candles or funding rates, that gave nothing; each with the reason."""

    failures: dict[str, str]
    gone: dict[str, str]


def failures(plan: SymbolFailures) -> dict[str, Any]:
    """Return what to report of symbols that failed, and of those that are gone; nothing where none are."""
    columns = {"symbol": "string", "reason": "string"}
    found: dict[str, Any] = {}
    if plan.failures:
        found[FAILED] = len(plan.failures)
        found["failures"] = Table.of(columns, sorted(plan.failures.items()))
    if plan.gone:
        found["symbols gone"] = len(plan.gone)
        found["gone"] = Table.of(columns, sorted(plan.gone.items()))
    return found
