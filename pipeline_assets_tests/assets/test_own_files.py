"""Candles from a person's own Parquet files, through the exchange and the product to the lake,
the slots and the tables, compared with the files as Polars reads them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.market.intervals import Interval
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle, start_exchange
from pipeline_assets_tests.fixtures.platform import MINUTES, Platform
from pipeline_assets_tests.market_data import candle_file, market_data

VOLUMES = ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
COLUMNS = (
    *("symbol", "open_time", "open", "high", "low", "close"),
    *(*VOLUMES, "trades", "close_time"),
)
RENAMED = {"taker_buy_base": "taker_buy_volume", "taker_buy_quote": "taker_buy_quote_volume"}


@pytest.fixture(scope="module")
def files_exchange() -> Iterator[ExchangeHandle]:
    """An exchange over the files of candles."""
    with start_exchange(
        candles=market_data() / "klines", clock="stepped:2025-05-20T14:37:05Z"
    ) as handle:
        yield handle


@pytest.fixture
def own(platform: Platform, files_exchange: ExchangeHandle) -> Platform:
    address = files_exchange.url.removesuffix("/fapi")
    made = platform.with_settings(binance={"rest_url": address})
    made.exchange = files_exchange
    return made


def from_file(symbol: str, interval: str, start: datetime, end: datetime) -> pl.DataFrame:
    """A file's candles with start <= open time < end; columns that it does not have are 0."""
    frame = pl.read_parquet(candle_file(symbol, interval)).rename(RENAMED, strict=False)
    absent = [name for name in (*VOLUMES[1:], "trades") if name not in frame.columns]
    span = timedelta(minutes=MINUTES[interval])
    return (
        frame.with_columns(
            *(pl.lit(0.0).alias(name) for name in absent),
            pl.lit(symbol).alias("symbol"),
            pl.from_epoch("open_time", "ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        )
        .with_columns(
            pl.col("trades").cast(pl.Int64),
            (pl.col("open_time") + span - timedelta(milliseconds=1)).alias("close_time"),
        )
        .filter((pl.col("open_time") >= start) & (pl.col("open_time") < end))
        .select(COLUMNS)
    )


def aggregated(minutes: pl.DataFrame, interval: str, until: datetime) -> pl.DataFrame:
    """Whole buckets of minutes that have closed by `until`."""
    span = timedelta(minutes=MINUTES[interval])
    return (
        minutes.group_by_dynamic("open_time", every=interval, group_by="symbol")
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col(*VOLUMES, "trades").sum(),
            pl.col("close_time").last(),
        )
        .filter(pl.col("open_time") + span <= until)
        .select(COLUMNS)
        .sort("symbol", "open_time")
    )


def assert_stored_and_loaded(
    platform: Platform, interval: str, expected: pl.DataFrame, *, exact: bool
) -> None:
    """Assert that the lake and the interval's table hold the expected candles.

    The exchange adds exactly. A sum of floats may differ from its result in the last bits.
    """
    held = [platform.stored(interval)]
    if interval != "1m":
        held.append(pl.DataFrame(platform.table(interval), expected.schema, orient="row"))
    for frame in held:
        assert_frame_equal(frame.drop(VOLUMES), expected.drop(VOLUMES))
        assert_frame_equal(
            frame.select(VOLUMES),
            expected.select(VOLUMES),
            check_exact=exact,
            rel_tol=1e-12,
            abs_tol=0,
        )


@pytest.mark.parametrize(
    ("symbols", "days", "clock"),
    [
        pytest.param(
            ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"],
            ("2025-05-18", "2025-05-20"),
            datetime(2025, 5, 20, 14, 37, 5, tzinfo=UTC),
            id="six columns",
        ),
        pytest.param(
            ["AVAXUSDT"],
            ("2026-07-02", "2026-07-03"),
            datetime(2026, 7, 3, 23, 1, 5, tzinfo=UTC),
            id="twelve columns",
        ),
        pytest.param(
            ["NEARUSDT"],
            ("2023-05-19", "2023-05-21"),
            datetime(2023, 5, 21, 22, 5, 5, tzinfo=UTC),
            id="twelve columns with minutes without a trade",
        ),
    ],
)
def test_own_minutes_and_aggregates_arrive_exactly(
    own: Platform,
    symbols: list[str],
    days: tuple[str, str],
    clock: datetime,
) -> None:
    """Minutes of own files and their aggregates are stored as in the files."""
    own.exchange.set_clock(clock)
    start = datetime.fromisoformat(f"{days[0]}T00:00:00+00:00")
    until = clock.replace(second=0)
    minutes = pl.concat(from_file(symbol, "1m", start, until) for symbol in symbols)
    assert minutes.height == len(symbols) * ((until - start) // timedelta(minutes=1))
    for interval in Interval:
        result = own.backfill(interval, *days, symbols=symbols)
        failed = [
            check.check_name
            for check in result.get_asset_check_evaluations()
            if not check.passed and check.partition is not None
        ]
        assert failed == []
        if interval == "1m":
            assert_stored_and_loaded(own, "1m", minutes, exact=True)
        else:
            expected = aggregated(minutes, interval, until)
            assert_stored_and_loaded(own, interval, expected, exact=False)
    for symbol in symbols:
        newest = minutes.filter(pl.col("symbol") == symbol).tail(15).drop("symbol")
        times = newest.with_columns(pl.col("open_time", "close_time").dt.epoch("ms"))
        slots = {row["open_time"] // 60_000 % 15: row for row in times.rows(named=True)}
        assert own.slots(symbol) == slots


def test_own_15m_and_1h_arrive_exactly(own: Platform) -> None:
    """15m and 1h candles of own files are stored as in the files."""
    symbols = ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    own.exchange.set_clock(datetime(2025, 4, 2, 9, 40, 5, tzinfo=UTC))
    start = datetime(2025, 3, 31, tzinfo=UTC)
    ends = {"15m": start + timedelta(days=2, hours=9.5), "1h": start + timedelta(days=2, hours=9)}
    for interval, end in ends.items():
        own.backfill(interval, "2025-03-31", "2025-04-02", symbols=symbols)
        expected = pl.concat(from_file(s, interval, start, end) for s in symbols)
        assert expected.height == 3 * ((end - start) // timedelta(minutes=MINUTES[interval]))
        assert_stored_and_loaded(own, interval, expected, exact=True)


def test_ingest_runs_over_minutes_of_a_file(own: Platform) -> None:
    """Run one ingest run a minute, from the last minutes of an hour into the next."""
    begin = datetime(2026, 7, 3, 10, 57, 5, tzinfo=UTC)
    for minute in range(6):
        own.exchange.set_clock(begin + timedelta(minutes=minute))
        own.ingest("1m", symbols=["AVAXUSDT"])
    until = begin.replace(second=0) + timedelta(minutes=5)
    day = datetime(2026, 7, 3, tzinfo=UTC)
    expected = from_file("AVAXUSDT", "1m", day, until)
    assert expected.height == 11 * 60 + 2
    assert_stored_and_loaded(own, "1m", expected, exact=True)
    assert len(own.slots("AVAXUSDT")) == 15
