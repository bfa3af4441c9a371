"""A backfill with the archive: the stored candles equal the exchange's, whatever the archive holds."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.collection.archive_source import uses_archive
from pipeline_assets.collection.fetch import NothingFetchedError
from pipeline_assets.collection.fetch_plan import FetchPlan, RunKind
from pipeline_assets.market.archive_comparison import NOT_SERVED
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.day_findings import read_disagreements
from pipeline_assets.resources.finalized_days import finalized_symbols
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import BinanceSettings
from pipeline_assets_tests.fixtures.exchange import start_exchange
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform
from pipeline_assets_tests.fixtures.redis import free_port

TODAY = datetime(2026, 11, 20, tzinfo=UTC)
FIRST, LAST = "2026-11-17", "2026-11-19"
DAYS = [date(2026, 11, day) for day in (17, 18, 19)]
START = datetime(2026, 11, 17, tzinfo=UTC)
MINUTE = Interval.ONE_MINUTE


@pytest.fixture
def with_archive(minutes: Platform) -> Platform:
    return minutes.with_settings(binance={"archive": True})


def truth(platform, start=START, end=TODAY, symbols=SYMBOLS, interval="1m"):
    platform.exchange.faults()
    return pl.concat(platform.truth(interval, symbol, start, end) for symbol in sorted(symbols))


def fetched(result, interval="1m"):
    """The metadata of the fetch."""
    event = result.asset_materializations_for_node(f"raw_candles_{interval}")[0]
    return {name: held.value for name, held in event.metadata.items()}


def records(platform, interval=MINUTE):
    store = ObjectStore(platform.settings.s3)
    found = {day: read_disagreements(store, interval, day) for day in DAYS}
    return {day: held for day, held in found.items() if held}


def recorded(platform, symbol):
    """A symbol's records: day, kind, candles."""
    return [
        (day, each["kind"], each["count"])
        for day, held in records(platform).items()
        for each in held.get(symbol, [])
    ]


def archive_asked(platform):
    return sum(platform.exchange.state()["requests"].get("/data/futures/um", {}).values())


def test_archive_serves_finished_days_cheaply(with_archive) -> None:
    """Finished days come from the archive, and cost only the check against the hours."""
    result = with_archive.backfill("1m", FIRST, LAST)
    reported = fetched(result)
    assert reported["rows from the archive"] == reported["rows"] == 3 * 3 * 1440
    # Three days of hours are 72 rows: one request of weight 1 a symbol, beside time, universe, and the
    # first candle of each.
    assert reported["weight spent"] == 2 * len(SYMBOLS) + 2
    assert archive_asked(with_archive) == 2 * 9
    assert_frame_equal(with_archive.stored("1m"), truth(with_archive))
    assert records(with_archive) == {}


def test_exchange_wins_over_the_archive(with_archive) -> None:
    """If the archive disagrees with the exchange, the exchange's candles are stored."""
    faults = dict(
        zip(SYMBOLS, ("archive_holes", "archive_zero_volume", "archive_partial"), strict=True)
    )
    with_archive.exchange.faults(symbols={symbol: {each: 1} for symbol, each in faults.items()})
    reported = fetched(with_archive.backfill("1m", FIRST, LAST))
    assert (reported["rows from the archive"], reported["rows"]) == (0, 3 * 3 * 1440)
    assert_frame_equal(with_archive.stored("1m"), truth(with_archive))
    for symbol, kind, count in zip(
        SYMBOLS, ("hole", "false zero volume", "different"), (30, 74, 1), strict=True
    ):
        assert recorded(with_archive, symbol) == [(day, kind, count) for day in DAYS]
    assert finalized_symbols(ObjectStore(with_archive.settings.s3), MINUTE, DAYS[0]) == set(SYMBOLS)


def test_faulty_files_fall_back_to_exchange(with_archive) -> None:
    """Instead of damaged or missing files, the exchange's candles are stored."""
    faults = dict(
        zip(SYMBOLS, ("archive_corrupt", "archive_checksum", "archive_missing"), strict=True)
    )
    with_archive.exchange.faults(symbols={symbol: {each: 1} for symbol, each in faults.items()})
    reported = fetched(with_archive.backfill("1m", FIRST, LAST))
    assert (reported["rows from the archive"], reported["symbol-days not in the archive"]) == (0, 3)
    assert_frame_equal(with_archive.stored("1m"), truth(with_archive))
    for symbol in SYMBOLS[:2]:
        assert recorded(with_archive, symbol) == [(day, "file refused", 1440) for day in DAYS]
    assert recorded(with_archive, SYMBOLS[2]) == []


