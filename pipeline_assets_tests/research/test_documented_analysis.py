"""The example of docs/research.md, "Look at what was traded": three readers of the same figures."""

import atexit
import re
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from pipeline_assets.collection.record_load import load_records, update_views
from pipeline_assets.resources import record_tables
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.trading.record_objects import Kind
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.fixtures.snowflake import PASSWORD, SnowflakeServer
from pipeline_assets_tests.fixtures.trading_records import DAY, a_fill, put

PAGE = Path(__file__).parents[2] / "docs" / "research.md"


def test_documented_readers_agree(
    s3_bucket: S3Bucket,
    warehouse: Warehouse,
    warehouse_settings: SimpleNamespace,
    snowflake_server: SnowflakeServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Polars and DuckDB on the lake, Snowpark on the warehouse; the SQL of the page runs too."""
    store = ObjectStore(s3_bucket.settings())
    amounts = {"quantity": Decimal("0.3"), "price": Decimal("100.1")}
    put(store, Kind.FILLS, a_fill(1, **amounts), a_fill(2, symbol="币安人生USDT", **amounts))
    put(store, Kind.FILLS, a_fill(3, side="sell"), day=DAY.replace(day=1))
    load_records(store, warehouse, record_tables.FILLS, None, "run")
    update_views(store, warehouse)
    s3, snowflake = s3_bucket.settings(), warehouse_settings.snowflake
    held = {
        "S3__ENDPOINT_URL": s3.endpoint_url,
        "S3__BUCKET": s3.bucket,
        "S3__ACCESS_KEY_ID": s3.access_key_id,
        "S3__SECRET_ACCESS_KEY": s3.secret_access_key.get_secret_value(),
        "SNOWFLAKE__PORT": str(snowflake.port),
        "SNOWFLAKE__USER": snowflake.user,
        "SNOWFLAKE__PASSWORD": PASSWORD,
        "SNOWFLAKE__DATABASE": snowflake.database,
    }
    for name, value in held.items():
        monkeypatch.setenv(f"PIPELINE_{name}", value)
    text = PAGE.read_text("utf-8").partition("## Look at what was traded")[2]
    read: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, read)
    by_polars = read["by_polars"].sort("symbol").rows()
    assert [row[:2] for row in by_polars] == [("BTCUSDT", 2), ("币安人生USDT", 1)]
    assert by_polars[1][2] == pytest.approx(30.03)
    assert read["by_duckdb"].sort("symbol").rows() == by_polars
    assert pl.from_pandas(read["by_snowpark"]).sort("SYMBOL").rows() == by_polars
    # Snowpark closes sessions when Python ends, and would wait for a server that is gone by then.
    atexit.unregister(read["session"]._close_at_exit)
    [sql] = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    with snowflake_server.connect(snowflake) as connection:
        assert connection.cursor().execute(sql).fetchall() == []
