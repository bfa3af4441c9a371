"""Replaying Parquet files: the exchange serves what they hold, no more and no less."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from pipeline_assets.local.exchange.market import Market
from pipeline_assets.local.exchange.parquet import ParquetCandles
from pipeline_assets_tests.fixtures.exchange import start_exchange
from pipeline_assets_tests.local.exchange.helpers import get, klines
from pipeline_assets_tests.market_data import candle_file, market_data

MINUTE = 60_000
DAY = 1440 * MINUTE
PRICES = ["open", "high", "low", "close", "volume"]
MORE = ["quote_volume", "trades", "taker_buy_base", "taker_buy_quote"]
START = datetime(2026, 3, 1, tzinfo=UTC)
START_MS = round(START.timestamp() * 1000)


def write(directory, name, minutes, **columns):
    """A small file of minutes with the price 1.5 and the given columns over it."""
    times = [START + timedelta(minutes=minute) for minute in minutes]
    constant = {name: [1.5] * len(times) for name in PRICES}
    directory.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"open_time": times, **constant, **columns}).write_parquet(directory / name)


def all_rows(url, symbol, interval, start):
    """Everything from `start` on, page by page."""
    rows = []
    while page := klines(url, symbol=symbol, interval=interval, startTime=start, limit=1500):
        rows += page
        start = page[-1][0] + 1
    return rows


def test_files_come_back_exactly():
    files = sorted((market_data() / "klines").rglob("*.parquet"))
    with start_exchange(
        candles=market_data() / "klines", clock="stepped:2026-10-01", weight_limit=0
    ) as exchange:
        for file in files:
            symbol, interval = file.name.split("-")[:2]
            frame = pl.read_parquet(file)
            first, last = frame["open_time"].min(), frame["open_time"].max()
            rows = [
                row for row in all_rows(exchange.url, symbol, interval, first) if row[0] <= last
            ]
            assert [row[0] for row in rows] == frame["open_time"].to_list()
            for place, name in enumerate(PRICES, start=1):
                assert [float(row[place]) for row in rows] == frame[name].to_list()
            if "trades" in frame.columns:
                for place, name in zip((7, 8, 9, 10), MORE, strict=True):
                    assert [float(row[place]) for row in rows] == frame[name].to_list()
            else:
                assert {(float(row[7]), row[8], float(row[9])) for row in rows} == {(0.0, 0, 0.0)}


def test_missing_intervals_are_aggregated_exactly():
    """Intervals without files are aggregated exactly."""
    frame = pl.read_parquet(candle_file("AVAXUSDT", "1m"))
    start = frame["open_time"][0]
    market = Market(ParquetCandles(market_data() / "klines" / "twelve_columns"))
    rows = market.rows("AVAXUSDT", "15m", start, start + 7 * DAY)
    assert len(rows) == 7 * 96
    for number, row in enumerate(rows):
        part = frame.slice(number * 15, 15)
        assert row[0] == part["open_time"][0]
        assert [float(value) for value in row[1:5]] == [
            *(part["open"][0], part["high"].max(), part["low"].min(), part["close"][-1])
        ]
        for place, name in ((5, "volume"), (7, "quote_volume"), (10, "taker_buy_quote")):
            assert Decimal(row[place]) == sum(Decimal(str(value)) for value in part[name])
        assert row[8] == part["trades"].sum()


def test_absent_columns_are_named():
    with start_exchange(candles=market_data() / "klines", clock="stepped:2026-10-01") as exchange:
        reported = exchange.state()["candles"]
    absent = reported["columns_served_as_0"][candle_file("BTCUSDT", "1m").name]
    assert absent == ["quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume"]
    assert not any(name.startswith("AVAX") for name in reported["columns_served_as_0"])
    assert "1h" in reported["aggregated_from_1m"]["AVAXUSDT"]
    assert "1h" not in reported["aggregated_from_1m"]["BTCUSDT"]


def test_holes_stay_and_listing_is_first(tmp_path):
    """Holes stay holes, and the listing is the first candle."""
    write(tmp_path / "deep" / "er", "龙虾USDT-1m-mine.parquet", [5, 6, 7, 30, 31, 100])
    with start_exchange(candles=tmp_path, clock="stepped:2026-03-01T02:00") as exchange:
        rows = klines(exchange.url, symbol="龙虾USDT", interval="1m", startTime=0)
        quarters = klines(exchange.url, symbol="龙虾USDT", interval="15m", startTime=0)
        info = get(exchange.url, "exchangeInfo").document
    assert [(row[0] - START_MS) // MINUTE for row in rows] == [5, 6, 7, 30, 31, 100]
    assert [(row[0] - START_MS) // MINUTE for row in quarters] == [0, 30, 90]
    assert [row[5] for row in quarters] == ["4.5", "3.0", "1.5"]
    (contract,) = info["symbols"]
    assert (contract["symbol"], contract["onboardDate"]) == ("龙虾USDT", START_MS + 5 * MINUTE)


def test_open_candle_is_cut_at_clock(tmp_path):
    """The open candle of a file is cut at the clock."""
    write(tmp_path, "AUSDT-1m-mine.parquet", range(60), volume=[10.0] * 60)
    with start_exchange(candles=tmp_path, clock="stepped:2026-03-01T00:20:30") as exchange:
        minute = klines(exchange.url, symbol="AUSDT", interval="1m", limit=2)
        quarter = klines(exchange.url, symbol="AUSDT", interval="15m", limit=2)
    assert [float(row[5]) for row in minute] == [10, 5]
    assert [float(row[5]) for row in quarter] == [150, 55]


def test_uncovered_days_are_aggregated(tmp_path):
    """Days outside an interval's own files are aggregated from minutes."""
    write(tmp_path, "AUSDT-1m-mine.parquet", range(2 * 1440), volume=[1.0] * 2 * 1440)
    write(tmp_path, "AUSDT-1h-mine.parquet", [0, 60], volume=[7.25, 8.0])
    rows = Market(ParquetCandles(tmp_path)).rows("AUSDT", "1h", START_MS, START_MS + 2 * DAY)
    assert [(row[0] - START_MS) // MINUTE // 60 for row in rows] == [0, 1, *range(24, 48)]
    assert [Decimal(row[5]) for row in rows] == [Decimal("7.25"), 8, *[60] * 24]


def test_last_overlapping_file_wins(tmp_path):
    """Overlapping files give one row for an open time, and the last file wins."""
    write(tmp_path, "AUSDT-1m-a.parquet", [0, 1, 2], volume=[1.0, 1.0, 1.0])
    write(tmp_path, "AUSDT-1m-b.parquet", [2, 1], volume=[2.0, 2.0])
    rows = Market(ParquetCandles(tmp_path)).rows("AUSDT", "1m", START_MS, START_MS + DAY)
    assert [row[5] for row in rows] == ["1", "2", "2"]


def test_numbers_keep_their_shortest_decimals(tmp_path):
    values = [1e-07, 0.1 + 0.2, 123456789.125]
    write(tmp_path, "AUSDT-1m-a.parquet", [0, 1, 2], volume=values)
    market = Market(ParquetCandles(tmp_path))
    rows = market.rows("AUSDT", "1m", START_MS, START_MS + DAY)
    assert [Decimal(row[5]) for row in rows] == [Decimal(str(value)) for value in values]
    (hour,) = market.rows("AUSDT", "1h", START_MS, START_MS + DAY)
    assert Decimal(hour[5]) == sum(Decimal(str(value)) for value in values)


def test_unservable_files_are_named(tmp_path):
    """Files that cannot be served are named."""
    write(tmp_path, "AUSDT-1m-a.parquet", [0])
    write(tmp_path, "notes.parquet", [0])
    pl.DataFrame({"open_time": [START], "open": [1.0]}).write_parquet(tmp_path / "B-1m-x.parquet")
    source = ParquetCandles(tmp_path)
    assert list(source.contracts) == ["AUSDT"]
    assert source.skipped["B-1m-x.parquet"] == "the columns high, low, close are absent"
    assert "notes.parquet" in source.skipped


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_unservable_number_names_its_file(tmp_path, value):
    """A number that no reply can carry is refused with its file."""
    write(tmp_path, "AUSDT-1m-a.parquet", [0, 1], volume=[1.0, value])
    with pytest.raises(ValueError, match=r"AUSDT-1m-a\.parquet.*remove those rows"):
        ParquetCandles(tmp_path)


def test_a_directory_without_candles_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"No candle files below .*BTCUSDT-1m"):
        ParquetCandles(tmp_path)
