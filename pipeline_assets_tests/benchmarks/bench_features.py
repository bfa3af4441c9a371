"""How long the embedded warehouse takes for the features of one 15m load of 500 symbols, and by how many
statements: the newest candle of each symbol, and the whole open day as an ingest run merges it.

Half of the time is this server's own: it translates the statement in Python.
"""

import sys
import tempfile
from pathlib import Path

from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets_tests.benchmarks.harness import report
from pipeline_assets_tests.fixtures.features import START, FeatureWarehouse, made_candles
from pipeline_assets_tests.fixtures.s3 import S3Server, make_bucket
from pipeline_assets_tests.fixtures.snowflake import Lake, running_snowflake_server

SYMBOLS = ("BTCUSDT", *(f"S{number:03d}USDT" for number in range(499)))
INTERVAL = Interval.FIFTEEN_MINUTES
TARGET_SECONDS = 5


def main() -> int:
    with (
        tempfile.TemporaryDirectory() as name,
        S3Server(Path(name) / "s3") as s3,
        running_snowflake_server(Path(name), s3.endpoint) as server,
    ):
        held = FeatureWarehouse.of(server, Lake(make_bucket(s3)))
        held.make_tables(INTERVAL)
        candles = made_candles(INTERVAL, 2 * INTERVAL.per_day, SYMBOLS)
        end = START + 2 * DAY
        newest = end - INTERVAL.span
        held.load(INTERVAL, [row for row in candles if row["open_time"] < newest])
        first = held.table.merge(INTERVAL, newest - DAY, newest)
        held.load(INTERVAL, [row for row in candles if row["open_time"] >= newest])
        before = server.statements()
        one = held.table.merge(INTERVAL, newest, end)
        counted = server.statements() - before
        day = held.table.merge(INTERVAL, end - DAY, end)
        repeat = held.table.merge(INTERVAL, end - DAY, end)
    statements = counted["MERGE INTO"]
    changed = {"rows_of_one_candle": one.rows_merged, "rows_of_a_repeated_day": repeat.rows_merged}
    expected = {"rows_of_one_candle": len(SYMBOLS), "rows_of_a_repeated_day": 0}
    met = [
        report(
            "feature_merge_seconds", round(day.seconds, 3), "s", TARGET_SECONDS,
            met=max(one.seconds, day.seconds) <= TARGET_SECONDS,
            ratio=round(one.seconds / day.seconds, 2),
            against="the MERGE of the newest candle alone, which scans a day too",
            newest_candle_seconds=round(one.seconds, 3), first_day_seconds=round(first.seconds, 3),
            rows=first.rows_inserted,
        ),
        report(
            "feature_merge_statements", statements, "statements", 1,
            met=statements == 1 and changed == expected,
            ratio=len(SYMBOLS) / max(1, statements), against="one statement a symbol", **changed,
        ),
    ]  # fmt: skip
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
