"""A failing run names its cause, and stores the right data when it is repeated after the fault."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
import redis
from click.testing import CliRunner
from dagster import DagsterRunStatus
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import SecretStr

from pipeline_assets.cli.backfill_runs import BackfillError, backfill
from pipeline_assets.cli.main import cli
from pipeline_assets.cli.options import check_range
from pipeline_assets.collection.fetch_plan import (
    FetchPlan,
    RunKind,
    SymbolError,
    day_windows,
    ingest_windows,
)
from pipeline_assets.collection.listings import Listed
from pipeline_assets.collection.upload import store_objects
from pipeline_assets.errors import InputError
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.partition_keys import PartitionError, partition_day
from pipeline_assets.resources.exchange import BACKFILL_PATIENCE, INGEST_PATIENCE, ExchangeClient
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.exchange_errors import ExchangeUnreachableError
from pipeline_assets.resources.finalized_days import finalized_symbols
from pipeline_assets.resources.ingest_state import read_ingest_state, write_ingest_state
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError
from pipeline_assets.resources.slots import SlotsError
from pipeline_assets.resources.warehouse_connection import WarehouseError
from pipeline_assets.resources.weight_budget import WeightBudgetError
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle, start_exchange
from pipeline_assets_tests.fixtures.platform import (
    SYMBOLS,
    Platform,
    platform_without_snowflake,
)
from pipeline_assets_tests.fixtures.redis import RedisServer
from pipeline_assets_tests.fixtures.s3 import ACCESS_KEY_ID, SECRET_ACCESS_KEY, S3Bucket
from pipeline_assets_tests.market.frames import candle_frame, raw_row

TODAY = datetime(2026, 11, 20, tzinfo=UTC)
TOMORROW = TODAY + timedelta(days=1)
YESTERDAY = TODAY - timedelta(days=1)
NOON = TODAY.replace(hour=12)


class PassingTime(Exchange):
    """The product's exchange client, whose waits advance the exchange's clock and take no time.

    `meanwhile` is called with the seconds waited so far.
    """

    def __init__(
        self, platform: Platform, meanwhile: Callable[[float], object] = lambda waited: None
    ) -> None:
        super().__init__(platform.settings)
        self.handle, self.meanwhile, self.waited = platform.exchange, meanwhile, 0.0

    async def sleep(self, seconds: float) -> None:
        self.waited += seconds
        self.handle.advance(seconds)
        self.meanwhile(self.waited)
        await asyncio.sleep(0)

    def client(self, priority, *, patient):
        return ExchangeClient(
            self._binance,
            self.budget,
            priority,
            BACKFILL_PATIENCE if patient else INGEST_PATIENCE,
            sleep=self.sleep,
            monotonic=lambda: self.waited,
        )


class Observed(ObjectStore):
    """The product's store; `before` is called with each key before it is written."""

    def __init__(self, platform: Platform, before: Callable[[str], object]) -> None:
        super().__init__(platform.settings.s3)
        self._before = before

    def writing(self, key):
        self._before(key)
        return super().writing(key)

    def put_if(self, key, body, expected_etag):
        self._before(key)
        return super().put_if(key, body, expected_etag)


def truth(
    platform: Platform,
    interval: str = "1m",
    start: datetime = TODAY,
    end: datetime = TOMORROW,
    symbols: Sequence[str] = SYMBOLS,
) -> pl.DataFrame:
    return pl.concat(platform.truth(interval, symbol, start, end) for symbol in sorted(symbols))


def assert_stored(platform: Platform, *, live: bool = True, **span) -> None:
    """Assert that lake and slots hold exactly the candles that the exchange serves."""
    platform.exchange.faults()
    expected = truth(platform, **span)
    assert expected.height > 0
    interval = span.get("interval", "1m")
    assert_frame_equal(platform.stored(interval), expected)
    if interval != "1m" or not live:
        return
    newest = expected["open_time"].max()
    for row in expected.rows(named=True):
        if row["open_time"] > newest - timedelta(minutes=15) and newest >= NOON:
            held = platform.slots(row["symbol"])[row["open_time"].minute % 15]
            assert held["open_time"] == row["open_time"].timestamp() * 1000
            assert held["volume"] == row["volume"]


