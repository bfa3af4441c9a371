"""Representative runs of the product behind a counting proxy, for bench_cost.py: what each kind of run asks
of S3, the warehouse and the exchange. The cost of a day of such runs is in cost_model.py.
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dagster import ExecuteInProcessResult

from pipeline_assets.market.candles import candle_schema
from pipeline_assets.market.evaluation import evaluate
from pipeline_assets.market.strategies import configured_strategies, indicators_of
from pipeline_assets_tests.benchmarks.cost_model import minute_class
from pipeline_assets_tests.fixtures.counting_s3 import CountsRequests
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle, start_exchange
from pipeline_assets_tests.fixtures.faulty_s3 import faulty_s3
from pipeline_assets_tests.fixtures.platform import Platform, running_platform
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import S3Bucket, S3Server, make_bucket, passed_check
from pipeline_assets_tests.fixtures.snowflake import SnowflakeServer

DAY = datetime(2026, 11, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
# The minute whose run stores the day so far, and is not counted.
FIRST = DAY + timedelta(hours=1, minutes=58)
# An upload interval under which the first minutes of an hour wait.
_WAITS = 15
# The symbols whose candidates are counted.
_FEW = 5
# A run begins so long after its minute.
_AFTER = timedelta(seconds=5)


@dataclass
class Costed:
    """A platform of so many symbols behind the proxy, and what its runs asked for so far.

    Attributes:
        symbols: how many are collected.
        counts: by kind of run, the sum over its runs; "runs" counts these.
    """

    symbols: int
    platform: Platform
    proxy: CountsRequests
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def run(self, job: str, at: datetime, name: str | None, partition: str | None = None) -> None:
        """Execute a run at a time of the exchange's clock, and count it under a name, or not."""
        self.platform.exchange.set_clock(at + _AFTER)
        before = self._statements()
        self.proxy.taken()
        ended = self.platform.run(job, partition or str((at - MINUTE).date()))
        if name is None:
            return
        counts = self.counts.setdefault(name, Counter())
        counts.update(self.proxy.taken())
        counts["statements"] += (self._statements() - before).total()
        for key, value in _metadata(ended, job).items():
            counts[key] += value
        counts["runs"] += 1

    def _statements(self) -> Counter[str]:
        server = self.platform.snowflake
        return server.statements() if server.log.exists() else Counter()

    def minutes(self) -> None:
        """Count every kind of ingest run of 1m: the last minute of an hour, and the first ones of the next.

        How often uploads are due says how often each kind comes, and changes none of them. So the
        setting changes from run to run here.
        """
        self.run("tick_1m", FIRST + MINUTE, None)
        for minutes, upload_minutes in ((1, 1), (2, 1), (3, _WAITS), (4, _WAITS), (5, 1)):
            newest = FIRST + minutes * MINUTE
            self.platform = self.platform.with_settings(ingest={"upload_minutes": upload_minutes})
            self.run("tick_1m", newest + MINUTE, minute_class(newest, upload_minutes))

    def candidates(self) -> None:
        """Count the candidates of a day, each a message of Kafka, by the strategies as configured.

        A few symbols stand for all: the sensor evaluates the same minutes, and publishes the same ids.
        """
        import polars as pl

        end = DAY + timedelta(days=1)
        self.platform.exchange.set_clock(end + MINUTE)
        strategies = configured_strategies(self.platform.settings.strategies)
        indicators = indicators_of(strategies)
        start = DAY - indicators.candles_needed * MINUTE
        symbols = sorted({key.split("/")[2] for key in self.platform.objects("ohlcv/1m/")})[:_FEW]
        candles = pl.concat(
            self.platform.truth("1m", symbol, start, end).select(candle_schema().names())
            for symbol in symbols
        )
        frame = indicators.history(candles).filter(pl.col("open_time") >= DAY)
        found = evaluate(strategies, frame, end).candidates.height
        messages = round(found / len(symbols) * self.symbols)
        self.counts["candidates"] = Counter(runs=1, kafka_messages=messages)


def _metadata(ended: ExecuteInProcessResult, job: str) -> dict[str, int]:
    """Return the weight that a run spent, and the objects that its loads read."""
    found: Counter[str] = Counter()
    for event in ended.get_asset_materialization_events():
        name = event.asset_key.path[-1] if event.asset_key else ""
        values = {k: v.value for k, v in event.materialization.metadata.items()}
        if name.startswith("raw_candles"):
            found["weight"] += int(values["weight spent"])
        if name.startswith("candle_table"):
            found["files_loaded"] += int(values.get("objects", 0))
    return found


@contextmanager
def costed_platform(symbols: int, **settings: Any) -> Iterator[Costed]:
    """Provide the product over real servers of its own, with S3 behind the counting proxy."""
    with (
        tempfile.TemporaryDirectory() as name,
        S3Server(Path(name) / "s3") as s3,
        RedisServer(Path(name) / "redis") as redis,
        start_exchange(
            symbols=symbols, clock="stepped:2026-11-20T00:00:30Z", weight_limit=0
        ) as exchange,
    ):
        bucket, counts = make_bucket(s3), CountsRequests()
        with faulty_s3(s3.endpoint, counts) as proxy:
            passed_check(proxy.endpoint, bucket.name)
            through = S3Bucket(proxy.endpoint, bucket.name, bucket.client)
            # The warehouse reads past the proxy, and starts only where it is needed.
            snowflake = SnowflakeServer(Path(name) / "snowflake", s3.endpoint)
            try:
                with running_platform(
                    Path(name),
                    exchange,
                    through,
                    redis.url,
                    snowflake,
                    **_settings(exchange, settings),
                ) as platform:
                    yield Costed(symbols, platform, counts)
            finally:
                snowflake.kill()


def _settings(exchange: ExchangeHandle, changes: dict[str, Any]) -> dict[str, Any]:
    address = exchange.url.removesuffix("/fapi")
    return {
        "symbols": "all",
        "binance": {
            "rest_url": address,
            "archive_url": address,
            "archive": False,
            # The clock stands still: weight that is spent never comes back.
            "weight_limit": 10_000_000,
        },
        **changes,
    }
