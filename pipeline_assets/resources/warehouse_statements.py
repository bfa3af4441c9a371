"""The warehouse's statements: names, literals, and the files of warehouse_sql/ with their places filled.

In which order they run is in warehouse.py.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from string import Template
from typing import NewType

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.gap_objects import PREFIX as GAPS_PREFIX
from pipeline_assets.resources.warehouse_connection import WarehouseError

Sql = NewType("Sql", str)

TABLES = {interval: f"CANDLES_{interval.upper()}" for interval in Interval if interval.has_table}
# By stage the prefix of the lake that it shows.
STAGES = {"CANDLE_OBJECTS": "ohlcv/", "GAP_OBJECTS": GAPS_PREFIX}
# https://docs.snowflake.com/en/sql-reference/sql/copy-into-table: FILES takes up to 1,000 names.
MAX_FILES = 1000
_IDENTIFIER = re.compile(r"^[A-Z][A-Z0-9_]*$")
LANDING = re.compile(r"^LANDING_\w+_(\d{8})_[0-9A-F]{16}$")


@dataclass(frozen=True)
class LoadStatements:
    """The statements of one load, in the order they run; `copies` share the objects out."""

    landing: Sql
    copies: tuple[Sql, ...]
    merge: Sql
    drop: Sql


@dataclass(frozen=True)
class GapStatements:
    """The statements that replace the gaps of some days, in the order they run: a COPY where any day
    has gaps, and `replace` as one transaction.
    """

    landing: Sql
    copies: tuple[Sql, ...]
    replace: tuple[Sql, ...]
    drop: Sql


def identifier(name: str) -> Sql:
    """`name` as an unquoted identifier.

    Raises:
        ValueError: it holds anything but upper-case letters, digits and underscores.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name a Snowflake object: use A-Z, 0-9 and _, a letter first"
        )
    return Sql(name)


def literal(text: str) -> Sql:
    r"""`text` as a string literal; `\` is an escape in Snowflake's, so it is doubled too."""
    return Sql("'" + text.replace("\\", "\\\\").replace("'", "''") + "'")


def statement(name: str, **values: Sql) -> Sql:
    """The statement of warehouse_sql/`name`.sql, without comments, its placeholders filled.

    Raises:
        KeyError: the file has a placeholder that `values` lacks.
    """
    text = (
        files("pipeline_assets.resources").joinpath(f"warehouse_sql/{name}.sql").read_text("utf-8")
    )
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return Sql(Template("\n".join(lines)).substitute(values))


def table_name(interval: Interval) -> Sql:
    """The table of an interval.

    Raises:
        WarehouseError: the interval has none, such as 1m.
    """
    if interval not in TABLES:
        raise WarehouseError(
            f"{interval} candles have no table: the warehouse holds {' and '.join(TABLES)}. "
            f"{interval} candles are on S3."
        )
    return identifier(TABLES[interval])


def landing_name(rows: str, load_id: str, day: date) -> Sql:
    """The landing table of one load of `rows` (an interval, or gaps): the same for a repeat on the
    same UTC day.

    The day is in the name because the embedded server keeps no creation times; the load id is in
    it as a digest, so that any id makes a valid name and no two ids share one.
    """
    digest = hashlib.sha256(load_id.encode()).hexdigest()[:16].upper()
    return identifier(f"LANDING_{rows.upper()}_{day:%Y%m%d}_{digest}")
