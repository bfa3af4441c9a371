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
    FinalizedDay,
    finalized_days,
    mark_finalized,
    read_finalized,
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


def finalized_mark(platform: Platform, day: str, symbol: str):
    store = ObjectStore(platform.settings.s3)
    return read_finalized(store, Interval.ONE_MINUTE, date.fromisoformat(day))[symbol]


def assert_stored(platform: Platform, symbols=SYMBOLS) -> None:
    for symbol in symbols:
        truth = platform.truth("1m", symbol, START, TODAY)
        assert_frame_equal(platform.stored("1m", symbol), truth)


def test_complete_days_are_not_fetched_again(
    minutes: Platform,
) -> None:
    """Complete days are not fetched again, and their partitions are green."""
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


def test_refresh_fetches_all_changes_nothing(minutes: Platform) -> None:
    """A refresh fetches everything and changes nothing."""
    minutes.backfill("1m", *RANGE)
    before, objects = asked(minutes.exchange), minutes.objects("ohlcv/")
    again = minutes.backfill("1m", *RANGE, refresh=True)
    assert asked(minutes.exchange) == 2 * before
    assert metadata(again, "candle_objects_1m")["objects changed"] == 0
    assert minutes.objects("ohlcv/") == objects


@pytest.mark.parametrize("harm", ["removed", "another's", "an hour beside it"])
def test_replaced_object_is_fetched_again(minutes: Platform, harm: str) -> None:
    """A day whose object is not the finalized one is fetched again."""
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


def test_exchanges_own_hole_is_recorded(
    minutes: Platform,
) -> None:
    """A hole that is the exchange's own is recorded and not requested again."""
    hole = Window(
        datetime(2026, 11, 18, 7, 10, tzinfo=UTC), datetime(2026, 11, 18, 9, 40, tzinfo=UTC)
    )
    minutes.exchange.outages("2026-11-18T07:10:00Z/2026-11-18T09:40:00Z/ETHUSDT")
    first = minutes.backfill("1m", *RANGE)
    assert {("complete", True), ("window", True)} < checks(first)
    assert finalized_mark(minutes, "2026-11-18", "ETHUSDT").missing == ((hole, Absence.CONFIRMED),)
    assert finalized_mark(minutes, "2026-11-18", "BTCUSDT").missing == ()
    before = asked(minutes.exchange)
    again = minutes.backfill("1m", *RANGE)
    assert asked(minutes.exchange) == before
    assert {("complete", True), ("window", True)} < checks(again)
    minutes.exchange.outages()
    minutes.backfill("1m", "2026-11-18", refresh=True)
    assert finalized_mark(minutes, "2026-11-18", "ETHUSDT").missing == ()
    assert_stored(minutes)


def test_off_grid_hole_end_is_recorded(minutes: Platform) -> None:
    """A hole that ends in a row off the grid is recorded as any other.

    Trading came back within a minute: the row is not a candle, and fetching again brings the same row.
    """
    minutes.exchange.outages("2026-11-18T07:10:00Z/2026-11-18T09:40:27Z/ETHUSDT")
    before = asked(minutes.exchange)
    first = minutes.backfill("1m", "2026-11-18")
    # Each symbol takes a request for its first candle and three pages. The hole begins in one page and
    # ends in the next, so two more requests ask about each of its parts.
    assert asked(minutes.exchange) - before == len(SYMBOLS) * (1 + 3) + 2 * 2
    assert metadata(first, "candles_1m")["rows set aside"] == 1
    missing = finalized_mark(minutes, "2026-11-18", "ETHUSDT").missing
    assert {absence for _, absence in missing} == {Absence.CONFIRMED}
    assert joined(span for span, _ in missing) == [
        Window(datetime(2026, 11, 18, 7, 10, tzinfo=UTC), datetime(2026, 11, 18, 9, 41, tzinfo=UTC))
    ]
    before = asked(minutes.exchange)
    minutes.backfill("1m", "2026-11-18")
    assert asked(minutes.exchange) == before


def test_stored_rows_fill_reply_holes(minutes: Platform) -> None:
    """Candles missing from a reply are not reported as missing if they are stored."""
    hole = "2026-11-18T07:10:00Z/2026-11-18T07:20:00Z/ETHUSDT"
    minutes.exchange.outages(hole)
    minutes.backfill("1m", "2026-11-18")
    minutes.exchange.outages(hole, "2026-11-18T03:00:00Z/2026-11-18T05:00:00Z/ETHUSDT")
    again = minutes.backfill("1m", "2026-11-18", refresh=True)
    assert {("complete", True), ("window", True)} < checks(again)
    minutes_of_the_first = Window(
        datetime(2026, 11, 18, 7, 10, tzinfo=UTC), datetime(2026, 11, 18, 7, 20, tzinfo=UTC)
    )
    assert finalized_mark(minutes, "2026-11-18", "ETHUSDT").missing == (
        (minutes_of_the_first, Absence.CONFIRMED),
    )