def test_malformed_files_are_named(with_archive) -> None:
    """Malformed files are named, and the exchange's candles are stored instead.

    The first row of each file is blank, short or too long, and the checksum is that of the file.
    """
    with_archive.exchange.faults(archive_malformed=1)
    reported = fetched(with_archive.backfill("1m", FIRST, LAST))
    assert (reported["rows from the archive"], reported["rows"]) == (0, 3 * 3 * 1440)
    files = {row.data["file"]: row.data["why"] for row in reported["archive files refused"].records}
    assert sorted(files) == [f"{symbol}-1m-{day}.zip" for symbol in sorted(SYMBOLS) for day in DAYS]
    assert all(why.startswith(f"{file} ") for file, why in files.items())
    assert_frame_equal(with_archive.stored("1m"), truth(with_archive))
    for symbol in SYMBOLS:
        assert recorded(with_archive, symbol) == [(day, "file refused", 1440) for day in DAYS]


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.matrix)])
def test_faults_change_only_the_source(with_archive, seed) -> None:
    """All faults together change only the source of the rows."""
    shares = ("missing", "holes", "zero_volume", "partial", "malformed", "corrupt", "checksum")
    with_archive.exchange.faults(
        **{f"archive_{name}": 0.15 for name in shares},
        **dict.fromkeys(("http_500", "reset", "truncated", "duplicate_rows"), 0.02),
        seed=seed,
    )
    reported = fetched(with_archive.backfill("1m", FIRST, LAST))
    assert 0 < reported["rows from the archive"] < reported["rows"]
    assert_frame_equal(with_archive.stored("1m"), truth(with_archive))


def test_revised_archive_clears_disagreement(with_archive) -> None:
    """A disagreement is forgotten when the archive was revised."""
    with_archive.exchange.faults(symbols={"BTCUSDT": {"archive_holes": 1}})
    with_archive.backfill("1m", FIRST, LAST)
    assert {symbol for held in records(with_archive).values() for symbol in held} == {"BTCUSDT"}
    with_archive.exchange.faults(symbols={"ETHUSDT": {"archive_partial": 1}})
    with_archive.backfill("1m", LAST, symbols=["BTCUSDT", "ETHUSDT"], refresh=True)
    assert [list(held) for held in records(with_archive).values()] == [
        ["BTCUSDT"],
        ["BTCUSDT"],
        ["ETHUSDT"],
    ]


def test_common_outage_is_no_disagreement(with_archive) -> None:
    """An outage that is in the exchange and in the archive is no disagreement."""
    with_archive.exchange.outages("2026-11-18T10:10/2026-11-18T12:40")
    reported = fetched(with_archive.backfill("1m", FIRST, LAST))
    # The archive cannot say whether a candle is missing or was never there: the exchange is asked.
    assert reported["rows from the archive"] == 2 * 3 * 1440
    assert_frame_equal(with_archive.stored("1m"), truth(with_archive))
    assert records(with_archive) == {}


def test_archive_only_day_is_not_stored(with_archive) -> None:
    """A day that only the archive has is recorded and not stored.

    The archive belongs to an exchange that had no outage.
    """
    with start_exchange(symbols=",".join(SYMBOLS), clock="stepped:2026-11-20T12:00:00Z") as other:
        with_archive.exchange.outages("2026-11-18T00:00/2026-11-19T00:00/ETHUSDT")
        archive_url = other.url.removesuffix("/fapi")
        reading = with_archive.with_settings(binance={"archive": True, "archive_url": archive_url})
        reading.backfill("1m", FIRST, LAST)
    assert_frame_equal(reading.stored("1m"), truth(reading))
    assert recorded(reading, "ETHUSDT") == [(DAYS[1], NOT_SERVED, 1440)]
    assert recorded(reading, "BTCUSDT") == []


def test_partial_days_come_from_their_source(with_archive) -> None:
    """The open day comes from the exchange, the traded part of a listing day from the archive."""
    symbols = ["BTCUSDT", "雪球USDT"]
    with_archive.exchange.set_clock(datetime(2026, 9, 17, 7, 30, 10, tzinfo=UTC))
    reported = fetched(with_archive.backfill("1m", "2026-09-15", "2026-09-17", symbols=symbols))
    assert reported["rows from the archive"] == 2 * 1440 + 13 * 60 + 30
    start = datetime(2026, 9, 15, tzinfo=UTC)
    expected = truth(with_archive, start, TODAY, symbols)
    assert expected["open_time"].max() == datetime(2026, 9, 17, 7, 29, tzinfo=UTC)
    assert_frame_equal(with_archive.stored("1m"), expected)