def checks(result) -> dict[str, tuple[bool, str]]:
    return {
        each.check_name: (each.passed, each.description or "")
        for each in result.get_asset_check_evaluations()
    }


def failed_steps(result) -> set[str]:
    return {event.step_key for event in result.all_events if event.is_step_failure}


def klines_asked(exchange: ExchangeHandle) -> int:
    return sum(exchange.state()["requests"].get("/fapi/v1/klines", {}).values())


# Symbols


def test_unknown_symbol_suggests_a_near_one(minutes: Platform) -> None:
    """The error for an unknown requested symbol suggests a similar one."""
    with pytest.raises(SymbolError) as caught:
        minutes.backfill("1m", "2026-11-20", symbols=["ETHUSDT", "BTCUSD"])
    assert "BTCUSD is not on the exchange; did you mean BTCUSDT?" in str(caught.value)
    assert "Nothing was fetched. Correct the symbols and run again." in str(caught.value)
    assert klines_asked(minutes.exchange) == 0
    assert minutes.objects("ohlcv/") == {}
    asked = ["ETHUSDT", "BTCUSDT"]
    assert minutes.backfill("1m", "2026-11-20", symbols=asked).success
    assert_stored(minutes, symbols=asked)


def test_untraded_configured_symbols_are_named(
    minutes: Platform,
) -> None:
    """Symbols in the settings that do not trade are named and affect no other."""
    listed = minutes.with_settings(symbols=("BTCUSDT", "NOPEUSDT", "AGIXUSDT", "币安人生USDT"))
    result = listed.ingest("1m")
    assert result.success
    passed, text = checks(result)["window"]
    assert not passed
    assert "2 symbols failed, the first: AGIXUSDT does not trade now" in text
    assert "take it out of PIPELINE_SYMBOLS" in text
    both = ("BTCUSDT", "币安人生USDT")
    assert_stored(minutes, symbols=both)
    corrected = minutes.with_settings(symbols=both)
    assert checks(corrected.ingest("1m"))["window"] == (
        True,
        "Every candle of the window is there.",
    )
    assert_stored(minutes, symbols=both)


def test_unknown_settings_symbols_fetch_nothing(minutes: Platform) -> None:
    """Settings without any known symbol fetch nothing."""
    with pytest.raises(SymbolError, match="NOPEUSDT is not on the exchange"):
        minutes.with_settings(symbols=("NOPEUSDT",)).ingest("1m")
    assert klines_asked(minutes.exchange) == 0


def test_delisted_symbol_is_backfilled(minutes: Platform) -> None:
    """A delisted symbol is backfilled until its delivery."""
    result = minutes.backfill("1m", "2024-07-07", "2024-07-09", symbols=["AGIXUSDT"])
    assert all(passed for passed, _ in checks(result).values()), checks(result)
    first, delivery = datetime(2024, 7, 7, tzinfo=UTC), datetime(2024, 7, 8, 9, tzinfo=UTC)
    served = truth(minutes, start=first, end=TOMORROW, symbols=["AGIXUSDT"])
    assert served["open_time"].max() == delivery - timedelta(minutes=1)
    assert_frame_equal(minutes.stored("1m"), served)
    assert minutes.slots("AGIXUSDT") == {}


# Ranges, intervals, partitions


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        ("2026-11-20", "2026-11-20", "--start 2026-11-20 --end 2026-11-21"),
        ("2026-11-20", "2026-11-18", "--end is excluded and must come after --start"),
        ("2019-09-07", "2019-10-01", "Use --start 2019-09-08"),
        ("2026-11-20", "2026-11-22", "2026-11-21 lies in the future"),
        ("2036-01-01", "2036-01-02", "--end can be 2026-11-21 at most"),
    ],
)
def test_impossible_range_suggests_another(start, end, text) -> None:
    """The error for a range that cannot be filled names one that can."""
    with pytest.raises(InputError) as caught:
        check_range(date.fromisoformat(start), date.fromisoformat(end), TODAY.date())
    assert text in str(caught.value)