def test_missing_row_is_requested_alone(minutes: Platform) -> None:
    """A row that is missing from a reply is requested by itself."""
    minutes.exchange.faults(missing_rows=0.2, seed=3)
    result = minutes.backfill("1m", *RANGE)
    assert minutes.exchange.state()["faults_struck"]["missing_rows"] > 2
    assert metadata(result, "candle_objects_1m")["symbol-days to fetch again"] == 0
    minutes.exchange.faults()
    assert_stored(minutes)


def test_malformed_row_keeps_day_open(minutes: Platform) -> None:
    """A row that came malformed leaves its day to be fetched again."""
    minutes.exchange.faults(symbols={"ETHUSDT": {"malformed_rows": 1}})
    first = minutes.backfill("1m", *RANGE)
    assert metadata(first, "candle_objects_1m")["symbol-days to fetch again"] == 3
    assert not finalized_mark(minutes, "2026-11-18", "ETHUSDT").complete
    minutes.exchange.faults()
    before = asked(minutes.exchange)
    again = minutes.backfill("1m", *RANGE)
    three_days_are = 9
    assert asked(minutes.exchange) - before == three_days_are
    assert metadata(again, "candle_objects_1m")["symbol-days to fetch again"] == 0
    assert_stored(minutes)


def test_empty_exchange_is_not_believed(minutes: Platform) -> None:
    """An exchange that has no candles of any symbol is not believed.

    Not even a later candle: it may have lost everything for a time.
    """
    minutes.exchange.outages("2026-11-17T00:00:00Z/2026-11-21T00:00:00Z")
    minutes.backfill("1m", *RANGE)
    assert finalized_days(ObjectStore(minutes.settings.s3), Interval.ONE_MINUTE) == []
    minutes.exchange.outages()
    minutes.backfill("1m", *RANGE)
    assert_stored(minutes)


def test_persistently_malformed_row_is_settled(minutes: Platform) -> None:
    """A row that stays malformed for hours is settled with its cause.

    It is what the exchange stores: it is not asked for permanently, and not an error permanently.
    """
    minutes.exchange.faults(symbols={"ETHUSDT": {"malformed_rows": 1}})
    assert ("complete", False) in checks(minutes.backfill("1m", "2026-11-18"))
    assert ("complete", False) in checks(minutes.backfill("1m", "2026-11-18"))
    minutes.exchange.set_clock(TODAY + timedelta(hours=15))
    assert {("complete", True), ("window", True)} < checks(minutes.backfill("1m", "2026-11-18"))
    missing = finalized_mark(minutes, "2026-11-18", "ETHUSDT").missing
    assert {absence for _, absence in missing} == {Absence.INVALID}
    before = asked(minutes.exchange)
    minutes.backfill("1m", "2026-11-18")
    assert asked(minutes.exchange) == before
    # A refresh asks again, and takes what is better.
    minutes.exchange.faults()
    minutes.backfill("1m", "2026-11-18", refresh=True)
    assert finalized_mark(minutes, "2026-11-18", "ETHUSDT").missing == ()


@pytest.mark.parametrize("served", [True, False])
def test_later_candle_confirms_empty_day(minutes: Platform, served: bool) -> None:
    """An empty day is believed once the exchange serves a later candle.

    No other symbol is collected and no other interval is stored, so only the next candle is a witness.
    """
    until = "2026-11-19T00:00:00Z" if served else "2026-11-21T00:00:00Z"
    minutes.exchange.outages(f"2026-11-18T00:00:00Z/{until}")
    first = minutes.backfill("1m", "2026-11-18")
    assert ("complete", served) in checks(first)
    store = ObjectStore(minutes.settings.s3)
    marks = read_finalized(store, Interval.ONE_MINUTE, date(2026, 11, 18))
    assert {mark.complete for mark in marks.values()} == ({True} if served else set())
    before = asked(minutes.exchange)
    minutes.backfill("1m", "2026-11-18")
    assert (asked(minutes.exchange) == before) is served