@pytest.mark.matrix
def test_delivered_symbol_comes_until_delivery(with_archive) -> None:
    """A delivered symbol is fetched up to its delivery."""
    reported = fetched(
        with_archive.backfill("1m", "2024-07-07", "2024-07-09", symbols=["AGIXUSDT"])
    )
    assert reported["rows from the archive"] == 1440 + 9 * 60
    start = datetime(2024, 7, 7, tzinfo=UTC)
    assert_frame_equal(with_archive.stored("1m"), truth(with_archive, start, TODAY, ["AGIXUSDT"]))


def test_whole_months_come_as_one_file(with_archive) -> None:
    symbols = ["ETHUSDT"]
    reported = fetched(with_archive.backfill("1m", "2026-09-30", "2026-10-31", symbols=symbols))
    assert reported["rows from the archive"] == 32 * 1440
    assert archive_asked(with_archive) == 4
    start, end = datetime(2026, 9, 30, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    assert_frame_equal(with_archive.stored("1m"), truth(with_archive, start, end, symbols))


def test_symbol_is_not_half_stored(with_archive) -> None:
    """If the exchange fails for a symbol, no part of the symbol's day is stored."""
    with_archive.exchange.faults(symbols={"ETHUSDT": {"cut_json": 1}})
    result = with_archive.backfill("1m", FIRST, LAST)
    assert fetched(result)["failed symbols"] == 1
    [row] = fetched(result)["failures"].records
    assert str(row.data["reason"]).startswith(
        "ETHUSDT 1m candles: the archive's cannot be checked without the exchange's 1h candles. "
    )
    others = [symbol for symbol in SYMBOLS if symbol != "ETHUSDT"]
    assert_frame_equal(with_archive.stored("1m"), truth(with_archive, symbols=others))
    assert finalized_symbols(ObjectStore(with_archive.settings.s3), MINUTE, DAYS[0]) == set(others)


def test_silent_exchange_leaves_nothing(
    with_archive,
) -> None:
    """If the exchange fails, nothing is stored, and a repetition stores all."""
    with_archive.exchange.faults(cut_json=1, symbols={"": {"cut_json": 0}})
    with pytest.raises(NothingFetchedError):
        with_archive.backfill("1m", FIRST, LAST)
    assert with_archive.objects("ohlcv/") == {}
    assert records(with_archive) == {}
    with_archive.exchange.faults()
    with_archive.backfill("1m", FIRST, LAST)
    assert_frame_equal(with_archive.stored("1m"), truth(with_archive))


def test_exchange_serves_all_without_archive(with_archive) -> None:
    """Without an archive all candles come from the exchange."""
    nowhere = with_archive.with_settings(binance={"archive_url": f"http://127.0.0.1:{free_port()}"})
    reported = fetched(nowhere.backfill("1m", FIRST, LAST))
    assert reported["rows from the archive"] == 0
    assert_frame_equal(nowhere.stored("1m"), truth(nowhere))


@pytest.mark.parametrize(
    ("interval", "kind", "day", "asked"),
    [
        ("1m", RunKind.BACKFILL, DAYS[-1], True),
        ("15m", RunKind.BACKFILL, DAYS[-1], True),
        ("1h", RunKind.BACKFILL, DAYS[-1], False),
        ("1m", RunKind.BACKFILL, TODAY.date(), False),
        ("1m", RunKind.FINALIZE, DAYS[-1], False),
        ("1m", RunKind.INGEST, TODAY.date(), False),
    ],
)
def test_only_backfills_use_the_archive(interval, kind, day, asked) -> None:
    """Only finished days of backfills are looked for in the archive."""
    newest = TODAY + timedelta(hours=11)
    plan = FetchPlan(Interval(interval), kind, [day], newest, timedelta(0), {}, {})
    assert uses_archive(plan, BinanceSettings(archive=True)) is asked
    assert not uses_archive(plan, BinanceSettings(archive=False))


@pytest.mark.matrix
def test_archive_serves_15m(platform: Platform) -> None:
    """Candles of 15m come from the archive too."""
    made = platform.with_settings(binance={"archive": True})
    made.exchange.faults(symbols={"BTCUSDT": {"archive_zero_volume": 1}})
    reported = fetched(made.backfill("15m", FIRST, LAST), "15m")
    assert (reported["rows from the archive"], reported["rows"]) == (2 * 3 * 96, 3 * 3 * 96)
    assert_frame_equal(made.stored("15m"), truth(made, interval="15m"))
    found = records(made, Interval.FIFTEEN_MINUTES)
    assert [list(held) for held in found.values()] == [["BTCUSDT"]] * 3
    assert len(made.table("15m")) == 3 * 3 * 96