@pytest.fixture
def command_line(minutes: Platform, monkeypatch, tmp_path):
    """Run `pipeline-assets backfill …` with this platform's settings, as from a shell."""
    held = minutes.settings
    for name, value in {
        "DATA_DIR": held.data_dir,
        "SYMBOLS": ",".join(held.symbols),
        "BINANCE__REST_URL": held.binance.rest_url,
        "BINANCE__ARCHIVE": held.binance.archive,
        "S3__ENDPOINT_URL": held.s3.endpoint_url,
        "S3__BUCKET": held.s3.bucket,
        "S3__ACCESS_KEY_ID": ACCESS_KEY_ID,
        "S3__SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "REDIS__URL": held.redis.url,
    }.items():
        monkeypatch.setenv(f"PIPELINE_{name}", str(value))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str):
        return CliRunner().invoke(cli, ["backfill", *arguments])

    return run


def test_command_refuses_range_before_requests(minutes: Platform, command_line) -> None:
    """The command refuses a range that it cannot fill before it requests candles."""
    days = ("--start", "2026-11-19", "--end", "2026-11-20")
    for arguments, text in [
        (("--interval", "2m", *days), "'2m' is not one of '1m', '15m', '1h'"),
        (("--interval", "1m", "--start", "2026-13-01", "--end", "2026-11-20"), "'2026-13-01'"),
        (("--interval", "1m", *days[:2], "--end", "2026-11-18"), "--end is excluded"),
        (("--interval", "1m", *days[:2], "--end", "2036-01-01"), "lies in the future"),
    ]:
        result = command_line(*arguments)
        assert result.exit_code != 0
        assert text in f"{result.output} {result.exception}"
    assert klines_asked(minutes.exchange) == 0


def test_command_fills_its_days(minutes: Platform, command_line, monkeypatch) -> None:
    """The command fills the days that it is given."""
    monkeypatch.setattr(
        "pipeline_assets.cli.run_executor.dagster_instance", lambda _: minutes.instance
    )
    arguments = ("--start", "2026-11-18", "--end", "2026-11-20", "--symbols", "币安人生USDT")
    result = command_line("--interval", "1m", *arguments, "--json")
    assert result.exit_code == 0, result.output
    text = json.loads(result.stdout)
    assert (text["rows"], text["objects"], text["problems"]) == (2880, 2, [])
    assert_stored(
        minutes, start=TODAY - timedelta(days=2), end=TODAY, symbols=["币安人生USDT"], live=False
    )


def test_failed_backfill_shows_products_reason(minutes: Platform, monkeypatch) -> None:
    """A failed backfill shows the product's own reason and not the client's."""
    monkeypatch.setattr(
        "pipeline_assets.cli.run_executor.dagster_instance", lambda _: minutes.instance
    )
    bucketless = minutes.with_settings(s3={"bucket": "absent-bucket"}).settings
    with pytest.raises(BackfillError) as caught:
        backfill(bucketless, Interval.ONE_MINUTE, None, TODAY.date(), TOMORROW.date())
    assert "raw_candles_1m failed" in str(caught.value)
    assert "There is no bucket 'absent-bucket'" in str(caught.value)
    assert "PIPELINE_S3__BUCKET" in str(caught.value)


@pytest.mark.parametrize("job", ["tick_1m", "backfill_1m", "backfill_1h"])
def test_future_day_is_refused_in_run(minutes: Platform, job) -> None:
    """A future day is refused although Dagster launches it."""
    with pytest.raises(PartitionError) as caught:
        minutes.launch(job, "2036-01-01")
    assert "Partition 2036-01-01 lies in the future" in str(caught.value)
    assert "days from 2019-09-08 to 2026-11-20 can be materialized" in str(caught.value)
    assert minutes.objects("ohlcv/") == {}


@pytest.mark.parametrize("key", ["2026-11-31", "20261120", "2026-W47-5", "yesterday", "2026-1-5"])
def test_malformed_partition_key_shows_example(key) -> None:
    """The error for a malformed partition key shows what a key looks like."""
    with pytest.raises(PartitionError) as caught:
        partition_day(key, TODAY.date())
    assert f"'{key}' is not a partition: partitions are UTC days like 2026-11-20" in str(
        caught.value
    )


def test_malformed_partition_key_stores_nothing(minutes: Platform) -> None:
    """A run of a malformed partition key stores nothing."""
    # Dagster itself refuses it, before any asset is asked.
    with pytest.raises(ValueError, match="'yesterday' does not match format '%Y-%m-%d"):
        minutes.launch("backfill_1m", "yesterday")
    assert minutes.objects() == {}


