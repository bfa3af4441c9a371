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
    tick_windows,
)
from pipeline_assets.collection.listings import Listed
from pipeline_assets.collection.upload import store_objects
from pipeline_assets.errors import InputError
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.partition_keys import PartitionError, partition_day
from pipeline_assets.resources.exchange import BACKFILL_PATIENCE, TICK_PATIENCE, ExchangeClient
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.exchange_errors import ExchangeUnreachableError
from pipeline_assets.resources.finalized_days import sealed_symbols
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError
from pipeline_assets.resources.slots import SlotsError
from pipeline_assets.resources.tick_state import read_tick_state, write_tick_state
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
    """The product's exchange whose waits take no time: they move the exchange's clock on.

    `meanwhile` is called with the seconds waited so far.
    """

    def __init__(
        self, platform: Platform, meanwhile: Callable[[float], object] = lambda waited: None
    ) -> None:
        super().__init__(platform.settings)
        self.handle, self.meanwhile, self.waited = platform.exchange, meanwhile, 0.0

    def client(self, priority, *, patient):
        async def sleep(seconds: float) -> None:
            self.waited += seconds
            self.handle.advance(seconds)
            self.meanwhile(self.waited)
            await asyncio.sleep(0)

        return ExchangeClient(
            self._binance,
            self.budget,
            priority,
            BACKFILL_PATIENCE if patient else TICK_PATIENCE,
            sleep=sleep,
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


def test_an_unknown_symbol_asked_for_by_name_is_told_with_a_near_one(minutes: Platform) -> None:
    with pytest.raises(SymbolError) as caught:
        minutes.backfill("1m", "2026-11-20", symbols=["ETHUSDT", "BTCUSD"])
    assert "BTCUSD is not on the exchange; did you mean BTCUSDT?" in str(caught.value)
    assert "Nothing was fetched. Correct the symbols and run again." in str(caught.value)
    assert klines_asked(minutes.exchange) == 0
    assert minutes.objects("ohlcv/") == {}
    asked = ["ETHUSDT", "BTCUSDT"]
    assert minutes.backfill("1m", "2026-11-20", symbols=asked).success
    assert_stored(minutes, symbols=asked)


def test_symbols_in_the_settings_that_do_not_trade_are_named_and_harm_no_other(
    minutes: Platform,
) -> None:
    listed = minutes.with_settings(symbols=("BTCUSDT", "NOPEUSDT", "AGIXUSDT", "币安人生USDT"))
    result = listed.tick("1m")
    assert result.success
    passed, told = checks(result)["window"]
    assert not passed
    assert "2 symbols failed, the first: AGIXUSDT does not trade now" in told
    assert "take it out of PIPELINE_SYMBOLS" in told
    both = ("BTCUSDT", "币安人生USDT")
    assert_stored(minutes, symbols=both)
    corrected = minutes.with_settings(symbols=both)
    assert checks(corrected.tick("1m"))["window"] == (True, "Every candle of the window is there.")
    assert_stored(minutes, symbols=both)


def test_settings_without_any_known_symbol_fetch_nothing(minutes: Platform) -> None:
    with pytest.raises(SymbolError, match="NOPEUSDT is not on the exchange"):
        minutes.with_settings(symbols=("NOPEUSDT",)).tick("1m")
    assert klines_asked(minutes.exchange) == 0


def test_a_delisted_symbol_is_backfilled_until_its_delivery(minutes: Platform) -> None:
    result = minutes.backfill("1m", "2024-07-07", "2024-07-09", symbols=["AGIXUSDT"])
    assert all(passed for passed, _ in checks(result).values()), checks(result)
    first, delivery = datetime(2024, 7, 7, tzinfo=UTC), datetime(2024, 7, 8, 9, tzinfo=UTC)
    served = truth(minutes, start=first, end=TOMORROW, symbols=["AGIXUSDT"])
    assert served["open_time"].max() == delivery - timedelta(minutes=1)
    assert_frame_equal(minutes.stored("1m"), served)
    assert minutes.slots("AGIXUSDT") == {}


# Ranges, intervals, partitions


@pytest.mark.parametrize(
    ("start", "end", "told"),
    [
        ("2026-11-20", "2026-11-20", "--start 2026-11-20 --end 2026-11-21"),
        ("2026-11-20", "2026-11-18", "--end is excluded and must come after --start"),
        ("2019-09-07", "2019-10-01", "Use --start 2019-09-08"),
        ("2026-11-20", "2026-11-22", "2026-11-21 lies in the future"),
        ("2036-01-01", "2036-01-02", "--end can be 2026-11-21 at most"),
    ],
)
def test_a_range_that_cannot_be_filled_is_told_with_one_that_can(start, end, told) -> None:
    with pytest.raises(InputError) as caught:
        check_range(date.fromisoformat(start), date.fromisoformat(end), TODAY.date())
    assert told in str(caught.value)


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


def test_the_command_refuses_what_it_cannot_fill_before_it_asks_for_candles(
    minutes: Platform, command_line
) -> None:
    days = ("--start", "2026-11-19", "--end", "2026-11-20")
    for arguments, told in [
        (("--interval", "2m", *days), "'2m' is not one of '1m', '15m', '1h'"),
        (("--interval", "1m", "--start", "2026-13-01", "--end", "2026-11-20"), "'2026-13-01'"),
        (("--interval", "1m", *days[:2], "--end", "2026-11-18"), "--end is excluded"),
        (("--interval", "1m", *days[:2], "--end", "2036-01-01"), "lies in the future"),
    ]:
        result = command_line(*arguments)
        assert result.exit_code != 0
        assert told in f"{result.output} {result.exception}"
    assert klines_asked(minutes.exchange) == 0


def test_the_command_fills_the_days_it_is_given(
    minutes: Platform, command_line, monkeypatch
) -> None:
    monkeypatch.setattr(
        "pipeline_assets.cli.backfill_runs.dagster_instance", lambda _: minutes.instance
    )
    arguments = ("--start", "2026-11-18", "--end", "2026-11-20", "--symbols", "币安人生USDT")
    result = command_line("--interval", "1m", *arguments, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["rows"], told["objects"], told["problems"]) == (2880, 2, [])
    assert_stored(
        minutes, start=TODAY - timedelta(days=2), end=TODAY, symbols=["币安人生USDT"], live=False
    )


def test_a_failed_backfill_tells_the_products_own_reason_and_not_the_clients(
    minutes: Platform, monkeypatch
) -> None:
    monkeypatch.setattr(
        "pipeline_assets.cli.backfill_runs.dagster_instance", lambda _: minutes.instance
    )
    bucketless = minutes.with_settings(s3={"bucket": "absent-bucket"}).settings
    with pytest.raises(BackfillError) as caught:
        backfill(bucketless, Interval.ONE_MINUTE, None, TODAY.date(), TOMORROW.date())
    assert "raw_candles_1m failed" in str(caught.value)
    assert "There is no bucket 'absent-bucket'" in str(caught.value)
    assert "PIPELINE_S3__BUCKET" in str(caught.value)


@pytest.mark.parametrize("job", ["tick_1m", "backfill_1m", "backfill_1h"])
def test_a_future_day_is_refused_though_dagster_launches_it(minutes: Platform, job) -> None:
    with pytest.raises(PartitionError) as caught:
        minutes.launch(job, "2036-01-01")
    assert "Partition 2036-01-01 lies in the future" in str(caught.value)
    assert "days from 2019-09-08 to 2026-11-20 can be materialized" in str(caught.value)
    assert minutes.objects("ohlcv/") == {}


@pytest.mark.parametrize("key", ["2026-11-31", "20261120", "2026-W47-5", "yesterday", "2026-1-5"])
def test_a_malformed_partition_key_is_told_with_how_one_looks(key) -> None:
    with pytest.raises(PartitionError) as caught:
        partition_day(key, TODAY.date())
    assert f"'{key}' is not a partition: partitions are UTC days like 2026-11-20" in str(
        caught.value
    )


def test_a_run_of_a_malformed_partition_key_stores_nothing(minutes: Platform) -> None:
    # Dagster itself refuses it, before any asset is asked.
    with pytest.raises(ValueError, match="'yesterday' does not match format '%Y-%m-%d"):
        minutes.launch("backfill_1m", "yesterday")
    assert minutes.objects() == {}


def test_a_day_without_a_closed_candle_yet_may_be_asked_for(minutes: Platform) -> None:
    minutes.exchange.set_clock(TODAY + timedelta(minutes=20, seconds=5))
    assert minutes.run("backfill_1m", ("2026-11-19", "2026-11-20")).success
    expected = truth(minutes, start=YESTERDAY)
    assert expected["open_time"].max() == TODAY + timedelta(minutes=19)
    assert_frame_equal(minutes.stored("1m"), expected)
    result = minutes.run("backfill_1h", "2026-11-20", raise_on_error=False)
    assert failed_steps(result) <= {"candle_table_1h"}
    assert minutes.stored("1h").is_empty()


# Systems that refuse or do not answer


def test_no_bucket_is_told_and_the_run_is_whole_once_there_is_one(minutes: Platform) -> None:
    name = f"{minutes.bucket.name}-later"
    without = minutes.with_settings(s3={"bucket": name})
    with pytest.raises(ObjectStoreError) as caught:
        without.tick("1m")
    assert f"There is no bucket '{name}'" in str(caught.value)
    assert "set PIPELINE_S3__BUCKET to one that exists" in str(caught.value)
    minutes.bucket.client.create_bucket(Bucket=name)
    without.bucket = S3Bucket(minutes.bucket.endpoint, name, minutes.bucket.client)
    assert without.tick("1m").success
    assert_stored(without)


def test_wrong_s3_credentials_are_told_and_the_run_is_whole_with_the_right_ones(
    tmp_path, exchange, checking_s3_bucket, redis_url
) -> None:
    with platform_without_snowflake(tmp_path, exchange, checking_s3_bucket, redis_url) as platform:
        wrong = platform.with_settings(s3={"secret_access_key": SecretStr("not the secret")})
        with pytest.raises(ObjectStoreError) as caught:
            wrong.tick("1m")
        assert "refuses the credentials" in str(caught.value)
        assert "PIPELINE_S3__SECRET_ACCESS_KEY" in str(caught.value)
        assert "not the secret" not in str(caught.value)
        assert platform.tick("1m").success
        assert_stored(platform)


def test_a_redis_that_is_down_is_told_and_the_tick_is_whole_once_it_runs(
    tmp_path, exchange, s3_bucket, own_redis_server: RedisServer
) -> None:
    url = own_redis_server.url
    with platform_without_snowflake(tmp_path, exchange, s3_bucket, url) as platform:
        own_redis_server.stop()
        with pytest.raises(WeightBudgetError) as caught:
            platform.tick("1m")
        assert f"Redis at {url} cannot be reached" in str(caught.value)
        assert "PIPELINE_REDIS__URL" in str(caught.value)
        assert klines_asked(exchange) == 0
        own_redis_server.start()
        assert platform.tick("1m").success
        assert_stored(platform)


def test_a_redis_that_dies_after_the_fetch_costs_the_slots_only_until_they_are_repeated(
    tmp_path, exchange, s3_bucket, own_redis_server: RedisServer
) -> None:
    url = own_redis_server.url
    with platform_without_snowflake(tmp_path, exchange, s3_bucket, url) as platform:

        def die(key: str) -> None:
            if key.startswith("staging/"):
                own_redis_server.kill()

        result = platform.tick("1m", raise_on_error=False, store=Observed(platform, die))
        assert failed_steps(result) == {"candle_slots_1m"}
        told = result.failure_data_for_node("candle_slots_1m").error.cause.message
        assert SlotsError.__name__ in told
        assert f"Redis at {url} cannot be reached" in told
        with pytest.raises(redis.ConnectionError):
            platform.slots("BTCUSDT")
        assert_frame_equal(platform.stored("1m"), truth(platform))
        own_redis_server.start()
        assert platform.run_failed_steps_again(result).status is DagsterRunStatus.SUCCESS
        assert_stored(platform)


def test_a_warehouse_that_is_down_costs_the_table_only_until_its_step_is_repeated(
    minutes: Platform,
) -> None:
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
    assert sealed_symbols(store, Interval.ONE_HOUR, day) == frozenset()

    minutes.snowflake.start()
    stranger = minutes.with_settings(snowflake={"password": SecretStr("not the password")})
    asked = klines_asked(minutes.exchange)
    refused = stranger.run_failed_steps_again(result)
    assert refused.status is DagsterRunStatus.FAILURE
    told = " ".join(
        str(entry.dagster_event.step_failure_data.error)
        for entry in minutes.instance.all_logs(refused.run_id)
        if entry.dagster_event and entry.dagster_event.is_step_failure
    )
    assert "Check PIPELINE_SNOWFLAKE__USER (pipeline) and PIPELINE_SNOWFLAKE__PASSWORD" in told
    assert "not the password" not in told

    assert minutes.run_failed_steps_again(result).status is DagsterRunStatus.SUCCESS
    assert minutes.table("1h") == expected.rows()
    assert sealed_symbols(store, Interval.ONE_HOUR, day) == frozenset(SYMBOLS)
    asked_again = klines_asked(minutes.exchange) - asked
    assert asked_again == 0
    # A finalized day is in the table, so a backfill may skip it.
    assert minutes.backfill("1h", "2026-11-19", "2026-11-20").success
    assert klines_asked(minutes.exchange) - asked == len(SYMBOLS)
    assert minutes.table("1h") == expected.rows()


# The exchange


@pytest.mark.parametrize("down", ["reset", "http_503"])
def test_a_tick_gives_an_exchange_up_that_is_down_and_the_next_one_heals_all(
    minutes: Platform, down
) -> None:
    assert minutes.tick("1m").success
    minutes.exchange.faults(down=down)
    with pytest.raises(ExchangeUnreachableError) as caught:
        minutes.tick("1m", "2026-11-20", exchange=PassingTime(minutes))
    assert f"The exchange at {minutes.settings.binance.rest_url} gave no usable answer" in str(
        caught.value
    )
    assert "Check the network and PIPELINE_BINANCE__REST_URL" in str(caught.value)
    minutes.exchange.faults()
    minutes.exchange.set_clock(NOON + timedelta(hours=2, seconds=7))
    assert minutes.tick("1m").success
    assert_stored(minutes)


@pytest.mark.parametrize("down", ["reset", "http_503"])
def test_a_backfill_outlasts_a_minute_without_the_exchange(minutes: Platform, down) -> None:
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


def test_one_symbol_that_fails_among_500_is_named_and_healed_by_the_next_tick(
    tmp_path, s3_bucket, redis_url
) -> None:
    clock = TODAY + timedelta(minutes=10, seconds=30)
    with (
        start_exchange(symbols=500, clock=f"stepped:{clock.isoformat()}") as exchange,
        platform_without_snowflake(
            tmp_path, exchange, s3_bucket, redis_url, symbols="all"
        ) as platform,
    ):
        exchange.faults(symbols={"ETHUSDT": {"http_500": 1}})
        waiting = PassingTime(platform)
        result = platform.tick("1m", exchange=waiting)
        passed, told = checks(result)["window"]
        assert not passed
        assert "1 symbol failed, the first: ETHUSDT 1m candles" in told
        assert "The exchange answers other requests" in told
        healthy = [key.split("/")[2] for key in platform.objects("ohlcv/1m/")]
        assert len(healthy) == 499
        assert "ETHUSDT" not in healthy
        assert platform.slots("ETHUSDT") == {}
        assert len(platform.slots(healthy[0])) == 10

        exchange.faults()
        exchange.set_clock(clock + timedelta(minutes=1))
        assert checks(platform.tick("1m"))["window"][0]
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
        lambda: platform.tick("1m", "2026-11-20", raise_on_error=False, exchange=waiting),
        lambda: platform.backfill(
            "1m", "2026-11-19", "2026-11-20", raise_on_error=False, exchange=waiting
        ),
        lambda: platform.tick("1m", "2026-11-20", raise_on_error=False, exchange=waiting),
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
    assert platform.tick("1m").success
    assert_stored(platform, start=YESTERDAY)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.matrix)])
