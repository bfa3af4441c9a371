"""Hours of 1m ingest runs on the exchange's stepped clock, while every system fails now and then.

The resources live as long as the test, as they do in Dagster's code server. After each fault the next
ingest runs must recover without help; in the end the finished days equal the exchange's candles.
"""

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.slots import CandleSlots
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.fixtures.platform import Platform, running_platform
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import S3Server, make_bucket
from pipeline_assets_tests.fixtures.snowflake import SnowflakeServer

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(7200)]

BEGIN = datetime(2026, 11, 19, 22, 0, 5, tzinfo=UTC)
ANSWERS: dict[str, dict[str, Any]] = {
    "exchange: 503": {"http_503": 0.4},
    "exchange: HTML instead of JSON": {"html_502": 0.3},
    "exchange: replies cut short": {"truncated": 0.3},
    "exchange: rows missing": {"missing_rows": 0.5},
    "exchange: rows doubled": {"duplicate_rows": 0.5},
    "exchange: rows malformed": {"malformed_rows": 0.5},
    "exchange: 429": {"refuse_next": 2},
    "exchange: down": {"down": "http_503"},
}


@dataclass
class Servers:
    """The servers that ingest runs need, one of each kind, with the faults that each can have."""

    exchange: ExchangeHandle
    s3: S3Server
    redis: RedisServer

    def begin(self, fault: str) -> None:
        """Let a fault begin."""
        if fault in ANSWERS:
            self.exchange.faults(**ANSWERS[fault])
        elif fault == "redis: read-only":
            self.redis.client().execute_command("REPLICAOF", "127.0.0.1", "1")
        elif fault == "redis: emptied":
            self.redis.client().flushall()
        elif fault == "redis: down":
            self.redis.kill()
        elif fault == "redis: restarted":
            self.redis.kill()
            self.redis.start()
        elif fault == "s3: down":
            self.s3.kill()
        elif fault == "s3: restarted":
            self.s3.kill()
            self.s3.start()

    def end(self) -> None:
        """End the faults under way."""
        self.exchange.faults()
        if self.redis.process is None:
            self.redis.start()
        self.redis.client().execute_command("REPLICAOF", "NO", "ONE")
        if self.s3.process is None:
            self.s3.start()


FAULTS = (
    *ANSWERS,
    "redis: read-only",
    "redis: emptied",
    "redis: down",
    "redis: restarted",
    "s3: down",
    "s3: restarted",
    "switched off",
)


@dataclass
class Record:
    """Results of the ingest runs so far, the clock as set, and the resources that all runs share."""

    resources: dict[str, Any]
    now: datetime = BEGIN

    ingest_runs: int = 0
    failed: int = 0
    minutes: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    late: dict[str, int] = field(default_factory=dict)


@pytest.fixture
def servers(tmp_path: Path, exchange: ExchangeHandle) -> Iterator[Servers]:
    with S3Server(tmp_path / "s3") as s3, RedisServer(tmp_path / "redis") as redis_server:
        yield Servers(exchange, s3, redis_server)
    exchange.reset()


@pytest.fixture
def running(
    servers: Servers, tmp_path: Path, snowflake_server: SnowflakeServer
) -> Iterator[Platform]:
    with running_platform(
        tmp_path,
        servers.exchange,
        make_bucket(servers.s3),
        servers.redis.url,
        SnowflakeServer(tmp_path / "not-started", servers.s3.endpoint),
        symbols="BTCUSDT,ETHUSDT",
    ) as platform:
        yield platform


@pytest.mark.parametrize(("seed", "hours"), [(1, 15), (2, 15)])
def test_ingest_runs_heal_after_every_fault(
    servers: Servers, running: Platform, seed: int, hours: int
) -> None:
    """No fault holds up the minutes once it is over, and nothing is missing in the end."""
    chance, begun = random.Random(seed), time.monotonic()
    record = Record(
        {
            "exchange": Exchange(running.settings),
            "store": ObjectStore(running.settings.s3),
            "slots": CandleSlots(running.settings.redis),
        }
    )
    servers.exchange.set_clock(BEGIN)
    assert ingest(running, record)
    end = BEGIN + timedelta(hours=hours)
    while record.now < end:
        if chance.random() < 0.06:
            strike(servers, running, record, chance)
        pass_minutes(servers, running, record, 1)
        ingest(running, record)
    pass_minutes(servers, running, record, 1)
    assert ingest(running, record)
    lost = not_stored(running)
    for day in sorted({BEGIN.date(), record.now.date()}):
        running.backfill("1m", str(day), without="candle_slots_1m")
    left = not_stored(running)
    print(
        f"\nseed {seed}: {record.minutes / 60:.1f} simulated hours, {record.ingest_runs} ticks, "
        f"{record.failed} failed during faults, {sum(record.faults.values())} faults in "
        f"{time.monotonic() - begun:.0f} s; ticks until fresh after a fault: "
        f"{max(record.late.values())} at most; candles not stored by ticks: {lost}, by the backfill "
        f"after them: {left}\n{dict(record.faults)}"
    )
    assert max(record.late.values()) <= 2, record.late
    assert left == 0


def strike(servers: Servers, running: Platform, record: Record, chance: random.Random) -> None:
    """Cause one fault for one to three ingest runs, and run more until the slots are fresh again."""
    fault = chance.choice(FAULTS)
    record.faults[fault] += 1
    if fault == "switched off":
        pass_minutes(servers, running, record, chance.choice((3, 20, 61)))
    else:
        servers.begin(fault)
        for _ in range(chance.randint(1, 3)):
            pass_minutes(servers, running, record, 1)
            ingest(running, record)
        servers.end()
    for needed in range(1, 6):
        pass_minutes(servers, running, record, 1)
        if ingest(running, record) and fresh(running, record.now):
            record.late[fault] = max(needed, record.late.get(fault, 0))
            return
    record.late[fault] = 99


def pass_minutes(servers: Servers, running: Platform, record: Record, count: int) -> None:
    """Let the exchange's clock go on."""
    record.now += timedelta(minutes=count)
    record.minutes += count
    servers.exchange.set_clock(record.now)


def ingest(running: Platform, record: Record) -> bool:
    """One minute's run; whether it ended well."""
    day = str((record.now - timedelta(minutes=1)).date())
    ended = running.ingest("1m", day, raise_on_error=False, **record.resources)
    record.ingest_runs += 1
    record.failed += not ended.success
    return bool(ended.success)


def fresh(running: Platform, at: datetime) -> bool:
    """Return whether every symbol's slots hold the newest closed minute."""
    now = at - timedelta(seconds=2)
    due = now.replace(second=0, microsecond=0) - timedelta(minutes=1)
    index = due.minute % 15
    return all(
        running.slots(symbol).get(index, {}).get("open_time") == int(due.timestamp() * 1000)
        for symbol in ("BTCUSDT", "ETHUSDT")
    )


def not_stored(running: Platform) -> int:
    """Return how many closed candles since the beginning are not stored as the exchange has them."""
    missing = 0
    for symbol in ("BTCUSDT", "ETHUSDT"):
        stored = running.stored("1m", symbol)
        truth = running.truth("1m", symbol, stored["open_time"].min(), running.now())
        missing += truth.join(stored, on=stored.columns, how="anti").height
    return missing