def test_other_interval_confirms_empty_day(minutes: Platform, tmp_path: Path) -> None:
    """An empty day is believed if another interval of it is stored and served.

    No later candle is served: the stored hours of the day are the witness.
    """
    klines_file(tmp_path, "1m", TODAY - timedelta(days=3))
    klines_file(tmp_path, "1h", TODAY - timedelta(days=2))
    with start_exchange(candles=tmp_path, clock="stepped:2026-11-19T00:05:00Z") as own:
        url = own.url.removesuffix("/fapi")
        files = minutes.with_settings(symbols=("ODDUSDT",), binance={"rest_url": url})
        files.exchange = own
        assert ("complete", False) in checks(files.backfill("1m", "2026-11-18"))
        store = ObjectStore(minutes.settings.s3)
        stored = {"ODDUSDT": FinalizedDay("etag")}
        mark_finalized(store, Interval.ONE_HOUR, date(2026, 11, 18), stored)
        assert ("complete", True) in checks(files.backfill("1m", "2026-11-18"))


def test_repeated_empty_day_is_settled(
    minutes: Platform,
) -> None:
    """A day that is empty again hours later is settled without another witness.

    The exchange serves no later candle, and nothing of the day is stored.
    """
    minutes.exchange.outages("2026-11-18T00:00:00Z/2026-11-21T00:00:00Z")
    store = ObjectStore(minutes.settings.s3)
    for hour in (12, 13):
        minutes.exchange.set_clock(TODAY + timedelta(hours=hour))
        result = minutes.backfill("1m", "2026-11-18")
        assert ("complete", False) in checks(result)
        assert finalized_days(store, Interval.ONE_MINUTE) == []
    minutes.exchange.set_clock(TODAY + timedelta(hours=15))
    assert {("complete", True), ("window", True)} < checks(minutes.backfill("1m", "2026-11-18"))
    missing = finalized_mark(minutes, "2026-11-18", "ETHUSDT").missing
    assert missing == ((day_window(date(2026, 11, 18)), Absence.CONFIRMED),)
    before = asked(minutes.exchange)
    minutes.backfill("1m", "2026-11-18")
    assert asked(minutes.exchange) == before
    # A refresh asks again, and takes what came.
    minutes.exchange.outages()
    minutes.backfill("1m", "2026-11-18", refresh=True, symbols=["ETHUSDT"])
    assert finalized_mark(minutes, "2026-11-18", "ETHUSDT").missing == ()
    assert minutes.objects("state/empty_answers/") == {}


def test_failing_symbol_delays_empty_answer(minutes: Platform) -> None:
    """A repeated empty answer is not believed while a symbol fails.

    The symbol that failed might have had candles, which would show that the answer was wrong.
    """
    minutes.exchange.outages("2026-11-18T00:00:00Z/2026-11-21T00:00:00Z")
    minutes.backfill("1m", "2026-11-18")
    minutes.exchange.set_clock(TODAY + timedelta(hours=18))
    minutes.exchange.faults(symbols={"ETHUSDT": {"http_500": 1}})
    minutes.backfill("1m", "2026-11-18")
    assert finalized_days(ObjectStore(minutes.settings.s3), Interval.ONE_MINUTE) == []


def test_lost_day_stays_to_be_fetched(minutes: Platform) -> None:
    """A day that the exchange has lost stays to be fetched.

    An hour of it is stored: so there were candles, however often the answer is empty.
    """
    minutes.exchange.set_clock(datetime(2026, 11, 19, 1, 0, 30, tzinfo=UTC))
    minutes.ingest("1m")
    minutes.exchange.outages("2026-11-19T00:00:00Z/2026-11-21T00:00:00Z")
    for hour in (12, 18):
        minutes.exchange.set_clock(TODAY + timedelta(hours=hour))
        assert ("complete", False) in checks(minutes.backfill("1m", "2026-11-19"))
    assert finalized_days(ObjectStore(minutes.settings.s3), Interval.ONE_MINUTE) == []


