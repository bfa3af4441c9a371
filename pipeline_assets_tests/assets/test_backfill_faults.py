"""A backfill that is killed, refused, lied to or out of room stores in the end what the exchange has."""

import io
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets import definitions
from pipeline_assets.cli import backfill_runs as command
from pipeline_assets.cli import run_executor
from pipeline_assets.collection import handover
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources import staging
from pipeline_assets.resources.finalized_days import read_finalized
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.assets.test_failures import Observed, PassingTime, klines_asked
from pipeline_assets_tests.fixtures.disks import small_files
from pipeline_assets_tests.fixtures.exchange import (
    START,
    ExchangeHandle,
    die_with_parent,
    start_exchange,
)
from pipeline_assets_tests.fixtures.platform import (
    SYMBOLS,
    Platform,
    platform_without_snowflake,
)
from pipeline_assets_tests.fixtures.s3 import (
    ACCESS_KEY_ID,
    SECRET_ACCESS_KEY,
    S3Server,
    eventually,
    make_bucket,
)

TODAY = datetime(2026, 11, 20, tzinfo=UTC)
MINUTE = Interval.ONE_MINUTE
KILLS = 10
LONG = 93  # days: three runs of the command
PAGE, PER_DAY = 499, 1440


def first_day(days: int) -> datetime:
    return TODAY - timedelta(days=days)


def assert_true(platform: Platform, days: int) -> None:
    """Nothing lost, nothing twice, nothing different, of every symbol."""
    for symbol in SYMBOLS:
        truth = platform.truth("1m", symbol, first_day(days), TODAY)
        assert truth.height == days * PER_DAY
        assert_frame_equal(platform.stored("1m", symbol), truth)


# The process is killed


def start_command(platform: Platform, data: Path, days: int) -> "subprocess.Popen[bytes]":
    held = platform.settings
    named = {
        "DATA_DIR": data,
        "SYMBOLS": ",".join(held.symbols),
        "BINANCE__REST_URL": held.binance.rest_url,
        "BINANCE__WEIGHT_LIMIT": 1_000_000,
        "BINANCE__ARCHIVE": "false",
        "S3__ENDPOINT_URL": held.s3.endpoint_url,
        "S3__BUCKET": held.s3.bucket,
        "S3__ACCESS_KEY_ID": ACCESS_KEY_ID,
        "S3__SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "REDIS__URL": held.redis.url,
    }
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline_assets", "backfill", "--interval", "1m"),
            *("--start", f"{first_day(days):%Y-%m-%d}", "--end", f"{TODAY:%Y-%m-%d}"),
        ],
        env=os.environ | {f"PIPELINE_{name}": str(value) for name, value in named.items()},
        stdout=subprocess.DEVNULL,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread may hold
    )


def whole_days(platform: Platform) -> dict[str, set[date]]:
    """Return the symbol-days that are stored whole, by the objects themselves."""
    stored = platform.stored("1m")
    counted = stored.group_by("symbol", stored["open_time"].dt.date().alias("day")).len()
    found: dict[str, set[date]] = {symbol: set() for symbol in SYMBOLS}
    for symbol, day, rows in counted.rows():
        if rows == PER_DAY:
            found[symbol].add(day)
    return found


