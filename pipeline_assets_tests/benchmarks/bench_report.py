"""How long the report of a day of 500 symbols takes and how much memory it needs, with the embedded
warehouse: its sections, and the page and the PDF made of them.

The day is made up. The report is made in a process of its own, on a warehouse that was started anew, so that
nothing of making the day is measured.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl

from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.daily_report.parts import DailyReport, Edition
from pipeline_assets.research.daily_report.readers import Readers
from pipeline_assets.research.daily_report.sections import SECTIONS
from pipeline_assets.resources.day_frames import encode_frame
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.report_queries import ReportQueries
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.settings import S3Settings, SnowflakeSettings
from pipeline_assets_tests.benchmarks.harness import report
from pipeline_assets_tests.fixtures.report_day import START, ReportDay
from pipeline_assets_tests.fixtures.s3 import S3Bucket, S3Server, make_bucket, passed_check
from pipeline_assets_tests.fixtures.snowflake import (
    PASSWORD,
    SnowflakeServer,
    running_snowflake_server,
)

SYMBOLS = ("BTCUSDT", *(f"S{number:03d}USDT" for number in range(499)))
TARGET_SECONDS, TARGET_MB = 60, 1024
DATABASE = "BENCH_REPORT"
_EDITION = "pipeline_assets.research.daily_report.stored_edition"
# Some 10,000 candidates.
EVERY = 70


class LargeDay(ReportDay):
    """The day with one object for all symbols: the embedded server opens objects one by one."""

    def candles(self, interval: Interval, candles: pl.DataFrame) -> None:
        if interval.has_table:
            key = f"{interval}/{SYMBOLS[0]}/{self.start:%Y%m%d}_0000.parquet"
            self.store.put(f"ohlcv/{key}", encode_frame(candles))
            self.warehouse.load(interval, [key], f"bench-{interval}")

    def funding(self) -> None:
        key = f"{SYMBOLS[0]}/{self.start:%Y%m}.parquet"
        self.store.put(f"funding/{key}", encode_frame(pl.concat(self.rates().values())))
        self.warehouse.load_funding([key], "bench")


def main() -> int:
    with (
        tempfile.TemporaryDirectory() as name,
        S3Server(Path(name) / "s3") as s3,
        running_snowflake_server(Path(name), s3.endpoint) as server,
    ):
        bucket = make_bucket(s3)
        warehouse = Warehouse(server.settings(database=DATABASE), bucket.settings())
        LargeDay(ObjectStore(bucket.settings()), warehouse, SYMBOLS, EVERY).fill()
        server.kill()
        server.start()
        measured = _measured(server, bucket)
    used = measured["report_mb"] + measured["warehouse_mb"]
    total = sum(measured["seconds"].values())
    met = [
        report(
            "daily_report_seconds", total, "s", TARGET_SECONDS,
            ratio=total / measured["import_seconds"], against="imports of the process that makes it",
            symbols=len(SYMBOLS), by_part=measured["seconds"], cpu_seconds=measured["cpu_seconds"],
        ),
        report(
            "daily_report_megabytes", used, "MB", TARGET_MB,
            ratio=used / measured["warehouse_mb"], against="the embedded warehouse alone",
            report_mb=measured["report_mb"], warehouse_mb=measured["warehouse_mb"],
        ),
    ]  # fmt: skip
    return 0 if all(met) else 1


def _measured(server: SnowflakeServer, bucket: S3Bucket) -> dict[str, Any]:
    """Make the report in a process of its own, and return what that cost."""
    where = {"port": server.port, "endpoint": bucket.endpoint, "bucket": bucket.name}
    command = [sys.executable, "-m", __spec__.name, json.dumps(where)]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(shown.stdout)
    assert server.process is not None
    return found | {"warehouse_mb": _peak_mb(server.process.pid)}


def _peak_mb(process: int | str) -> float:
    """Return the peak of a process; `ru_maxrss` would be that of the parent that made the day."""
    status = Path(f"/proc/{process}/status").read_text("ascii")
    [peak] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(peak) / 1024


def make(where: Mapping[str, Any]) -> dict[str, Any]:
    """Make the report and return the seconds of each part, and the peak of this process."""
    imported = time.process_time()
    passed_check(where["endpoint"], where["bucket"])
    s3: S3Settings = S3Bucket(where["endpoint"], where["bucket"], None).settings()
    snowflake = SnowflakeSettings.model_validate(
        {"user": "pipeline", "password": PASSWORD, "port": where["port"], "database": DATABASE}
    )
    store = ObjectStore(s3)
    edition, seconds, sections = Edition.of("day", START.date()), {}, []
    began = time.perf_counter()
    with ReportQueries(Warehouse(snowflake, s3)).in_one_session() as queries:
        seconds["login"] = round(time.perf_counter() - began, 3)
        for section in SECTIONS:
            began = time.perf_counter()
            made = section(Readers(queries, store), edition)
            assert made.empty is None, made
            sections.append(made)
            seconds[made.key] = round(time.perf_counter() - began, 3)
    if find_spec(_EDITION):
        began = time.perf_counter()
        made_report = DailyReport(edition, tuple(sections), datetime.now(UTC))
        import_module(_EDITION).keep_report(store, made_report, None)
        seconds["page and PDF"] = round(time.perf_counter() - began, 3)
    return {
        "seconds": seconds,
        "import_seconds": imported,
        "cpu_seconds": time.process_time(),
        "report_mb": _peak_mb("self"),
    }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(make(json.loads(sys.argv[1]))))
    else:
        sys.exit(main())