def test_earlier_candles_confirm_no_empty_days(
    minutes: Platform,
) -> None:
    """Earlier candles do not confirm that the last days of a range are empty.

    Candles of the 17th do not show that the exchange has not lost the 18th and 19th.
    """
    minutes.exchange.outages("2026-11-18T00:00:00Z/2026-11-21T00:00:00Z")
    minutes.backfill("1m", *RANGE, symbols=["ETHUSDT"])
    assert finalized_days(ObjectStore(minutes.settings.s3), Interval.ONE_MINUTE) == [
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


def test_surrounding_days_are_fetched(
    minutes: Platform,
) -> None:
    """Days before and after the stored ones are fetched, and today."""
    minutes.backfill("1m", "2026-11-18")
    before = asked(minutes.exchange)
    minutes.backfill("1m", "2026-11-17", "2026-11-20")
    # A day of three pages, and a day and a half of five, of each symbol.
    assert asked(minutes.exchange) - before == len(SYMBOLS) * (3 + 5)
    for symbol in SYMBOLS:
        truth = minutes.truth("1m", symbol, START, TODAY + timedelta(days=1))
        assert_frame_equal(minutes.stored("1m", symbol), truth)


def test_whole_unmarked_days_are_marked(
    minutes: Platform,
) -> None:
    """Whole days that a killed upload left without a mark are marked and not fetched."""
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
def test_longer_trading_time_fetches_again(minutes: Platform, marked: bool) -> None:
    """A day is fetched again once the symbol traded longer than its mark says.

    The day was finalized from 9:17 on; its upload was or was not killed before writing marks.
    """
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


def test_long_range_becomes_short_runs(minutes: Platform, monkeypatch) -> None:
    """A long range of many symbols becomes runs of few days."""
    monkeypatch.setattr(command, "dagster_instance", lambda _: nullcontext(minutes.instance))
    monkeypatch.setattr(command, "_ROWS_PER_RUN", 2 * 1440 * len(SYMBOLS))
    reported = Reported()
    days = (date(2026, 11, 15), date(2026, 11, 20))
    result = command.backfill(minutes.settings, Interval.ONE_MINUTE, None, *days, reported)
    assert (len(result.runs), result.rows, result.problems) == (3, 5 * 1440 * 3, [])
    assert reported.totals == [(2 * 4320, 3 * 4320), (2 * 4320, 4320), (4320, 0)]
    assert reported.rows == result.rows
    used, allowed = reported.weights[-1]
    assert 0 < used <= allowed == 2400 - minutes.settings.binance.weight_margin


def test_command_repeats_until_rows_are_valid(minutes: Platform, monkeypatch) -> None:
    """The command repeats a run until the rows that came malformed are stored."""
    monkeypatch.setattr(command, "dagster_instance", lambda _: nullcontext(minutes.instance))
    monkeypatch.setattr(command, "_ATTEMPTS", 9)
    minutes.exchange.faults(malformed_rows=0.15, seed=5)
    days = (date(2026, 11, 17), date(2026, 11, 20))
    result = command.backfill(minutes.settings, Interval.ONE_MINUTE, None, *days)
    assert result.problems == []
    assert 1 < len(result.runs) <= 9
    minutes.exchange.faults()
    assert_stored(minutes)


def test_failing_symbol_delays_no_later_days(minutes: Platform, monkeypatch) -> None:
    """A symbol that always fails does not keep later days from being stored."""
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


def test_failing_repetition_is_reported(minutes: Platform, monkeypatch) -> None:
    """A repetition that fails is reported, and the next days are stored.

    Rows of the only symbol come malformed at first, and then none at all until the next days.
    """
    monkeypatch.setattr(command, "dagster_instance", lambda _: nullcontext(minutes.instance))
    monkeypatch.setattr(command, "_ROWS_PER_RUN", 1440)
    faults = iter(({"symbols": {"ETHUSDT": {"cut_json": 1}}}, {}, {}))

    class Changing(Reported):
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
def test_refresh_repeats_failed_symbols(minutes: Platform, monkeypatch, answers_then: bool) -> None:
    """A refresh is repeated for the symbols that failed, or reported as not done.

    A refresh is requested because one symbol's stored day is short and counts as complete.
    """
    monkeypatch.setattr(command, "dagster_instance", lambda _: nullcontext(minutes.instance))
    day = date(2026, 11, 18)
    minutes.backfill("1m", str(day))
    store, whole = ObjectStore(minutes.settings.s3), minutes.stored("1m")
    short = whole.filter(whole["symbol"] == "ETHUSDT")[:1000]
    etag = store.put("ohlcv/1m/ETHUSDT/20261118_0000.parquet", encoded(short))
    mark_finalized(store, Interval.ONE_MINUTE, day, {"ETHUSDT": FinalizedDay(etag)})

    class Changing(Reported):
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
def test_failed_symbol_is_fetched_misspelt_not(minutes: Platform, monkeypatch, cut: int) -> None:
    """A symbol that failed is fetched again, a misspelt one is not."""
    monkeypatch.setattr(command, "dagster_instance", lambda _: nullcontext(minutes.instance))
    misspelt = minutes.with_settings(symbols=("BTCUSDT", "ETHUSDT", "XRPUSD"))

    class Changing(Reported):
        def finish(self) -> None:
            minutes.exchange.faults()

    minutes.exchange.faults(symbols={"ETHUSDT": {"cut_json": cut}})
    days = (date(2026, 11, 19), date(2026, 11, 20))
    result = command.backfill(misspelt.settings, Interval.ONE_MINUTE, None, *days, Changing())
    assert len(result.runs) == 1 + cut
    assert any("XRPUSD is not on the exchange" in each for each in result.problems)
    assert minutes.stored("1m").height == 2 * 1440


class Reported:
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