def pages_to_fetch(whole: dict[str, set[date]], days: int) -> int:
    """Return the requests for what is not stored, the range in runs of 31 days."""
    count = 0
    every = [first_day(days).date() + timedelta(days=number) for number in range(days)]
    for first in range(0, days, 31):
        for held in whole.values():
            for lacking, run in groupby(
                every[first : first + 31], lambda day, held=held: day not in held
            ):
                if lacking:
                    count += -(-len(list(run)) * PER_DAY // PAGE)
    return count


def harm(platform: Platform, days: int) -> tuple[int, int, int]:
    """Candles lost, stored twice, and stored with other values than the exchange's, of all symbols."""
    bodies = platform.objects("ohlcv/1m/").values()
    stored = pl.concat(pl.read_parquet(io.BytesIO(body)) for body in bodies)
    truth = pl.concat(
        platform.truth("1m", symbol, first_day(days), TODAY) for symbol in sorted(SYMBOLS)
    )
    candle = ["symbol", "open_time"]
    lost = truth.join(stored, on=candle, how="anti").height
    twice = stored.height - stored.select(candle).unique().height
    return lost, twice, stored.join(truth, on=truth.columns, how="anti").height


@pytest.fixture
def unlimited_exchange() -> Iterator[ExchangeHandle]:
    """Provide an exchange without a limit: its minute, which a stepped clock never ends, would be spent."""
    with start_exchange(clock=f"stepped:{START}", weight_limit=0) as own:
        yield own


@pytest.mark.matrix
@pytest.mark.timeout(3000)
def test_killed_command_resumes(tmp_path, unlimited_exchange, s3_server, redis_server) -> None:
    """The command, killed at random moments, resumes where it was."""
    exchange, chosen = unlimited_exchange, random.Random(5)
    every = [first_day(LONG).date() + timedelta(days=number) for number in range(LONG)]
    pages = pages_to_fetch({symbol: set() for symbol in SYMBOLS}, LONG)
    objects = LONG * len(SYMBOLS)
    saved, harmed = 0, (0, 0, 0)
    for number in range(KILLS):
        redis_server.client().flushall()
        bucket = make_bucket(s3_server)
        with platform_without_snowflake(
            tmp_path / str(number), exchange, bucket, redis_server.url
        ) as platform:
            data, store = tmp_path / f"data{number}", ObjectStore(platform.settings.s3)
            before = klines_asked(exchange)

            def requests(before=before) -> int:
                return klines_asked(exchange) - before

            def stored(store=store) -> int:
                return sum(1 for _ in store.objects("ohlcv/1m/"))

            # While it fetches and while it stores: after the last of either work is left to be done.
            count, whole = ((requests, pages), (stored, objects))[number % 2]
            moment = chosen.randint(1, whole)
            process = start_command(platform, data, LONG)

            def come(process=process, count=count, moment=moment) -> bool:
                assert process.poll() is None, f"it ended before {count.__name__} came to {moment}"
                return count() >= moment

            eventually(come, f"{moment} {count.__name__}", 600)
            process.send_signal(signal.SIGKILL)
            assert process.wait(60) == -signal.SIGKILL
            left = pages_to_fetch(whole_days(platform), LONG)
            before = klines_asked(exchange)
            assert start_command(platform, data, LONG).wait(600) == 0
            assert klines_asked(exchange) - before == left
            saved += left < pages
            found = harm(platform, LONG)
            harmed = tuple(map(sum, zip(harmed, found, strict=True)))
            assert found == (0, 0, 0), f"lost, twice, different after {moment} {count.__name__}"
            for day in every:
                assert read_finalized(store, MINUTE, day).keys() == set(SYMBOLS)
    lost, twice, different = harmed
    print(f"{KILLS} kills, {saved} with something stored before: {lost=} {twice=} {different=}")
    assert saved >= KILLS // 2


# The exchange lies and refuses


def assert_faults_leave_the_truth(platform: Platform, monkeypatch, days: int, seed: int) -> None:
    shares = (
        "http_500",
        "http_503",
        "html_502",
        "reset",
        "truncated",
        "cut_json",
        "duplicate_rows",
        "missing_rows",
        "malformed_rows",
        "shuffled_rows",
    )
    faults = dict.fromkeys(shares, 0.02) | {"seed": seed}
    platform.exchange.faults(**faults, ban_seconds=120)
    storms, before = 3, 0.0

    def storm(waited: float) -> None:
        """Refusals in the midst of the candles: while a request that got no answer is repeated."""
        nonlocal storms, before
        delay, before = waited - before, waited
        if delay < 20 and storms:
            storms -= 1
            platform.exchange.faults(**faults, refuse_next=8)

    passing = PassingTime(platform, storm)
    monkeypatch.setattr(definitions, "Exchange", lambda _: passing)
    monkeypatch.setattr(run_executor, "dagster_instance", lambda _: nullcontext(platform.instance))
    result = command.backfill(platform.settings, MINUTE, None, first_day(days).date(), TODAY.date())
    state = platform.exchange.state()
    platform.exchange.faults()
    assert state["sent_418"] == 1
    assert state["sent_429"] >= 8
    assert result.problems == []
    assert_true(platform, days)


def test_two_percent_faults_leave_the_truth(minutes: Platform, monkeypatch) -> None:
    """Faults in two percent of all requests leave the true candles."""
    assert_faults_leave_the_truth(minutes, monkeypatch, 6, 1)


@pytest.mark.matrix
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(5))
def test_two_percent_faults_over_a_month(minutes: Platform, monkeypatch, seed) -> None:
    """Faults in two percent of all requests over a month leave the true candles."""
    assert_faults_leave_the_truth(minutes, monkeypatch, 30, seed)


# No room, no store


def run_command(platform: Platform, days: int):
    return command.backfill(platform.settings, MINUTE, None, first_day(days).date(), TODAY.date())


def test_full_disk_is_reported_and_resumed(minutes: Platform, monkeypatch) -> None:
    """A full disk is reported, and the same command then stores all."""
    monkeypatch.setattr(run_executor, "dagster_instance", lambda _: nullcontext(minutes.instance))
    monkeypatch.setattr(staging, "_IN_MEMORY", 1 << 18)
    # As in a run of many rows, which go from step to step through S3 and a file.
    monkeypatch.setattr(handover, "_MOST_ROWS", 1000)
    with (
        small_files(),
        pytest.raises(command.BackfillError, match=r"do not fit into .*set TMPDIR to a larger"),
    ):
        run_command(minutes, 8)
    assert run_command(minutes, 8).problems == []
    assert_true(minutes, 8)


def test_dying_store_costs_unstored_work_only(
    tmp_path, exchange, redis_url, own_s3_server: S3Server, monkeypatch
) -> None:
    """A store that dies half-way costs only the work that was not stored."""
    bucket = make_bucket(own_s3_server)
    with platform_without_snowflake(tmp_path, exchange, bucket, redis_url) as platform:
        monkeypatch.setattr(
            run_executor, "dagster_instance", lambda _: nullcontext(platform.instance)
        )
        puts = 0

        def die(key: str) -> None:
            nonlocal puts
            puts += key.startswith("ohlcv/")
            if puts == 10 and key.startswith("ohlcv/"):
                own_s3_server.kill()

        monkeypatch.setattr(definitions, "ObjectStore", lambda _: Observed(platform, die))
        with pytest.raises(command.BackfillError, match="candle_objects_1m failed: S3 at"):
            run_command(platform, 8)
        monkeypatch.setattr(definitions, "ObjectStore", ObjectStore)
        own_s3_server.start()
        whole, before = whole_days(platform), klines_asked(exchange)
        assert sum(map(len, whole.values())) > 0
        assert run_command(platform, 8).problems == []
        assert klines_asked(exchange) - before == pages_to_fetch(whole, 8)
        assert_true(platform, 8)
