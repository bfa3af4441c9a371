"""Ingest runs, whole and real, while the Redis that holds slots, weight and leases fails over: a sentinel's
primary or a node of a cluster is killed at one command after the other.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline_assets.resources.leases import LeaseStore, LeaseStoreError
from pipeline_assets.resources.slots import slot_key
from pipeline_assets.resources.write_guard import holding_lease
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle, start_exchange
from pipeline_assets_tests.fixtures.platform import Platform, running_platform
from pipeline_assets_tests.fixtures.redis_failover import (
    ClusterGroup,
    RedisGroup,
    Rival,
    SentinelGroup,
    killed_at,
)
from pipeline_assets_tests.fixtures.redis_groups import ClusterServers, WatchedServers
from pipeline_assets_tests.fixtures.s3 import S3Bucket
from pipeline_assets_tests.fixtures.snowflake import SnowflakeServer

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(900)]
SYMBOLS = [f"COIN{number}USDT" for number in range(12)]
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
NAMED = re.compile(r"Redis at redis\+\S+ .*[Rr]epeat the run", re.DOTALL)
# The first of a run's commands to a server, later ones, and the time after the run.
PLACES = (1, 3, 6, 9, 13, 18, 24, 1000)
# A run spends 15 of the 20 that it may, so that weight which is spent twice is refused.
LIMIT, MARGIN = 24, 4


@pytest.fixture(scope="module")
def young_day() -> Iterator[ExchangeHandle]:
    """Provide an exchange whose day is some minutes old, so that a run fetches little."""
    with start_exchange(
        clock="stepped:2026-11-20T00:20:05Z", symbols=",".join(SYMBOLS), weight_limit=LIMIT
    ) as handle:
        yield handle


@dataclass
class Tally:
    """The results of all runs of a test."""

    runs: int = 0
    failed: int = 0
    errors: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    commands: list[int] = field(default_factory=list)


class Failovers:
    """Ingest runs over a group of Redis servers, in each of which the serving server is killed."""

    def __init__(self, platform: Platform, group: RedisGroup) -> None:
        self.platform, self.group, self.tally = platform, group, Tally()
        self.rival, self._leases = Rival(group.settings), LeaseStore(group.settings)

    def ingest(self) -> bool:
        """Execute an ingest run of the minutes since the last one; returns whether it succeeded."""
        self.tally.runs += 1
        try:
            # As the run's executor does, which `execute_in_process` leaves out.
            with holding_lease(self._leases, f"run-{self.tally.runs}"):
                result = self.platform.ingest("1m", raise_on_error=False)
        except LeaseStoreError as error:
            errors = {str(error)}
        else:
            errors = {reason(each) for each in result.all_events if each.is_failure}
        self.tally.errors |= errors
        self.tally.failed += bool(errors)
        return not errors

    def kill_at(self, number: int) -> None:
        """Kill the serving server at a command of a run, and repeat the run until it succeeds."""
        self.platform.exchange.advance(180)
        with self.rival.at_work(), killed_at(self.group.serving, number) as kill:
            done = self.ingest()
            during = kill.done is not None
        while not done or not during:
            # The run of a later minute continues the work.
            self.platform.exchange.advance(60)
            done = during = self.ingest()
        assert kill.done is not None
        self.tally.seconds.append(round(time.monotonic() - kill.done, 1))
        self.tally.commands.append(len(kill.commands))
        self.group.restore()

    def differing_slots(self) -> list[str]:
        """Return the symbols whose slots are not the newest fifteen candles of the lake."""
        client, found = self.group.client(), []
        for symbol in SYMBOLS:
            held = [json.loads(each) for each in client.hvals(slot_key(symbol))]
            newest = self.platform.stored("1m", symbol).tail(15)
            opened = newest["open_time"].dt.epoch("ms").to_list()
            stored = dict(zip(opened, newest["close"].to_list(), strict=True))
            if {each["open_time"]: float(each["close"]) for each in held} != stored:
                found.append(symbol)
        return found

    def check_lake(self) -> None:
        """Compare all candles with the exchange's, and its count of the weight with its limit."""
        state = self.platform.exchange.state()
        assert max(state["weight"]["used"].values()) <= state["weight"]["limit"]
        assert state["sent_429"] == state["sent_418"] == 0
        now = self.platform.now().replace(second=0)
        # The truth has a weight, too.
        self.platform.exchange.advance(60)
        for symbol in SYMBOLS:
            truth = self.platform.truth("1m", symbol, MIDNIGHT, now)
            assert truth.height == (now - MIDNIGHT).total_seconds() / 60
            assert self.platform.stored("1m", symbol).equals(truth)


def reason(event: Any) -> str:
    """Return the message of the error that failed a step or a run."""
    data = event.event_specific_data
    return str((data.error.cause or data.error).message)


@pytest.fixture
def over(tmp_path: Path, young_day: ExchangeHandle, s3_bucket: S3Bucket) -> Iterator[Any]:
    """Provide a function that puts the pipeline over a group of Redis servers."""
    young_day.reset()
    snowflake = SnowflakeServer(tmp_path / "snowflake", s3_bucket.endpoint)
    made: list[Any] = []

    def over(group: RedisGroup) -> Failovers:
        context = running_platform(
            tmp_path,
            young_day,
            s3_bucket,
            "",
            snowflake,
            symbols=",".join(SYMBOLS),
            redis=group.settings,
            binance={
                "rest_url": young_day.url.removesuffix("/fapi"),
                "archive": False,
                "weight_limit": LIMIT,
                "weight_margin": MARGIN,
            },
            # Celery knows no cluster. No run here is launched by Celery.
            celery={"broker_url": "redis://127.0.0.1:1/0"},
        )
        made.append(context)
        return Failovers(context.__enter__(), group)

    yield over
    for each in made:
        each.__exit__(None, None, None)


def survive(failovers: Failovers) -> None:
    """Kill the serving server at every place, and compare after each."""
    assert failovers.ingest()
    for place in PLACES:
        failovers.kill_at(place)
        assert failovers.differing_slots() == []
    failovers.check_lake()
    assert failovers.rival.doubled == set()
    assert failovers.rival.refused > 0
    tally = failovers.tally
    # A failed run names the system, and the next step.
    assert [each for each in tally.errors if not NAMED.search(each)] == []
    if failovers.group.settings.retry_seconds == PATIENT:
        assert tally.failed == 0
    print(tally)


# Long enough for any takeover, and shorter than one.
PATIENT, IMPATIENT = 120, 0.3


@pytest.mark.parametrize("retry_seconds", [PATIENT, IMPATIENT])
def test_ingest_outlives_sentinel_failover(
    over: Any, watched_servers: WatchedServers, retry_seconds: float
) -> None:
    """The primary is killed at each of a run's commands: nothing is lost, doubled or run twice at once."""
    survive(over(SentinelGroup(watched_servers, retry_seconds=retry_seconds)))


@pytest.mark.parametrize("retry_seconds", [PATIENT, IMPATIENT])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_ingest_outlives_cluster_failover(
    over: Any, own_cluster_servers: ClusterServers, place: int, retry_seconds: float
) -> None:
    """Each node of a cluster is killed likewise, and its replica takes over."""
    servers = own_cluster_servers
    group = ClusterGroup(servers, servers.nodes[place], retry_seconds=retry_seconds)
    survive(over(group))