def test_faults_of_every_kind_leave_no_trace(minutes: Platform, seed) -> None:
    assert_faults_leave_no_trace(minutes, 0.05, seed)


@pytest.mark.matrix
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("seed", range(100, 115))
def test_faults_of_every_kind_and_share_leave_no_trace(minutes: Platform, share, seed) -> None:
    minutes.exchange.set_clock(NOON + timedelta(minutes=seed, seconds=3))
    assert_faults_leave_no_trace(minutes, share, seed)


@pytest.mark.matrix
@pytest.mark.timeout(600)
@pytest.mark.parametrize("interval", ["1m", "15m"])
def test_two_percent_of_everything_over_a_month(minutes: Platform, interval) -> None:
    days = ("2026-10-21", "2026-11-20")
    minutes.exchange.faults(**dict.fromkeys(SHARES, 0.02), refuse_next=5, seed=7)
    minutes.backfill(interval, *days, raise_on_error=False, exchange=PassingTime(minutes))
    struck = set(minutes.exchange.state()["faults_struck"])
    assert len(struck) >= (8 if interval == "1m" else 1)
    minutes.exchange.faults()
    again = PassingTime(minutes)
    result = minutes.backfill(interval, *days, raise_on_error=False, exchange=again)
    assert failed_steps(result) <= {"candle_table_15m"}
    assert_stored(minutes, interval=interval, start=datetime(2026, 10, 21, tzinfo=UTC))