def test_day_without_closed_candle_is_allowed(minutes: Platform) -> None:
    """A day without a closed candle yet may be requested."""
    minutes.exchange.set_clock(TODAY + timedelta(minutes=20, seconds=5))
    assert minutes.run("backfill_1m", ("2026-11-19", "2026-11-20")).success
    expected = truth(minutes, start=YESTERDAY)
    assert expected["open_time"].max() == TODAY + timedelta(minutes=19)
    assert_frame_equal(minutes.stored("1m"), expected)
    result = minutes.run("backfill_1h", "2026-11-20", raise_on_error=False)
    assert failed_steps(result) <= {"candle_table_1h", "features_1h"}
    assert minutes.stored("1h").is_empty()


# Systems that refuse or do not answer


def test_missing_bucket_is_reported_and_healed(minutes: Platform) -> None:
    """A missing bucket is reported, and the run is complete when the bucket exists."""
    name = f"{minutes.bucket.name}-later"
    without = minutes.with_settings(s3={"bucket": name})
    with pytest.raises(ObjectStoreError) as caught:
        without.ingest("1m")
    assert f"There is no bucket '{name}'" in str(caught.value)
    assert "set PIPELINE_S3__BUCKET to one that exists" in str(caught.value)
    minutes.bucket.client.create_bucket(Bucket=name)
    without.bucket = S3Bucket(minutes.bucket.endpoint, name, minutes.bucket.client)
    assert without.ingest("1m").success
    assert_stored(without)


def test_wrong_s3_credentials_heal_when_corrected(
    tmp_path, exchange, checking_s3_bucket, redis_url
) -> None:
    """Wrong S3 credentials are reported, and the run is complete with the right ones."""
    with platform_without_snowflake(tmp_path, exchange, checking_s3_bucket, redis_url) as platform:
        wrong = platform.with_settings(s3={"secret_access_key": SecretStr("not the secret")})
        with pytest.raises(ObjectStoreError) as caught:
            wrong.ingest("1m")
        assert "refuses the credentials" in str(caught.value)
        assert "PIPELINE_S3__SECRET_ACCESS_KEY" in str(caught.value)
        assert "not the secret" not in str(caught.value)
        assert platform.ingest("1m").success
        assert_stored(platform)


def test_down_redis_is_reported_and_healed(
    tmp_path, exchange, s3_bucket, own_redis_server: RedisServer
) -> None:
    """A Redis that is down is reported, and the ingest run is complete when Redis runs."""
    url = own_redis_server.url
    with platform_without_snowflake(tmp_path, exchange, s3_bucket, url) as platform:
        own_redis_server.stop()
        with pytest.raises(WeightBudgetError) as caught:
            platform.ingest("1m")
        assert f"Redis at {url} cannot be reached" in str(caught.value)
        assert "PIPELINE_REDIS__URL" in str(caught.value)
        assert klines_asked(exchange) == 0
        own_redis_server.start()
        assert platform.ingest("1m").success
        assert_stored(platform)


def test_dying_redis_delays_only_slots(
    tmp_path, exchange, s3_bucket, own_redis_server: RedisServer
) -> None:
    """A Redis that dies after the fetch costs only the slots, until their step is repeated."""
    url = own_redis_server.url
    with platform_without_snowflake(tmp_path, exchange, s3_bucket, url) as platform:

        def die(key: str) -> None:
            if key.startswith("staging/"):
                own_redis_server.kill()

        result = platform.ingest("1m", raise_on_error=False, store=Observed(platform, die))
        assert failed_steps(result) == {"candle_slots_1m"}
        text = result.failure_data_for_node("candle_slots_1m").error.cause.message
        assert SlotsError.__name__ in text
        assert f"Redis at {url} cannot be reached" in text
        with pytest.raises(redis.ConnectionError):
            platform.slots("BTCUSDT")
        assert_frame_equal(platform.stored("1m"), truth(platform))
        own_redis_server.start()
        assert platform.run_failed_steps_again(result).status is DagsterRunStatus.SUCCESS
        assert_stored(platform)


