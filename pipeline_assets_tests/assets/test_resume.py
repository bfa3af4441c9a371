"""A backfill that is repeated fetches what is not stored complete, and nothing else."""

from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.assets import layer
from pipeline_assets.cli import backfill_runs as command
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window, joined
from pipeline_assets.resources.finalized_days import (
    Absence,
    SealedDay,
    mark_sealed,
    read_sealed,
    sealed_days,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle, start_exchange
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform

TODAY = datetime(2026, 11, 20, tzinfo=UTC)
DAYS = ("2026-11-17", "2026-11-18", "2026-11-19")
RANGE = (DAYS[0], DAYS[-1])
START = TODAY - timedelta(days=3)


def asked(exchange: ExchangeHandle) -> int:
    """The klines requests that the exchange has had."""
    return sum(exchange.state()["requests"].get("/fapi/v1/klines", {}).values())


def metadata(result, node: str) -> dict:
    held = result.asset_materializations_for_node(node)[0].metadata
    return {name: value.value for name, value in held.items()}


def checks(result) -> set[tuple[str, bool]]:
    return {(each.check_name, each.passed) for each in result.get_asset_check_evaluations()}


def seal_mark(platform: Platform, day: str, symbol: str):
    store = ObjectStore(platform.settings.s3)
    return read_sealed(store, Interval.ONE_MINUTE, date.fromisoformat(day))[symbol]


def assert_stored(platform: Platform, symbols=SYMBOLS) -> None:
    for symbol in symbols:
        truth = platform.truth("1m", symbol, START, TODAY)
        assert_frame_equal(platform.stored("1m", symbol), truth)


def test_what_is_stored_complete_is_not_asked_for_again_and_its_partitions_are_green(
    minutes: Platform,
) -> None:
    minutes.backfill("1m", *RANGE)
    before, objects = asked(minutes.exchange), minutes.objects("ohlcv/")
    again = minutes.backfill("1m", *RANGE)
    assert asked(minutes.exchange) == before
    assert metadata(again, "raw_candles_1m")["symbol-days stored before"] == 9
    assert minutes.objects("ohlcv/") == objects
    assert checks(again) == {
        (name, True) for name in ("window", "zero_volume", "complete", "consistent")
    }
    for name in layer.layers(Interval.ONE_MINUTE):
        key = layer.key(name, Interval.ONE_MINUTE)
        assert minutes.instance.get_materialized_partitions(key) == set(DAYS)


def test_a_refresh_asks_for_everything_and_changes_nothing(minutes: Platform) -> None:
    minutes.backfill("1m", *RANGE)
    before, objects = asked(minutes.exchange), minutes.objects("ohlcv/")
    again = minutes.backfill("1m", *RANGE, refresh=True)
    assert asked(minutes.exchange) == 2 * before
    assert metadata(again, "candle_objects_1m")["objects changed"] == 0
    assert minutes.objects("ohlcv/") == objects


@pytest.mark.parametrize("harm", ["removed", "another's", "an hour beside it"])
def test_a_day_whose_object_is_not_the_one_that_was_sealed_is_fetched_again(
    minutes: Platform, harm: str
) -> None:
    minutes.backfill("1m", *RANGE)
    whole = minutes.objects("ohlcv/")
    client, bucket = minutes.bucket.client, minutes.bucket.name
    key = "ohlcv/1m/ETHUSDT/20261118_0000.parquet"
    if harm == "removed":
        client.delete_object(Bucket=bucket, Key=key)
    elif harm == "another's":
        # Valid candles of that day, but not all that the finalized object held.
        part = minutes.stored("1m", "ETHUSDT")
        part = part.filter(part["open_time"].dt.date() == date(2026, 11, 18)).head(100)
        client.put_object(Bucket=bucket, Key=key, Body=encoded(part))
    else:
        part = minutes.stored("1m", "ETHUSDT")
        at = datetime(2026, 11, 18, 5, tzinfo=UTC)
        hour = part.filter(part["open_time"].is_between(at, at + timedelta(minutes=59)))
        beside = "ohlcv/1m/ETHUSDT/20261118_0500.parquet"
        client.put_object(Bucket=bucket, Key=beside, Body=encoded(hour))
    before = asked(minutes.exchange)
    again = minutes.backfill("1m", *RANGE)
    a_day_is = 3
    assert asked(minutes.exchange) - before == a_day_is
    assert metadata(again, "raw_candles_1m")["symbol-days stored before"] == 8
    assert minutes.objects("ohlcv/") == whole


def encoded(candles) -> bytes:
    from pipeline_assets.market.encoding import encode_candles
    from pipeline_assets.market.windows import day_window

    day = candles["open_time"][0].date()
    return encode_candles(candles, Interval.ONE_MINUTE, candles["symbol"][0], day_window(day))


def test_a_hole_that_is_the_exchanges_own_is_recorded_and_not_asked_for_for_ever(
    minutes: Platform,
) -> None:
    hole = Window(
        datetime(2026, 11, 18, 7, 10, tzinfo=UTC), datetime(2026, 11, 18, 9, 40, tzinfo=UTC)
    )
    minutes.exchange.outages("2026-11-18T07:10:00Z/2026-11-18T09:40:00Z/ETHUSDT")
    first = minutes.backfill("1m", *RANGE)
    assert {("complete", True), ("window", True)} < checks(first)
    assert seal_mark(minutes, "2026-11-18", "ETHUSDT").missing == ((hole, Absence.CONFIRMED),)
    assert seal_mark(minutes, "2026-11-18", "BTCUSDT").missing == ()
    before = asked(minutes.exchange)
    again = minutes.backfill("1m", *RANGE)
    assert asked(minutes.exchange) == before
    assert {("complete", True), ("window", True)} < checks(again)
    minutes.exchange.outages()
    minutes.backfill("1m", "2026-11-18", refresh=True)
    assert seal_mark(minutes, "2026-11-18", "ETHUSDT").missing == ()
    assert_stored(minutes)


def test_a_hole_that_ends_in_a_row_off_the_grid_is_recorded_as_any_other(minutes: Platform) -> None:
    """As trading came back within a minute: the row is no candle, and asking again brings no other."""
    minutes.exchange.outages("2026-11-18T07:10:00Z/2026-11-18T09:40:27Z/ETHUSDT")
    before = asked(minutes.exchange)
    first = minutes.backfill("1m", "2026-11-18")
    # Each symbol takes a request for its first candle and three pages. The hole begins in one page and
    # ends in the next, so two more requests ask about each of its parts.
    assert asked(minutes.exchange) - before == len(SYMBOLS) * (1 + 3) + 2 * 2
    assert metadata(first, "candles_1m")["rows set aside"] == 1
    missing = seal_mark(minutes, "2026-11-18", "ETHUSDT").missing
    assert {absence for _, absence in missing} == {Absence.CONFIRMED}
    assert joined(span for span, _ in missing) == [
        Window(datetime(2026, 11, 18, 7, 10, tzinfo=UTC), datetime(2026, 11, 18, 9, 41, tzinfo=UTC))
    ]
    before = asked(minutes.exchange)
    minutes.backfill("1m", "2026-11-18")
    assert asked(minutes.exchange) == before


def test_what_stored_rows_fill_of_a_reply_is_not_told_as_missing(minutes: Platform) -> None:
    hole = "2026-11-18T07:10:00Z/2026-11-18T07:20:00Z/ETHUSDT"
    minutes.exchange.outages(hole)
    minutes.backfill("1m", "2026-11-18")
    minutes.exchange.outages(hole, "2026-11-18T03:00:00Z/2026-11-18T05:00:00Z/ETHUSDT")
    again = minutes.backfill("1m", "2026-11-18", refresh=True)
    assert {("complete", True), ("window", True)} < checks(again)
    minutes_of_the_first = Window(
        datetime(2026, 11, 18, 7, 10, tzinfo=UTC), datetime(2026, 11, 18, 7, 20, tzinfo=UTC)
    )
    assert seal_mark(minutes, "2026-11-18", "ETHUSDT").missing == (
        (minutes_of_the_first, Absence.CONFIRMED),
    )


def test_a_row_that_a_reply_lacked_is_asked_for_by_itself(minutes: Platform) -> None:
    minutes.exchange.faults(missing_rows=0.2, seed=3)
    result = minutes.backfill("1m", *RANGE)
    assert minutes.exchange.state()["faults_struck"]["missing_rows"] > 2
    assert metadata(result, "candle_objects_1m")["symbol-days to fetch again"] == 0
    minutes.exchange.faults()
    assert_stored(minutes)


def test_a_row_that_came_malformed_leaves_its_day_to_be_fetched_again(minutes: Platform) -> None:
    minutes.exchange.faults(symbols={"ETHUSDT": {"malformed_rows": 1}})
    first = minutes.backfill("1m", *RANGE)
    assert metadata(first, "candle_objects_1m")["symbol-days to fetch again"] == 3
    assert not seal_mark(minutes, "2026-11-18", "ETHUSDT").complete
    minutes.exchange.faults()
    before = asked(minutes.exchange)
    again = minutes.backfill("1m", *RANGE)
    three_days_are = 9
    assert asked(minutes.exchange) - before == three_days_are
    assert metadata(again, "candle_objects_1m")["symbol-days to fetch again"] == 0
    assert_stored(minutes)


def test_an_exchange_that_has_nothing_of_anybody_is_not_believed(minutes: Platform) -> None:
    """Not even a later candle: it may have lost everything for a time."""
    minutes.exchange.outages("2026-11-17T00:00:00Z/2026-11-21T00:00:00Z")
    minutes.backfill("1m", *RANGE)
    assert sealed_days(ObjectStore(minutes.settings.s3), Interval.ONE_MINUTE) == []
    minutes.exchange.outages()
    minutes.backfill("1m", *RANGE)
    assert_stored(minutes)


def test_a_row_that_stays_malformed_for_hours_is_settled_with_its_cause(minutes: Platform) -> None:
    """It is what the exchange stores: it is not asked for permanently, and not an error permanently."""
    minutes.exchange.faults(symbols={"ETHUSDT": {"malformed_rows": 1}})
    assert ("complete", False) in checks(minutes.backfill("1m", "2026-11-18"))
    assert ("complete", False) in checks(minutes.backfill("1m", "2026-11-18"))
    minutes.exchange.set_clock(TODAY + timedelta(hours=15))
    assert {("complete", True), ("window", True)} < checks(minutes.backfill("1m", "2026-11-18"))
    missing = seal_mark(minutes, "2026-11-18", "ETHUSDT").missing
    assert {absence for _, absence in missing} == {Absence.INVALID}
    before = asked(minutes.exchange)
    minutes.backfill("1m", "2026-11-18")
    assert asked(minutes.exchange) == before
    # A refresh asks again, and takes what is better.
    minutes.exchange.faults()
    minutes.backfill("1m", "2026-11-18", refresh=True)
    assert seal_mark(minutes, "2026-11-18", "ETHUSDT").missing == ()


@pytest.mark.parametrize("served", [True, False])
def test_an_empty_day_is_believed_once_the_exchange_serves_a_later_candle(
    minutes: Platform, served: bool
) -> None:
    """Nobody collects another symbol, and no other interval is stored: the next candle is the witness."""
    until = "2026-11-19T00:00:00Z" if served else "2026-11-21T00:00:00Z"
    minutes.exchange.outages(f"2026-11-18T00:00:00Z/{until}")
    first = minutes.backfill("1m", "2026-11-18")
    assert ("complete", served) in checks(first)
    store = ObjectStore(minutes.settings.s3)
    marks = read_sealed(store, Interval.ONE_MINUTE, date(2026, 11, 18))
    assert {mark.complete for mark in marks.values()} == ({True} if served else set())
    before = asked(minutes.exchange)
    minutes.backfill("1m", "2026-11-18")
    assert (asked(minutes.exchange) == before) is served


def test_an_empty_day_is_believed_where_another_interval_is_stored_and_served(
    minutes: Platform, tmp_path: Path
) -> None:
    """No later candle is served: the stored hours of the day are the witness."""
    klines_file(tmp_path, "1m", TODAY - timedelta(days=3))
    klines_file(tmp_path, "1h", TODAY - timedelta(days=2))
    with start_exchange(candles=tmp_path, clock="stepped:2026-11-19T00:05:00Z") as own:
        url = own.url.removesuffix("/fapi")
        files = minutes.with_settings(symbols=("ODDUSDT",), binance={"rest_url": url})
        files.exchange = own
        assert ("complete", False) in checks(files.backfill("1m", "2026-11-18"))
        store = ObjectStore(minutes.settings.s3)
        stored = {"ODDUSDT": SealedDay("etag")}
        mark_sealed(store, Interval.ONE_HOUR, date(2026, 11, 18), stored)
        assert ("complete", True) in checks(files.backfill("1m", "2026-11-18"))


def test_a_day_that_is_empty_again_hours_later_is_settled_without_another_witness(
    minutes: Platform,
) -> None:
    """The exchange serves no later candle, and nothing of the day is stored."""
    minutes.exchange.outages("2026-11-18T00:00:00Z/2026-11-21T00:00:00Z")
    store = ObjectStore(minutes.settings.s3)
    for hour in (12, 13):
        minutes.exchange.set_clock(TODAY + timedelta(hours=hour))
        result = minutes.backfill("1m", "2026-11-18")
        assert ("complete", False) in checks(result)
        assert sealed_days(store, Interval.ONE_MINUTE) == []
    minutes.exchange.set_clock(TODAY + timedelta(hours=15))
    assert {("complete", True), ("window", True)} < checks(minutes.backfill("1m", "2026-11-18"))
    missing = seal_mark(minutes, "2026-11-18", "ETHUSDT").missing
    assert missing == ((day_window(date(2026, 11, 18)), Absence.CONFIRMED),)
    before = asked(minutes.exchange)
    minutes.backfill("1m", "2026-11-18")
    assert asked(minutes.exchange) == before
    # A refresh asks again, and takes what came.
    minutes.exchange.outages()
    minutes.backfill("1m", "2026-11-18", refresh=True, symbols=["ETHUSDT"])
    assert seal_mark(minutes, "2026-11-18", "ETHUSDT").missing == ()
    assert minutes.objects("state/empty_answers/") == {}


def test_an_empty_answer_is_not_believed_again_while_a_symbol_fails(minutes: Platform) -> None:
    """The symbol that failed might have had candles, which would show that the answer was wrong."""
    minutes.exchange.outages("2026-11-18T00:00:00Z/2026-11-21T00:00:00Z")
    minutes.backfill("1m", "2026-11-18")
    minutes.exchange.set_clock(TODAY + timedelta(hours=18))
    minutes.exchange.faults(symbols={"ETHUSDT": {"http_500": 1}})
    minutes.backfill("1m", "2026-11-18")
    assert sealed_days(ObjectStore(minutes.settings.s3), Interval.ONE_MINUTE) == []


def test_a_day_that_the_exchange_has_lost_stays_to_be_fetched(minutes: Platform) -> None:
    """An hour of it is stored: so there were candles, however often the answer is empty."""
    minutes.exchange.set_clock(datetime(2026, 11, 19, 1, 0, 30, tzinfo=UTC))
    minutes.tick("1m")
    minutes.exchange.outages("2026-11-19T00:00:00Z/2026-11-21T00:00:00Z")
    for hour in (12, 18):
        minutes.exchange.set_clock(TODAY + timedelta(hours=hour))
        assert ("complete", False) in checks(minutes.backfill("1m", "2026-11-19"))
    assert sealed_days(ObjectStore(minutes.settings.s3), Interval.ONE_MINUTE) == []


def test_the_last_days_of_a_range_are_not_believed_to_be_empty_by_earlier_candles(
    minutes: Platform,
) -> None:
    """Candles of the 17th do not show that the exchange has not lost the 18th and 19th."""
    minutes.exchange.outages("2026-11-18T00:00:00Z/2026-11-21T00:00:00Z")
    minutes.backfill("1m", *RANGE, symbols=["ETHUSDT"])
    assert sealed_days(ObjectStore(minutes.settings.s3), Interval.ONE_MINUTE) == [
        date(2026, 11, 17)
    ]


def klines_file(directory: Path, interval: str, day: datetime) -> None:
    """A person's own file of one day of an interval."""
    step = {"1m": 60_000, "1h": 3_600_000}[interval]
    count = 86_400_000 // step
    start = int(day.timestamp() * 1000)
    columns = dict.fromkeys(("open", "high", "low", "close", "volume"), [100.5] * count)
    times = [start + step * place for place in range(count)]
    rows = pl.DataFrame({"open_time": times, **columns, "trades": [1] * count})
    rows.write_parquet(directory / f"ODDUSDT-{interval}-day.parquet")


def test_days_before_and_after_the_stored_ones_are_fetched_beside_today(
    minutes: Platform,
) -> None:
    minutes.backfill("1m", "2026-11-18")
    before = asked(minutes.exchange)
    minutes.backfill("1m", "2026-11-17", "2026-11-20")
    # A day of three pages, and a day and a half of five, of each symbol.
    assert asked(minutes.exchange) - before == len(SYMBOLS) * (3 + 5)
    for symbol in SYMBOLS:
        truth = minutes.truth("1m", symbol, START, TODAY + timedelta(days=1))
        assert_frame_equal(minutes.stored("1m", symbol), truth)


def test_whole_days_that_a_killed_upload_left_without_a_mark_are_left_out_and_marked(
    minutes: Platform,
) -> None:
    minutes.backfill("1m", *RANGE)
    store = ObjectStore(minutes.settings.s3)
    marked = minutes.objects("state/sealed/")
    short = "ohlcv/1m/ETHUSDT/20261118_0000.parquet"
    part = minutes.stored("1m", "ETHUSDT")
    part = part.filter(part["open_time"].dt.date() == date(2026, 11, 18)).head(1439)
    store.put(short, encoded(part))
    store.delete(list(marked))
    before = asked(minutes.exchange)
    minutes.backfill("1m", *RANGE)
    a_day_is = 3
    assert asked(minutes.exchange) - before == a_day_is
    assert minutes.objects("state/sealed/") == marked
    assert_stored(minutes)


@pytest.mark.parametrize("marked", [True, False])
def test_a_day_is_fetched_again_once_the_symbol_traded_longer_than_its_mark_says(
    minutes: Platform, marked: bool
) -> None:
    """The day was finalized from 9:17 on; its upload was or was not killed before writing marks."""
    day, symbols = "2026-11-19", ("BTCUSDT", "ETHUSDT")

    def listed(at: str):
        return start_exchange(
            symbols=",".join(symbols), clock=f"stepped:{TODAY:%Y-%m-%d}T12:00:30Z", listed=at
        )

    def over(own: ExchangeHandle) -> Platform:
        url = own.url.removesuffix("/fapi")
        young = minutes.with_settings(symbols=symbols, binance={"rest_url": url})
        young.exchange = own
        return young

    with listed(f"ETHUSDT={day}T09:17:00Z") as own:
        young = over(own)
        young.backfill("1m", day)
        if not marked:
            store = ObjectStore(minutes.settings.s3)
            store.delete(list(minutes.objects("state/sealed/")))
            young.backfill("1m", day)
        before = asked(own)
        young.backfill("1m", day)
        assert asked(own) == before
        assert young.stored("1m", "ETHUSDT").height == 1440 - 9 * 60 - 17
    with listed("ETHUSDT=2026-11-01T00:00:00Z") as own:
        older = over(own)
        older.backfill("1m", day)
        truth = older.truth("1m", "ETHUSDT", TODAY - timedelta(days=1), TODAY)
        assert truth.height == 1440
        assert_frame_equal(older.stored("1m", "ETHUSDT"), truth)


def test_a_long_range_of_many_symbols_is_runs_of_few_days(minutes: Platform, monkeypatch) -> None:
    monkeypatch.setattr(command, "dagster_instance", lambda _: nullcontext(minutes.instance))
    monkeypatch.setattr(command, "_ROWS_PER_RUN", 2 * 1440 * len(SYMBOLS))
    told = Told()
    days = (date(2026, 11, 15), date(2026, 11, 20))
    result = command.backfill(minutes.settings, Interval.ONE_MINUTE, None, *days, told)
    assert (len(result.runs), result.rows, result.problems) == (3, 5 * 1440 * 3, [])
    assert told.totals == [(2 * 4320, 3 * 4320), (2 * 4320, 4320), (4320, 0)]
    assert told.rows == result.rows
    used, allowed = told.weights[-1]
    assert 0 < used <= allowed == 2400 - minutes.settings.binance.weight_margin


def test_the_command_repeats_a_run_until_what_came_malformed_is_there(
    minutes: Platform, monkeypatch
) -> None:
    monkeypatch.setattr(command, "dagster_instance", lambda _: nullcontext(minutes.instance))
    monkeypatch.setattr(command, "_ATTEMPTS", 9)
    minutes.exchange.faults(malformed_rows=0.15, seed=5)
    days = (date(2026, 11, 17), date(2026, 11, 20))
    result = command.backfill(minutes.settings, Interval.ONE_MINUTE, None, *days)
    assert result.problems == []
    assert 1 < len(result.runs) <= 9
    minutes.exchange.faults()
    assert_stored(minutes)


def test_a_symbol_that_always_fails_keeps_nobody_from_the_days_that_follow(
    minutes: Platform, monkeypatch
) -> None:
    monkeypatch.setattr(command, "dagster_instance", lambda _: nullcontext(minutes.instance))
    monkeypatch.setattr(command, "_ROWS_PER_RUN", 1440 * len(SYMBOLS))
    monkeypatch.setattr(command, "_ATTEMPTS", 2)
    minutes.exchange.faults(symbols={"ETHUSDT": {"cut_json": 1}})
    days = (date(2026, 11, 18), date(2026, 11, 20))
    result = command.backfill(minutes.settings, Interval.ONE_MINUTE, None, *days)
    assert len(result.runs) == 4
    assert result.rows == 2 * 2 * 1440
    for day in ("2026-11-18", "2026-11-19"):
        failed = [each for each in result.problems if each.startswith(f"{day} window: 1 symbol")]
        assert len(failed) == 1
        assert "ETHUSDT" in failed[0]
    minutes.exchange.faults()
    for symbol in ("BTCUSDT", "币安人生USDT"):
        truth = minutes.truth("1m", symbol, TODAY - timedelta(days=2), TODAY)
        assert_frame_equal(minutes.stored("1m", symbol), truth)


def test_a_repetition_that_fails_is_told_and_the_next_days_are_stored(
    minutes: Platform, monkeypatch
) -> None:
    """Rows of the only symbol come malformed at first, and then none at all until the next days."""
    monkeypatch.setattr(command, "dagster_instance", lambda _: nullcontext(minutes.instance))
    monkeypatch.setattr(command, "_ROWS_PER_RUN", 1440)
    faults = iter(({"symbols": {"ETHUSDT": {"cut_json": 1}}}, {}, {}))

    class Changing(Told):
        def finish(self) -> None:
            minutes.exchange.faults(**next(faults))

    minutes.exchange.faults(symbols={"ETHUSDT": {"malformed_rows": 1}})
    days = (date(2026, 11, 18), date(2026, 11, 20))
    result = command.backfill(minutes.settings, Interval.ONE_MINUTE, ["ETHUSDT"], *days, Changing())
    assert len(result.runs) == 2
    assert any("None of 1 symbols could be fetched" in each for each in result.problems)
    stored = minutes.stored("1m", "ETHUSDT")
    truth = minutes.truth("1m", "ETHUSDT", TODAY - timedelta(days=1), TODAY)
    assert_frame_equal(stored.filter(stored["open_time"] >= TODAY - timedelta(days=1)), truth)


@pytest.mark.parametrize("answers_then", [True, False])
def test_a_refresh_is_repeated_for_the_symbols_that_failed_and_else_says_that_it_was_not_done(
    minutes: Platform, monkeypatch, answers_then: bool
) -> None:
    """A refresh is requested because one symbol's stored day is short and counts as complete."""
    monkeypatch.setattr(command, "dagster_instance", lambda _: nullcontext(minutes.instance))
    day = date(2026, 11, 18)
    minutes.backfill("1m", str(day))
    store, whole = ObjectStore(minutes.settings.s3), minutes.stored("1m")
    short = whole.filter(whole["symbol"] == "ETHUSDT")[:1000]
    etag = store.put("ohlcv/1m/ETHUSDT/20261118_0000.parquet", encoded(short))
    mark_sealed(store, Interval.ONE_MINUTE, day, {"ETHUSDT": SealedDay(etag)})

    class Changing(Told):
        def finish(self) -> None:
            if answers_then:
                minutes.exchange.faults()

    minutes.exchange.faults(symbols={"ETHUSDT": {"cut_json": 1}})
    days = (day, day + timedelta(days=1))
    result = command.backfill(
        minutes.settings, Interval.ONE_MINUTE, None, *days, Changing(), refresh=True
    )
    stored = minutes.stored("1m")
    if answers_then:
        assert result.problems == []
        # The two others once, and then the one alone.
        assert result.rows == 3 * 1440
        assert_frame_equal(stored, whole)
    else:
        assert any("ETHUSDT" in each and "JSON" in each for each in result.problems)
        assert stored.height == 2 * 1440 + 1000


@pytest.mark.parametrize("cut", [0, 1])
def test_a_symbol_that_failed_is_fetched_again_and_one_that_is_misspelt_is_not(
    minutes: Platform, monkeypatch, cut: int
) -> None:
    monkeypatch.setattr(command, "dagster_instance", lambda _: nullcontext(minutes.instance))
    misspelt = minutes.with_settings(symbols=("BTCUSDT", "ETHUSDT", "XRPUSD"))

    class Changing(Told):
        def finish(self) -> None:
            minutes.exchange.faults()

    minutes.exchange.faults(symbols={"ETHUSDT": {"cut_json": cut}})
    days = (date(2026, 11, 19), date(2026, 11, 20))
    result = command.backfill(misspelt.settings, Interval.ONE_MINUTE, None, *days, Changing())
    assert len(result.runs) == 1 + cut
    assert any("XRPUSD is not on the exchange" in each for each in result.problems)
    assert minutes.stored("1m").height == 2 * 1440


class Told:
    """The progress reports of a backfill."""

    def __init__(self) -> None:
        self.later, self.rows = 0, 0
        self.totals: list[tuple[int, int]] = []
        self.weights: list[tuple[int, int]] = []

    def start(self, label: str, rows: int) -> None:
        assert label == "1m candles"
        self.totals.append((rows, self.later))

    def advance(self, rows: int, planned: int) -> None:
        self.rows += rows

    def weight(self, used: int, allowed: int) -> None:
        self.weights.append((used, allowed))

    def finish(self) -> None:
        assert self.rows == sum(rows for rows, _ in self.totals)
