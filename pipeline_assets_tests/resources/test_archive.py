"""Downloads from the archive of a real replay exchange: exact, verified, and never an error."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from pipeline_assets.market.archive import ArchiveFile, archive_files
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.archive import downloads
from pipeline_assets.settings import BinanceSettings
from pipeline_assets_tests.fixtures.exchange import START, SYMBOLS, start_exchange
from pipeline_assets_tests.fixtures.redis import free_port
from pipeline_assets_tests.local.exchange.helpers import klines

DAY = date(2026, 11, 19)
TRADING = ["BTCUSDT", "ETHUSDT", "币安人生USDT", "1000PEPEUSDT", "雪球USDT"]


def settings(exchange, **changes):
    address = exchange.url.removesuffix("/fapi")
    return BinanceSettings.model_validate({"archive_url": address} | changes)


class Waits:
    """Waiting that takes no time and is written down."""

    def __init__(self):
        self.seconds = []

    async def __call__(self, seconds):
        self.seconds.append(seconds)
        await asyncio.sleep(0)


def fetch(exchange, files, waits=None, **changes):
    found = list(downloads(settings(exchange, **changes), files, waits or Waits()))
    assert len({each.file for each in found}) == len(found)
    return {each.file: each for each in found}


def days(count, symbols=("BTCUSDT",), interval=Interval.ONE_HOUR):
    return [
        ArchiveFile(symbol, interval, DAY - timedelta(days=number))
        for symbol in symbols
        for number in range(count)
    ]


def served(exchange, file):
    """Return the candles that the exchange serves of a day, as fields of a raw frame."""
    midnight = datetime.combine(file.first, datetime.min.time(), tzinfo=UTC)
    start = int(midnight.timestamp() * 1000)
    rows = klines(
        exchange.url,
        symbol=file.symbol,
        interval=file.interval.value,
        startTime=start,
        endTime=start + 86_399_999,
        limit=1500,
    )
    return [(file.symbol, *row) for row in rows]


def assert_true(exchange, found):
    assert found
    for file, each in found.items():
        assert each.problem is None
        assert each.rows.rows() == served(exchange, file)


def asked(exchange):
    return sum(exchange.state()["requests"].get("/data/futures/um", {}).values())


def test_files_match_the_exchange(exchange):
    """Each archive file holds the candles that the exchange serves."""
    found = fetch(exchange, days(1, TRADING, Interval.ONE_MINUTE))
    assert_true(exchange, found)
    assert asked(exchange) == 2 * len(TRADING)


def test_reads_headerless_microsecond_files():
    """Files without a header and with times in microseconds give the same rows."""
    options = {"archive-header": "never", "archive-times": "us"}
    with start_exchange(symbols=SYMBOLS, clock=f"stepped:{START}", **options) as own:
        assert_true(own, fetch(own, days(2, ["币安人生USDT"])))


def test_missing_day_is_an_answer(exchange):
    """A missing day is a valid answer, not an error."""
    listed_later = ArchiveFile("雪球USDT", Interval.ONE_HOUR, date(2026, 9, 1))
    still_open = ArchiveFile("BTCUSDT", Interval.ONE_HOUR, date(2026, 11, 20))
    waits = Waits()
    found = fetch(exchange, [listed_later, still_open, *days(1)], waits)
    for file in (listed_later, still_open):
        assert (found[file].rows, found[file].problem) == (None, None)
    assert found[days(1)[0]].rows.height == 24
    assert waits.seconds == []


def test_month_is_completed_by_days(exchange):
    """A month is one file; days that are missing from it come from daily files."""
    month = [date(2026, 10, 1) + timedelta(days=number) for number in range(31)]
    [file] = archive_files("BTCUSDT", Interval.ONE_HOUR, month)
    found = fetch(exchange, [file])
    assert found[file].rows.height == 31 * 24
    assert asked(exchange) == 2

    # With this seed the month is missing, and some of its days.
    exchange.faults(archive_missing=0.5, seed=2)
    by_day = fetch(exchange, [file])
    assert by_day.pop(file).split
    there = {each for each, result in by_day.items() if result.rows is not None}
    assert sorted(each.first for each in by_day) == month
    assert 0 < len(there) < 31
    rows = pl.concat(by_day[each].rows for each in sorted(there))
    whole = found[file].rows
    kept = pl.from_epoch("open_time", "ms").dt.date().is_in([each.first for each in there])
    assert rows.rows() == whole.filter(kept).rows()


@pytest.mark.parametrize("fault", ["archive_corrupt", "archive_checksum"])
def test_damaged_file_is_retried_then_reported(exchange, fault):
    """A damaged file is requested once more and then reported."""
    exchange.faults(**{fault: 1})
    [file] = days(1)
    each = fetch(exchange, [file])[file]
    assert each.rows is None
    assert each.problem.startswith("BTCUSDT-1h-2026-11-19.zip has the SHA-256 ")
    assert asked(exchange) == 4


@pytest.mark.parametrize("fault", ["archive_corrupt", "archive_checksum"])
def test_retry_heals_damaged_transfer(exchange, fault):
    """A damaged transfer is healed by a repeated request."""
    exchange.faults(**{fault: 0.5, "seed": 3})
    found = fetch(exchange, days(20))
    exchange_struck = exchange.state()["faults_struck"][fault]
    healed = {file: each for file, each in found.items() if each.rows is not None}
    assert exchange_struck > 20 - len(healed)
    exchange.faults()
    assert_true(exchange, healed)


@pytest.mark.parametrize("fault", ["http_500", "http_503", "html_502", "reset", "truncated"])
def test_passing_trouble_is_repeated(exchange, fault):
    exchange.faults(**{fault: 0.2, "seed": 5})
    waits = Waits()
    found = fetch(exchange, days(12), waits)
    assert exchange.state()["faults_struck"][fault] > 0
    assert waits.seconds
    exchange.faults()
    assert_true(exchange, {file: each for file, each in found.items() if each.rows is not None})
    assert len([each for each in found.values() if each.rows is None]) <= 2


def test_hanging_file_times_out(exchange):
    """A download that hangs is given up after the timeout."""
    exchange.faults(symbols={"ETHUSDT": {"hang": 1}}, hang_seconds=600)
    found = fetch(exchange, days(1, ["BTCUSDT", "ETHUSDT"]), timeout_seconds=0.2)
    reported = {file.symbol: each.problem for file, each in found.items()}
    assert reported["BTCUSDT"] is None
    assert reported["ETHUSDT"].startswith("ETHUSDT-1h-2026-11-19.zip could not be had: ")


def test_unreachable_archive_is_not_asked_repeatedly():
    """An unreachable archive is not asked for every file again."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    waits = Waits()
    found = list(downloads(BinanceSettings(archive_url=nowhere), days(60, TRADING), waits))
    assert len(found) == 300
    assert all(each.rows is None and "could not be had" in each.problem for each in found)
    assert any(f"{nowhere} does not answer" in each.problem for each in found)
    assert len(waits.seconds) < 60


def test_dying_archive_ends_nothing():
    """An archive that dies during a fetch does not end the fetch."""
    with start_exchange(symbols=SYMBOLS, clock=f"stepped:{START}") as own:
        results = downloads(settings(own), days(60, TRADING), Waits())
        first = next(results)
        own.process.kill()
        own.process.wait()
        rest = list(results)
    assert first.rows.height == 24
    assert len(rest) == 299
    assert rest[-1].rows is None


def test_who_stops_taking_leaves_nothing_behind(exchange):
    before = set(threading.enumerate())
    results = downloads(settings(exchange), days(60, TRADING), Waits())
    next(results)
    results.close()
    assert set(threading.enumerate()) <= before
    # At most this many files were being fetched or waited for the caller.
    assert asked(exchange) <= 2 * 2 * 16


def test_nothing_to_download_yields_nothing(exchange):
    assert list(downloads(settings(exchange), [])) == []
    assert asked(exchange) == 0