def test_down_warehouse_delays_only_table(
    minutes: Platform,
) -> None:
    """A warehouse that is down costs only the table, until its step is repeated."""
    result = minutes.backfill("1h", "2026-11-19", "2026-11-20", raise_on_error=False)
    assert failed_steps(result) == {"candle_table_1h"}
    cause = result.failure_data_for_node("candle_table_1h").error.cause
    assert WarehouseError.__name__ in cause.message
    assert f"at 127.0.0.1:{minutes.settings.snowflake.port}" in cause.message
    assert "Is it running (`pipeline-assets status`)?" in cause.message
    expected = truth(minutes, "1h", start=YESTERDAY)
    assert_frame_equal(minutes.stored("1h"), expected)
    # Neither the demo nor a late ingest run may skip the day while it is missing from the table.
    store, day = ObjectStore(minutes.settings.s3), YESTERDAY.date()
    assert finalized_symbols(store, Interval.ONE_HOUR, day) == frozenset()

    minutes.snowflake.start()
    stranger = minutes.with_settings(snowflake={"password": SecretStr("not the password")})
    asked = klines_asked(minutes.exchange)
    refused = stranger.run_failed_steps_again(result)
    assert refused.status is DagsterRunStatus.FAILURE
    text = " ".join(
        str(entry.dagster_event.step_failure_data.error)
        for entry in minutes.instance.all_logs(refused.run_id)
        if entry.dagster_event and entry.dagster_event.is_step_failure
    )
    assert "Check PIPELINE_SNOWFLAKE__USER (pipeline) and " in text
    assert "or PIPELINE_SNOWFLAKE__PASSWORD." in text
    assert "not the password" not in text

    assert minutes.run_failed_steps_again(result).status is DagsterRunStatus.SUCCESS
    assert minutes.table("1h") == expected.rows()
    assert finalized_symbols(store, Interval.ONE_HOUR, day) == frozenset(SYMBOLS)
    asked_again = klines_asked(minutes.exchange) - asked
    assert asked_again == 0
    # A finalized day is in the table, so a backfill may skip it.
    assert minutes.backfill("1h", "2026-11-19", "2026-11-20").success
    assert klines_asked(minutes.exchange) - asked == len(SYMBOLS)
    assert minutes.table("1h") == expected.rows()


# The exchange


@pytest.mark.parametrize("down", ["reset", "http_503"])
def test_next_ingest_heals_exchange_outage(minutes: Platform, down) -> None:
    """An ingest run gives up an exchange that is down, and the next one stores all."""
    assert minutes.ingest("1m").success
    minutes.exchange.faults(down=down)
    with pytest.raises(ExchangeUnreachableError) as caught:
        minutes.ingest("1m", "2026-11-20", exchange=PassingTime(minutes))
    assert f"The exchange at {minutes.settings.binance.rest_url} gave no usable answer" in str(
        caught.value
    )
    assert "Check the network and PIPELINE_BINANCE__REST_URL" in str(caught.value)
    minutes.exchange.faults()
    minutes.exchange.set_clock(NOON + timedelta(hours=2, seconds=7))
    assert minutes.ingest("1m").success
    assert_stored(minutes)


@pytest.mark.parametrize("down", ["reset", "http_503"])
def test_backfill_survives_a_minutes_outage(minutes: Platform, down) -> None:
    """A backfill survives a minute without the exchange."""

    def end_after_a_minute(waited: float) -> None:
        if waited > 60:
            minutes.exchange.faults()

    minutes.exchange.faults(down=down)
    waiting = PassingTime(minutes, end_after_a_minute)
    assert minutes.backfill("1m", "2026-11-19", "2026-11-20", exchange=waiting).success
    assert waiting.waited > 60
    expected = truth(minutes, start=YESTERDAY)
    stored = minutes.stored("1m")
    newest = stored["open_time"].max()
    assert newest >= NOON - timedelta(minutes=1)
    assert_frame_equal(stored, expected.filter(pl.col("open_time") <= newest))


