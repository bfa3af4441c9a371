"""The warehouse's statements: names, literals, and the files of warehouse_sql/ with their places filled.
Sessions and repeats are not known here: warehouse.py runs the statements.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.resources import files
from string import Template
from typing import NewType

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.funding_objects import PREFIX as FUNDING_PREFIX
from pipeline_assets.resources.gap_objects import PREFIX as GAPS_PREFIX
from pipeline_assets.resources.gap_objects import gaps_key
from pipeline_assets.resources.warehouse_connection import WarehouseError
from pipeline_assets.settings import SnowflakeSettings

Sql = NewType("Sql", str)

TABLES = {interval: f"CANDLES_{interval.upper()}" for interval in Interval if interval.has_table}
# By stage the prefix of the lake that it shows.
FUNDING_TABLE = "FUNDING_RATES"
STAGES = {
    "CANDLE_OBJECTS": "ohlcv/",
    "GAP_OBJECTS": GAPS_PREFIX,
    "FUNDING_OBJECTS": FUNDING_PREFIX,
}
# The stages of trading records are in record_tables.py.
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
    """Return `name` as an unquoted identifier.

    Raises:
        ValueError: it holds anything but upper-case letters, digits and underscores.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name a Snowflake object: use A-Z, 0-9 and _, a letter first"
        )
    return Sql(name)


def literal(text: str) -> Sql:
    r"""Return `text` as a string literal; `\` is an escape in Snowflake's, so it is doubled too."""
    return Sql("'" + text.replace("\\", "\\\\").replace("'", "''") + "'")


def statement(name: str, **values: Sql) -> Sql:
    """Return the statement of warehouse_sql/`name`.sql, without comments, its placeholders filled.

    Raises:
        KeyError: the file has a placeholder that is missing from `values`.
    """
    return Sql(template(name).substitute(values))


def template(name: str) -> Template:
    """Return the text of warehouse_sql/`name`.sql, without comments, its placeholders as they are."""
    text = (
        files("pipeline_assets.resources").joinpath(f"warehouse_sql/{name}.sql").read_text("utf-8")
    )
    return Template("\n".join(line for line in text.splitlines() if not line.startswith("--")))


def table_name(interval: Interval) -> Sql:
    """Return the table of an interval.

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
    """Return the landing table of one load of `rows` (an interval, or gaps), which a repeat on the same UTC
    day has too.

    The day is in the name because the embedded server keeps no creation times; the load id is in
    it as a digest, so that any id makes a valid name and no two ids share one.
    """
    digest = hashlib.sha256(load_id.encode()).hexdigest()[:16].upper()
    return identifier(f"LANDING_{rows.upper()}_{day:%Y%m%d}_{digest}")


class SchemaStatements:
    """The statements of one schema and one lake."""

    def __init__(self, snowflake: SnowflakeSettings, bucket: str) -> None:
        self._snowflake = snowflake
        self._bucket = bucket

    def statement(self, name: str, **values: Sql) -> Sql:
        """Return a statement of warehouse_sql/ with the names of database and schema filled in."""
        database = identifier(self._snowflake.database)
        schema = identifier(self._snowflake.schema_name)
        return statement(name, DATABASE=database, SCHEMA=schema, **values)

    def _copy(self, stage: str, landing: Sql, objects: Sequence[str]) -> Sql:
        return self.statement(
            "copy",
            STAGE=identifier(stage),
            LANDING=landing,
            FILES=Sql(", ".join(map(literal, objects))),
        )

    def stage(self, name: str, prefix: str | None = None) -> Sql:
        """Return what makes a stage of the lake's objects below a prefix; by default that of `STAGES`."""
        integration = self._snowflake.storage_integration
        clause = f"STORAGE_INTEGRATION = {identifier(integration)}" if integration else ""
        url = literal(f"s3://{self._bucket}/{prefix or STAGES[name]}")
        return self.statement("stage", STAGE=identifier(name), URL=url, STORAGE_CLAUSE=Sql(clause))

    def gap_tables(self) -> list[Sql]:
        """Return what makes the stage and the table of gaps."""
        return [self.stage("GAP_OBJECTS"), self.statement("gaps")]

    def funding_tables(self) -> list[Sql]:
        """Return what makes the stage and the table of funding rates."""
        return [self.stage("FUNDING_OBJECTS"), self.statement("funding")]

    def candle_tables(self, interval: Interval) -> list[Sql]:
        """Return what makes the stage and the table of an interval's candles."""
        table = self.statement("candles", TABLE=table_name(interval))
        return [self.stage("CANDLE_OBJECTS"), table]

    def load(self, interval: Interval, object_keys: Sequence[str], load_id: str) -> LoadStatements:
        """Return what `Warehouse.load` runs, in order; each COPY names up to 1,000 objects.

        Raises:
            WarehouseError: the interval has no table.
        """
        landing = landing_name(interval, load_id, datetime.now(UTC).date())
        return self.load_with("merge", table_name(interval), landing, "CANDLE_OBJECTS", object_keys)

    def load_funding(self, object_keys: Sequence[str], load_id: str) -> LoadStatements:
        """Return what `Warehouse.load_funding` runs, as `load`."""
        landing = landing_name("funding", load_id, datetime.now(UTC).date())
        table = identifier(FUNDING_TABLE)
        return self.load_with("funding_merge", table, landing, "FUNDING_OBJECTS", object_keys)

    def load_with(
        self, merge: str, table: Sql, landing: Sql, stage: str, object_keys: Sequence[str]
    ) -> LoadStatements:
        """Return the statements of a load whose MERGE is the file `merge`."""
        names = {"TABLE": table, "LANDING": landing}
        starts = range(0, len(object_keys), MAX_FILES)
        lists = (object_keys[start : start + MAX_FILES] for start in starts)
        return LoadStatements(
            landing=self.statement("landing", **names),
            copies=tuple(self._copy(stage, landing, part) for part in lists),
            merge=self.statement(merge, **names),
            drop=self.statement("drop", **names),
        )

    def replace_gaps(
        self, days: Sequence[date], with_gaps: Sequence[date], load_id: str
    ) -> GapStatements:
        """Return what `Warehouse.replace_gaps` runs, in order."""
        landing = landing_name("gaps", load_id, datetime.now(UTC).date())
        listed = Sql(", ".join(literal(day.isoformat()) for day in days))
        objects = [gaps_key(day).removeprefix(GAPS_PREFIX) for day in with_gaps]
        return GapStatements(
            landing=self.statement("gap_landing", LANDING=landing),
            copies=(self._copy("GAP_OBJECTS", landing, objects),) if objects else (),
            replace=(
                Sql("BEGIN"),
                self.statement("gap_delete", DAYS=listed),
                self.statement("gap_insert", DAYS=listed, LANDING=landing),
                Sql("COMMIT"),
            ),
            drop=self.statement("drop", LANDING=landing),
        )
