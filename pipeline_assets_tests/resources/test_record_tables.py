"""The declarations of tables of trading records and of views: they agree with the lake and production."""

import re
from importlib.resources import files

import pytest
import sqlglot
from sqlglot import exp

from pipeline_assets.market.candidates import candidate_schema
from pipeline_assets.resources.candidate_objects import LATE
from pipeline_assets.resources.outcome_objects import outcome_schema
from pipeline_assets.resources.record_tables import RECORD_TABLES, VIEWS, columns_of
from pipeline_assets.resources.warehouse_statements import STAGES, template
from pipeline_assets.trading.record_objects import Kind, schema_of

OBJECTS = {kind.name: schema_of(kind).names() for kind in Kind}
OBJECTS["CANDIDATES"] = [*candidate_schema().names(), LATE]
OBJECTS["CANDIDATE_OUTCOMES"] = outcome_schema().names()


@pytest.mark.parametrize("name", RECORD_TABLES)
def test_tables_have_the_objects_columns(name: str) -> None:
    columns = [column.strip('"').lower() for column in columns_of(RECORD_TABLES[name])]
    assert columns == OBJECTS[name]


@pytest.mark.parametrize("file", [*(table.file for table in RECORD_TABLES.values()), *VIEWS])
def test_every_column_has_a_comment(file: str) -> None:
    """Snowflake shows what a column means; a view has as many columns as its query."""
    text = template(file).substitute(DATABASE="D", SCHEMA="S", TABLE="T")
    made = sqlglot.parse_one(text, read="snowflake")
    columns = list(made.this.find_all(exp.ColumnDef))
    comments = [each.find(exp.CommentColumnConstraint) for each in columns]
    assert all(each and len(each.this.this) >= len("buy or sell") for each in comments)
    assert made.find(exp.SchemaCommentProperty)
    if made.expression:
        assert len(columns) == len(made.expression.selects) > 10


def test_production_reads_every_prefix() -> None:
    """The storage integration of a new account, and that of an older one, may read what stages show."""
    sql = files("pipeline_assets.resources").joinpath("warehouse_sql/production.sql").read_text()
    lists = re.findall(r"STORAGE_ALLOWED_LOCATIONS = \(([^)]*)\)", sql)
    assert len(lists) == 2
    for listed in lists:
        allowed = re.findall(r"'s3://candles/([^']*)'", listed)
        needed = [*STAGES.values(), *(table.prefix for table in RECORD_TABLES.values())]
        assert all(any(each.startswith(prefix) for prefix in allowed) for each in needed)