def test_failing_symbol_among_500_is_healed(tmp_path, s3_bucket, redis_url) -> None:
    """One failing symbol among 500 is named, and the next ingest run stores its candles."""
    clock = TODAY + timedelta(minutes=10, seconds=30)
    with (
        start_exchange(symbols=500, clock=f"stepped:{clock.isoformat()}") as exchange,
        platform_without_snowflake(
            tmp_path, exchange, s3_bucket, redis_url, symbols="all"
        ) as platform,
    ):
        exchange.faults(symbols={"ETHUSDT": {"http_500": 1}})
        waiting = PassingTime(platform)
        result = platform.ingest("1m", exchange=waiting)
        passed, text = checks(result)["window"]
        assert not passed
        assert "1 symbol failed, the first: ETHUSDT 1m candles" in text
        assert "The exchange answers other requests" in text
        healthy = [key.split("/")[2] for key in platform.objects("ohlcv/1m/")]
        assert len(healthy) == 499
        assert "ETHUSDT" not in healthy
        assert platform.slots("ETHUSDT") == {}
        assert len(platform.slots(healthy[0])) == 10

        exchange.faults()
        exchange.set_clock(clock + timedelta(minutes=1))
        assert checks(platform.ingest("1m"))["window"][0]
        stored = platform.stored("1m")
        assert stored.group_by("symbol").len()["len"].to_list() == [11] * 500
        assert len(platform.slots("ETHUSDT")) == 11
        some = ("ETHUSDT", *sorted(stored["symbol"].unique())[::25])
        assert_frame_equal(
            stored.filter(pl.col("symbol").is_in(some)), truth(platform, symbols=set(some))
        )


SHARES = (
    "http_500",
    "http_503",
    "http_408",
    "html_502",
    "reset",
    "truncated",
    "cut_json",
    "duplicate_rows",
    "shuffled_rows",
    "missing_rows",
    "malformed_rows",
    "disguised_open_row",
)


def assert_faults_leave_no_trace(platform: Platform, share: float, seed: int) -> None:
    """Under faults only true candles are stored, never fewer than before; without them, all."""
    platform.exchange.faults(**dict.fromkeys(SHARES, share), refuse_next=3, seed=seed)
    waiting = PassingTime(platform)
    held = platform.stored("1m")
    runs = [
        lambda: platform.ingest("1m", "2026-11-20", raise_on_error=False, exchange=waiting),
        lambda: platform.backfill(
            "1m", "2026-11-19", "2026-11-20", raise_on_error=False, exchange=waiting
        ),
        lambda: platform.ingest("1m", "2026-11-20", raise_on_error=False, exchange=waiting),
    ]
    for run in runs:
        run()
        stored = platform.stored("1m")
        assert held.join(stored, on=["symbol", "open_time"], how="anti").is_empty()
        held = stored
    struck = platform.exchange.state()["faults_struck"]
    assert sum(struck.values()) > 0
    platform.exchange.faults()
    served = truth(platform, start=YESTERDAY)
    assert held.join(served, on=served.columns, how="anti").is_empty()
    assert platform.backfill("1m", "2026-11-19", "2026-11-20").success
    assert platform.ingest("1m").success
    assert_stored(platform, start=YESTERDAY)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.matrix)])
def test_every_fault_leaves_no_trace(minutes: Platform, seed) -> None:
    """Faults of every kind leave no trace in the stored candles."""
    assert_faults_leave_no_trace(minutes, 0.05, seed)


@pytest.mark.matrix
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(100, 115))
def test_fault_shares_leave_no_trace(minutes: Platform, share, seed) -> None:
    """Faults of every kind and share leave no trace in the stored candles."""
    minutes.exchange.set_clock(NOON + timedelta(minutes=seed, seconds=3))
    assert_faults_leave_no_trace(minutes, share, seed)


@pytest.mark.matrix
@pytest.mark.timeout(600)
@pytest.mark.parametrize("interval", ["1m", "15m"])
def test_two_percent_faults_over_a_month(minutes: Platform, interval) -> None:
    """Faults in two percent of all requests over a month leave no trace."""
    days = ("2026-10-21", "2026-11-20")
    minutes.exchange.faults(**dict.fromkeys(SHARES, 0.02), refuse_next=5, seed=7)
    minutes.backfill(interval, *days, raise_on_error=False, exchange=PassingTime(minutes))
    struck = set(minutes.exchange.state()["faults_struck"])
    assert len(struck) >= (8 if interval == "1m" else 1)
    minutes.exchange.faults()
    again = PassingTime(minutes)
    result = minutes.backfill(interval, *days, raise_on_error=False, exchange=again)
    assert failed_steps(result) <= {"candle_table_15m", "features_15m"}
    assert_stored(minutes, interval=interval, start=datetime(2026, 10, 21, tzinfo=UTC))


# Order of writers


