"""A process killed between any two writes: the same run, repeated, stores what an undisturbed one does.

Run as a program this module is the process that gets killed: it imports everything once, and forks
a child for each order on its standard input. The child counts its own writes to S3, Redis and
Snowflake by hooks on their client libraries, and kills itself before or after the write whose number
it was given.
"""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl
import pytest

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse import Warehouse
from pipeline_assets.trading.record_objects import Kind
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle, die_with_parent
from pipeline_assets_tests.fixtures.instance import instance_in_memory
from pipeline_assets_tests.fixtures.platform import Platform, running_platform
from pipeline_assets_tests.fixtures.s3 import S3Server, make_bucket
from pipeline_assets_tests.fixtures.snowflake import PASSWORD, SnowflakeServer
from pipeline_assets_tests.fixtures.trading_records import DAY, a_fill, put

SYMBOLS = ("BTCUSDT", "币安人生USDT")


# The process that is killed


class Writes:
    """Counts the writes of this process, and kills it at one of them."""

    def __init__(self, kill_at: int | None, when: str | None) -> None:
        self.count, self._kill_at, self._when = 0, kill_at, when
        self._counting = Lock()

    def around(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            number = self.before()
            try:
                return write(*args, **kwargs)
            finally:
                # After a write that was refused, too.
                self.after(number)

        return counted

    def before(self) -> int:
        with self._counting:
            self.count += 1
            number = self.count
        if (number, "before") == (self._kill_at, self._when):
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def after(self, number: int) -> None:
        if (number, "after") == (self._kill_at, self._when):
            os.kill(os.getpid(), signal.SIGKILL)


def obey(order: dict[str, Any]) -> int:
    """Run what the order says; the number of writes it took."""
    import obstore
    import redis
    from botocore.client import BaseClient
    from dagster import AssetKey
    from snowflake.connector.cursor import SnowflakeCursor

    from pipeline_assets.definitions import build_definitions
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.settings import Settings

    writes = Writes(order.get("kill_at"), order.get("when"))
    settings = Settings(_env_file=None, **order["settings"])
    store = ObjectStore(settings.s3)

    obstore.put = writes.around(obstore.put)
    BaseClient._make_api_call = writes.around(BaseClient._make_api_call)  # DeleteObjects
    redis.Redis.evalsha = writes.around(redis.Redis.evalsha)
    redis.client.Pipeline.execute = writes.around(redis.client.Pipeline.execute)
    SnowflakeCursor.execute = writes.around(SnowflakeCursor.execute)

    first, last = order["days"]
    ranged = {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }
    with instance_in_memory() as instance:
        job = build_definitions(settings, store=store).resolve_job_def(order["job"])
        asset = order.get("asset")
        job.execute_in_process(
            instance=instance,
            partition_key=first if first == last else None,
            asset_selection=[AssetKey(asset)] if asset else None,
            tags={} if first == last else ranged,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
    return writes.count


def serve() -> None:
    """Import what takes long, then fork a child for each order; one JSON line answers each."""
    import binance.async_client
    import dagster_aws.s3
    import pyarrow.parquet
    import snowflake.connector

    import pipeline_assets.definitions

    imported = (binance, dagster_aws, pyarrow, snowflake, pipeline_assets)
    assert all(imported)
    for line in sys.stdin:
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.write(writable, str(obey(json.loads(line))).encode())
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        os.close(writable)
        with os.fdopen(readable) as answer:
            count = answer.read()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        ended = {"killed": killed, "status": status, "writes": int(count or 0)}
        print(json.dumps(ended), flush=True)


# The tests


class Runner:
    """The process that forks the killed ones."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread may hold
        )

    def run(
        self, platform: Platform, job: str, *days: str, asset: str | None = None, **kill: Any
    ) -> dict[str, Any]:
        settings = platform.settings.model_dump(mode="json")
        settings["s3"]["secret_access_key"] = "any"
        settings["snowflake"]["password"] = PASSWORD
        order = {
            "settings": settings,
            "job": job,
            "days": (days[0], days[-1]),
            "asset": asset,
            **kill,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if not kill:
            assert answer["status"] == 0, "an undisturbed run failed; standard error says why"
        return answer

    def stop(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    started = Runner()
    yield started
    started.stop()


@dataclass(frozen=True)
class Scenario:
    """Runs that come before, and the one that is killed: exchange time, job, days."""

    killed: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = field(default=())


SCENARIOS = {
    "a backfill of a finished and the open day": Scenario(
        ("2026-11-20T02:10:30", "backfill_1m", "2026-11-19", "2026-11-20")
    ),
    "the first ingest run, which catches up the day": Scenario(
        ("2026-11-20T02:10:05", "tick_1m", "2026-11-20")
    ),
    "an ingest run across the turn of an hour": Scenario(
        ("2026-11-20T01:01:05", "tick_1m", "2026-11-20"),
        (("2026-11-20T00:58:05", "tick_1m", "2026-11-20"),),
    ),
    "a finalize run that absorbs the objects of hours": Scenario(
        ("2026-11-20T00:05:05", "backfill_1m", "2026-11-19"),
        (("2026-11-19T02:10:05", "tick_1m", "2026-11-19"),),
    ),
}
LOAD = Scenario(
    ("2026-11-20T02:10:30", "backfill_15m", "2026-11-19", "2026-11-20"),
    (("2026-11-19T23:31:05", "tick_15m", "2026-11-19"),),
)
# Two months of each symbol, and the table.
FUNDING = Scenario(("2026-11-20T02:10:30", "funding_backfill", "2026-10-30", "2026-11-02"))


@dataclass
class Servers:
    """The servers that all cases of a test share; each case has a bucket and database of its own."""

    directory: Path
    exchange: ExchangeHandle
    s3: S3Server
    redis_server: Any
    snowflake: SnowflakeServer
    runner: Runner

    kills: int = 0

    def after(self, scenario: Scenario, **kill: Any) -> tuple[Any, int]:
        """Return what is stored after a scenario, undisturbed or killed and repeated; and its writes."""
        client = self.redis_server.client()
        client.flushall()
        with running_platform(
            self.directory,
            self.exchange,
            make_bucket(self.s3),
            self.redis_server.url,
            self.snowflake,
            symbols=",".join(SYMBOLS),
        ) as platform:
            for moment, *run in (*scenario.before, scenario.killed):
                self.exchange.set_clock(datetime.fromisoformat(moment).replace(tzinfo=UTC))
                if kill and (moment, *run) == scenario.killed:
                    ended = self.runner.run(platform, *run, **kill)
                    # How often weight is asked for depends on timing, so the last may not come.
                    assert ended["killed"] or ended["writes"] < kill["kill_at"], ended
                    self.kills += ended["killed"]
                writes = self.runner.run(platform, *run)["writes"]
            return (contents(platform), table_after(platform, scenario.killed[1])), writes


def table_after(platform: Platform, job: str) -> list[tuple[Any, ...]] | None:
    """Return the rows of the table that a job loads, if it loads one."""
    if job == FUNDING.killed[1]:
        return platform.funding_table()
    return platform.table("15m") if "15m" in job else None


def contents(platform: Platform) -> dict[str, Any]:
    """Return all that a reader can see: objects' bytes, finalized days, ingest cursors, slots."""
    held: dict[str, Any] = dict(platform.objects("ohlcv/")) | platform.objects("funding/")
    held |= platform.objects("state/sealed/")
    for key, body in platform.objects("state/").items():
        if key.removeprefix("state/").removesuffix(".json") in set(Interval):
            # An ingest run repeated over its own objects may know fewer ETags, which only costs a read.
            held[key] = json.loads(body)["newest"]
    return held | {symbol: platform.slots(symbol) for symbol in SYMBOLS}


def rows(held: dict[str, Any]) -> pl.DataFrame:
    """Return all stored candles, or funding rates."""
    bodies = [body for key, body in held.items() if key.startswith(("ohlcv/", "funding/"))]
    return pl.concat(pl.read_parquet(io.BytesIO(body)) for body in bodies)


def differences(found: Any, expected: Any) -> dict[str, Any]:
    """Return how many rows are lost, doubled or different, and what else differs; empty if nothing."""
    ours, theirs = rows(found[0]), rows(expected[0])
    key = ours.columns[:2]
    counts = {
        "lost": theirs.join(ours, on=key, how="anti").height,
        "duplicated": ours.height - ours.unique(key).height,
        # Rates of the archive have no mark price, and null equals null here.
        "different": ours.join(theirs, on=ours.columns, how="anti", nulls_equal=True).height,
        "not the same": sorted(
            name
            for name in found[0].keys() | expected[0].keys()
            if found[0].get(name) != expected[0].get(name)
        ),
        "table": found[1] != expected[1],
    }
    return {name: count for name, count in counts.items() if count}


@pytest.fixture
def servers(tmp_path, exchange, s3_server, redis_server, runner) -> Servers:
    not_started = SnowflakeServer(tmp_path / "snowflake", s3_server.endpoint)
    return Servers(tmp_path, exchange, s3_server, redis_server, not_started, runner)


def assert_crashes_leave_no_trace(
    servers: Servers, scenario: Scenario, choose: Callable[[int], list[tuple[int, str]]]
) -> int:
    expected, writes = servers.after(scenario)
    assert rows(expected[0]).height > 0
    kills = choose(writes)
    traces = {}
    for number, when in kills:
        found, _ = servers.after(scenario, kill_at=number, when=when)
        if trace := differences(found, expected):
            traces[number, when] = trace
    assert traces == {}
    # Some numbers are not reached: how often weight is asked for depends on timing.
    assert servers.kills >= len(kills) * 4 // 5
    return servers.kills


def a_few(writes: int) -> list[tuple[int, str]]:
    """Among the uploads of candles, which are in the second half."""
    assert writes > 8
    return [(writes * 5 // 8, "after"), (writes * 7 // 8, "before")]


def every(writes: int) -> list[tuple[int, str]]:
    return [(number, when) for number in range(1, writes + 1) for when in ("before", "after")]


@pytest.mark.parametrize(
    "scenario",
    [
        # Each takes a dozen seconds.
        pytest.param(each, id=name, marks=[] if place == 0 else pytest.mark.matrix)
        for place, (name, each) in enumerate(SCENARIOS.items())
    ],
)
def test_killed_run_leaves_no_trace_fast(servers, scenario) -> None:
    """A run killed at a few chosen writes and repeated leaves no trace."""
    assert_crashes_leave_no_trace(servers, scenario, a_few)


@pytest.mark.matrix
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS.keys())
def test_killed_run_leaves_no_trace(servers, scenario) -> None:
    """A run killed at any write and repeated leaves no trace."""
    count = assert_crashes_leave_no_trace(servers, scenario, every)
    print(f"{count} kills")


@pytest.mark.matrix
@pytest.mark.parametrize("kills", [a_few, every])
@pytest.mark.timeout(1800)
def test_killed_funding_backfill_goes_on(servers, snowflake_server, kills) -> None:
    """A backfill of funding rates killed at a write to the lake or the table and repeated leaves no trace."""
    servers.snowflake = snowflake_server
    count = assert_crashes_leave_no_trace(servers, FUNDING, kills)
    print(f"{count} kills")


@pytest.mark.matrix
@pytest.mark.timeout(1800)
def test_killed_load_leaves_no_trace(servers, snowflake_server) -> None:
    """A load killed at any write and repeated leaves no trace."""
    servers.snowflake = snowflake_server
    count = assert_crashes_leave_no_trace(servers, LOAD, every)
    print(f"{count} kills")


def fills_after(servers: Servers, **kill: Any) -> tuple[list[tuple[Any, ...]], int]:
    """Return the rows of FILLS after a load, undisturbed or killed and repeated; and its writes."""
    with running_platform(
        *(servers.directory, servers.exchange, make_bucket(servers.s3)),
        *(servers.redis_server.url, servers.snowflake),
        symbols=",".join(SYMBOLS),
    ) as platform:
        store = ObjectStore(platform.settings.s3)
        put(store, Kind.FILLS, a_fill(1), a_fill(2))
        put(store, Kind.FILLS, a_fill(3), day=DAY - timedelta(days=1))
        load = ("trading_tables", str(DAY))
        if kill:
            ended = servers.runner.run(platform, *load, asset="fill_table", **kill)
            assert ended["killed"], ended
        writes = servers.runner.run(platform, *load, asset="fill_table")["writes"]
        warehouse = Warehouse(platform.settings.snowflake, platform.settings.s3)
        tomorrow = datetime.now(UTC) + timedelta(days=2)
        # Housekeeping drops the landing table of the killed run; an undisturbed run leaves none.
        assert len(warehouse.drop_landing_tables(tomorrow)) <= bool(kill)
        assert warehouse.landing_tables(tomorrow) == []
        return platform.rows("select * from FILLS order by TRADE_ID"), writes


def around_the_merge(writes: int) -> list[tuple[int, str]]:
    """Return the ends of COPY, MERGE and DROP, which come before the note of what was loaded."""
    return [(writes - back, "after") for back in (3, 2, 1)]


@pytest.mark.matrix
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("choose", [around_the_merge, every])
def test_killed_record_load_goes_on(servers, snowflake_server, choose) -> None:
    """A load of trading records killed at any statement or write and repeated stores each row once."""
    servers.snowflake = snowflake_server
    expected, writes = fills_after(servers)
    assert len(expected) == 3
    kills = choose(writes)
    found = {kill: fills_after(servers, kill_at=kill[0], when=kill[1])[0] for kill in kills}
    assert {kill: rows for kill, rows in found.items() if rows != expected} == {}


if __name__ == "__main__":
    serve()