# Order of writers


def test_a_reply_with_a_hole_does_not_take_a_stored_candle_away(minutes: Platform) -> None:
    assert minutes.tick("1m").success
    minutes.exchange.advance(60)
    minutes.exchange.faults(missing_rows=1)
    result = minutes.tick("1m")
    passed, told = checks(result)["window"]
    assert not passed
    assert "candles are missing, the first of BTCUSDT" in told
    assert_stored(minutes)


def test_an_upload_repeated_after_newer_ticks_takes_no_candle_away(minutes: Platform) -> None:
    minutes = minutes.with_settings(symbols=("币安人生USDT",))
    minutes.exchange.set_clock(NOON + timedelta(minutes=56, seconds=5))
    assert minutes.tick("1m").success
    minutes.exchange.advance(60)

    def refuse(key: str) -> None:
        if key.startswith("ohlcv/"):
            raise ObjectStoreError("S3 failed")

    late = minutes.tick("1m", raise_on_error=False, store=Observed(minutes, refuse))
    assert failed_steps(late) == {"candle_objects_1m"}
    for seconds in (120, 60, 120):
        # Within the hour, at its turn, and when no tick reads that hour any more.
        minutes.exchange.advance(seconds)
        assert minutes.tick("1m").success
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
def test_ticks_and_backfills_of_the_open_day_lose_nothing_in_any_order_of_uploads(
    s3_bucket, runs
) -> None:
    """Runs fetch in the order given, minutes apart and with holes, and upload some runs later."""
    store = ObjectStore(s3_bucket.settings())
    store.delete([each.key for each in store.objects("")])
    listed = {"币安人生USDT": Listed(TODAY - timedelta(days=9))}
    newest = TODAY.replace(minute=40)
    waiting: list[tuple[int, FetchPlan, pl.DataFrame]] = []
    expected: set[datetime] = set()
    for number, (kind, later, holes, delay) in enumerate(runs):
        newest += timedelta(minutes=later)
        state = read_tick_state(store, Interval.ONE_MINUTE, listed, newest)
        plan = FetchPlan(
            Interval.ONE_MINUTE, RunKind(kind), [TODAY.date()], newest, timedelta(0), listed, {}
        )
        plan.windows = (
            tick_windows(plan.interval, newest, listed, state.newest)
            if plan.ticks
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
    state = read_tick_state(store, plan.interval, plan.listed, plan.newest)
    written = store_objects(store, plan, state, frame, frame["symbol"].unique().to_list())
    if plan.ticks:
        write_tick_state(store, plan.interval, state.after(written, plan.listed))
    return set(frame["open_time"])


def stored_minutes(store: ObjectStore) -> list[datetime]:
    bodies = [store.get(each.key) for each in store.objects("ohlcv/")]
    return [at for body in bodies for at in pl.read_parquet(body or b"")["open_time"]]