def test_hole_takes_no_stored_candle(minutes: Platform) -> None:
    """A reply with a hole does not take away a stored candle."""
    assert minutes.ingest("1m").success
    minutes.exchange.advance(60)
    minutes.exchange.faults(missing_rows=1)
    result = minutes.ingest("1m")
    passed, text = checks(result)["window"]
    assert not passed
    assert "candles missing, the first of BTCUSDT" in text
    assert_stored(minutes)


def test_repeated_upload_takes_no_candle(minutes: Platform) -> None:
    """An upload repeated after newer ingest runs takes no candle away."""
    minutes = minutes.with_settings(symbols=("币安人生USDT",))
    minutes.exchange.set_clock(NOON + timedelta(minutes=56, seconds=5))
    assert minutes.ingest("1m").success
    minutes.exchange.advance(60)

    def refuse(key: str) -> None:
        if key.startswith("ohlcv/"):
            raise ObjectStoreError("S3 failed")

    late = minutes.ingest("1m", raise_on_error=False, store=Observed(minutes, refuse))
    assert failed_steps(late) == {"candle_objects_1m"}
    for seconds in (120, 60, 120):
        # Within the hour, at its turn, and when no ingest run reads that hour any more.
        minutes.exchange.advance(seconds)
        assert minutes.ingest("1m").success
        assert minutes.run_failed_steps_again(late).status is DagsterRunStatus.SUCCESS
        assert_stored(minutes, symbols=minutes.settings.symbols)


@given(
    runs=st.lists(
        st.tuples(
            st.sampled_from(["tick", "tick", "backfill"]),
            st.integers(1, 20),
            st.sets(st.integers(0, 120), max_size=4),
            st.integers(0, 3),
        ),
        min_size=2,
        max_size=8,
    )
)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_upload_order_loses_nothing(s3_bucket, runs) -> None:
    """Ingest runs and backfills of the open day lose nothing in any order of uploads.

    Runs fetch in the order given, minutes apart and with holes, and upload some runs later.
    """
    store = ObjectStore(s3_bucket.settings())
    store.delete([each.key for each in store.objects("")])
    listed = {"币安人生USDT": Listed(TODAY - timedelta(days=9))}
    newest = TODAY.replace(minute=40)
    waiting: list[tuple[int, FetchPlan, pl.DataFrame]] = []
    expected: set[datetime] = set()
    for number, (kind, later, holes, delay) in enumerate(runs):
        newest += timedelta(minutes=later)
        state = read_ingest_state(store, Interval.ONE_MINUTE, listed, newest)
        plan = FetchPlan(
            Interval.ONE_MINUTE, RunKind(kind), [TODAY.date()], newest, timedelta(0), listed, {}
        )
        plan.windows = (
            ingest_windows(plan.interval, newest, listed, state.newest)
            if plan.is_ingest_run
            else day_windows(plan.interval, newest, listed, plan.days)
        )
        waiting.append((number + delay, plan, served(plan, holes)))
        due = [each for each in waiting if each[0] <= number or number == len(runs) - 1]
        for each in sorted(due, key=lambda each: each[0]):
            waiting.remove(each)
            expected |= upload(store, *each[1:])
            assert set(stored_minutes(store)) >= expected


def served(plan: FetchPlan, holes: set[int]) -> pl.DataFrame:
    (symbol, window), *_ = plan.windows.items()
    count = window.candles(plan.interval)
    # The first is always there, or holes may leave a window without rows.
    times = [
        window.start + n * plan.interval.span for n in range(count) if n == 0 or n not in holes
    ]
    return candle_frame([raw_row(at, plan.interval, symbol) for at in times])


def upload(store: ObjectStore, plan: FetchPlan, frame: pl.DataFrame) -> set[datetime]:
    state = read_ingest_state(store, plan.interval, plan.listed, plan.newest)
    written = store_objects(store, plan, state, frame, frame["symbol"].unique().to_list())
    if plan.is_ingest_run:
        write_ingest_state(store, plan.interval, state.after(written, plan.listed))
    return set(frame["open_time"])


def stored_minutes(store: ObjectStore) -> list[datetime]:
    bodies = [store.get(each.key) for each in store.objects("ohlcv/")]
    return [at for body in bodies for at in pl.read_parquet(body or b"")["open_time"]]
