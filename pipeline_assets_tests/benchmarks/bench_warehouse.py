"""How long the embedded warehouse takes for 500 one-day objects of 15m, and by how many statements.

One COPY and one MERGE for all, against one COPY an object in the same run (50 of them, scaled).
The embedded server opens files one by one; Snowflake does not, so the seconds are this server's.
"""

import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.settings import S3Settings
from pipeline_assets_tests.benchmarks.harness import report
from pipeline_assets_tests.fixtures.s3 import S3Server, make_bucket
from pipeline_assets_tests.fixtures.snowflake import (
    Lake,
    SnowflakeServer,
    day_of_candles,
    running_snowflake_server,
)

OBJECTS = 500
SAMPLE = 50
DAY = datetime(2026, 10, 1, tzinfo=UTC)
INTERVAL = Interval.FIFTEEN_MINUTES


def one_by_one(warehouse: Warehouse, keys: list[str], server: SnowflakeServer) -> float:
    """Seconds of a COPY for each object into one landing table, scaled from a sample to all."""
    parts = [warehouse.sql.load(INTERVAL, [key], "separate") for key in keys[:SAMPLE]]
    with server.connect(server.settings()) as connection:
        cursor = connection.cursor()
        cursor.execute(parts[0].landing)
        started = time.perf_counter()
        for part in parts:
            cursor.execute(part.copies[0])
        took = time.perf_counter() - started
        cursor.execute(parts[0].drop)
    return took / SAMPLE * len(keys)


def main() -> int:
    with (
        tempfile.TemporaryDirectory() as name,
        S3Server(Path(name) / "s3") as s3,
        running_snowflake_server(Path(name), s3.endpoint) as server,
    ):
        lake = Lake(make_bucket(s3))
        keys = [
            lake.put(day_of_candles(symbol, DAY), f"15m/{symbol}/20261001_0000.parquet")
            for symbol in (f"S{number:03d}USDT" for number in range(OBJECTS))
        ]
        warehouse = Warehouse(server.settings(), S3Settings(bucket=lake.bucket))
        warehouse.make_tables(INTERVAL)
        before = server.statements()
        first = warehouse.load(INTERVAL, keys, "first")
        counted = server.statements() - before
        repeat = warehouse.load(INTERVAL, keys, "second")
        separate = one_by_one(warehouse, keys, server) + first.merge_seconds
    total = first.copy_seconds + first.merge_seconds
    changed = repeat.rows_inserted + repeat.rows_updated
    rows = OBJECTS * INTERVAL.per_day
    met = [
        report(
            "warehouse_load_seconds", total, "s", round(separate, 3), met=total < separate,
            ratio=round(separate / total, 2),
            against=f"one COPY an object, {SAMPLE} in this run, scaled, and one MERGE",
            copy_seconds=round(first.copy_seconds, 3), merge_seconds=round(first.merge_seconds, 3),
            objects=first.files, rows=first.rows_inserted,
        ),
        report(
            "warehouse_load_statements", counted["COPY INTO"] + counted["MERGE INTO"], "statements",
            2, met=(counted["COPY INTO"], counted["MERGE INTO"]) == (1, 1),
            ratio=(OBJECTS + 1) / max(1, counted["COPY INTO"] + counted["MERGE INTO"]),
            against="one COPY an object and one MERGE", by_kind=dict(counted),
        ),
        report(
            "warehouse_repeat_rows_changed", changed, "rows", 0,
            met=changed == 0 and repeat.rows_loaded == first.rows_inserted == rows,
            ratio=changed / rows, against="the rows of the first load in this run",
            copy_seconds=round(repeat.copy_seconds, 3),
            merge_seconds=round(repeat.merge_seconds, 3),
        ),
    ]  # fmt: skip
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
