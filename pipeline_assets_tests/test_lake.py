"""The reader: the rows asked for and no others, from just the objects that can hold them."""

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline_assets import lake
from pipeline_assets.market.funding import funding_rates, funding_schema
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.candle_objects import finalize_day, list_objects, write_candles
from pipeline_assets.resources.funding_objects import funding_key, write_month
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import DamagedObjectError, ObjectStoreError
from pipeline_assets_tests.fixtures.damage import (
    day_of_candles,
    encoded_day,
    flip_bit,
    object_at,
    store_damaged,
)
from pipeline_assets_tests.fixtures.s3 import S3Bucket

DAY = datetime(2026, 11, 19, tzinfo=UTC)
NEXT = DAY + timedelta(days=1)
MINUTES = {"1m": 1, "15m": 15, "1h": 60}
CHINESE = "币安人生USDT"


def candles(symbol: str, start: datetime, count: int, minutes: int = 1) -> pl.DataFrame:
    """Rows of a symbol with distinct values; every tenth has no volume."""
    times = [start + timedelta(minutes=minutes * i) for i in range(count)]
    price = [100.0 + i for i in range(count)]
    volume = [0.0 if i % 10 == 0 else i / 7 for i in range(count)]
    time = pl.Datetime("us", "UTC")
    return pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "open_time": pl.Series(times, dtype=time),
            "open": price,
            "high": [value + 2 for value in price],
            "low": [value - 2 for value in price],
            "close": [value + 1 for value in price],
            "volume": volume,
            "quote_volume": [value * 3 for value in volume],
            "taker_buy_volume": [value / 2 for value in volume],
            "taker_buy_quote_volume": [value * 1.5 for value in volume],
            "trades": [int(value * 7) for value in volume],
            "close_time": pl.Series(
                [at + timedelta(minutes=minutes, milliseconds=-1) for at in times], dtype=time
            ),
        }
    )


class Bucket:
    """A bucket filled by hand, read by the product."""

    def __init__(self, bucket: S3Bucket) -> None:
        self.bucket = bucket
        self.store = ObjectStore(bucket.settings())

    def put(self, key: str, frame: pl.DataFrame) -> None:
        body = io.BytesIO()
        frame.write_parquet(body)
        self.put_bytes(key, body.getvalue())

    def put_bytes(self, key: str, body: bytes) -> None:
        self.bucket.client.put_object(Bucket=self.bucket.name, Key=key, Body=body)

    def put_hours(self, symbol: str, frame: pl.DataFrame) -> None:
        for (start,), part in frame.group_by(pl.col("open_time").dt.truncate("1h")):
            self.put(f"ohlcv/1m/{symbol}/{start:%Y%m%d_%H%M}.parquet", part)

    def put_encoded_hours(self, symbol: str, frame: pl.DataFrame) -> None:
        for (start,), part in frame.group_by(pl.col("open_time").dt.truncate("1h")):
            window = Window(start, start + timedelta(hours=1))
            write_candles(self.store, Interval.ONE_MINUTE, window, part, None)

    def scan(self, interval: Any, symbols: Any, start: Any, end: Any, **options: Any):
        return lake.scan(interval, symbols, start, end, store=self.store, **options).collect()


@pytest.fixture
def bucket(s3_bucket: S3Bucket) -> Bucket:
    return Bucket(s3_bucket)


def test_rows_come_as_one_frame(bucket: Bucket) -> None:
    """Rows of finalized days and open hours come as one sorted frame."""
    whole = {}
    for symbol in ("ETHUSDT", CHINESE, "BTCUSDT"):
        finalized = candles(symbol, DAY, 1440)
        fresh = candles(symbol, DAY + timedelta(days=1), 150)
        bucket.put(f"ohlcv/1m/{symbol}/20261119_0000.parquet", finalized)
        bucket.put_hours(symbol, fresh)
        whole[symbol] = pl.concat([finalized, fresh])
    start, end = DAY + timedelta(hours=22, minutes=7), DAY + timedelta(hours=25, minutes=3)
    found = bucket.scan("1m", [CHINESE, "ETHUSDT", CHINESE, "NOSUCHUSDT"], start, end)
    expected = pl.concat([whole["ETHUSDT"], whole[CHINESE]]).filter(
        (pl.col("open_time") >= start) & (pl.col("open_time") < end)
    )
    assert found.height == 2 * (53 + 60 + 63)
    assert_frame_equal(found, expected)


def test_only_relevant_objects_are_opened(bucket: Bucket) -> None:
    """Only objects that can hold the rows are opened."""
    day = timedelta(days=1)
    for interval, minutes in MINUTES.items():
        bucket.put(
            f"ohlcv/{interval}/BTCUSDT/20261119_0000.parquet",
            candles("BTCUSDT", DAY, 1440 // minutes, minutes),
        )
        for stamp in ("20261118_0000", "20261118_2300", "20261120_0000", "20261120_0100"):
            bucket.put_bytes(f"ohlcv/{interval}/BTCUSDT/{stamp}.parquet", b"never opened")
        found = bucket.scan(interval, ["BTCUSDT"], DAY, DAY + day)
        assert found.height == 1440 // minutes
    bucket.put_bytes("ohlcv/1m/ETHUSDT/20261119_0000.parquet", b"another symbol")
    bucket.put_bytes("ohlcv/1m/BTCUSDT/README.txt", b"no candles")
    last = DAY + day - timedelta(minutes=1)
    assert bucket.scan("1m", ["BTCUSDT"], last, DAY + day)["open_time"].to_list() == [last]


def test_leftover_hours_repeat_no_rows(bucket: Bucket) -> None:
    """Hour objects left beside a finalized day do not repeat its rows."""
    finalized = candles("BTCUSDT", DAY, 1440)
    bucket.put("ohlcv/1m/BTCUSDT/20261119_0000.parquet", finalized)
    hour = finalized.slice(5 * 60, 60)
    # Partial candles, and candles with another open but as many trades.
    partial = hour.with_columns(pl.col("trades") // 2, pl.col("volume") / 2)
    bucket.put("ohlcv/1m/BTCUSDT/20261119_0500.parquet", partial)
    other = finalized.slice(6 * 60, 60).with_columns(pl.lit(1.0).alias("open"))
    bucket.put("ohlcv/1m/BTCUSDT/20261119_0600.parquet", other)
    assert_frame_equal(bucket.scan("1m", ["BTCUSDT"], DAY, DAY + timedelta(days=1)), finalized)


def test_tradeless_candles_are_optional(bucket: Bucket) -> None:
    """Candles without a trade are left out on request."""
    bucket.put("ohlcv/1m/BTCUSDT/20261119_0000.parquet", candles("BTCUSDT", DAY, 1440))
    span = ("1m", ["BTCUSDT"], DAY, DAY + timedelta(hours=1))
    assert bucket.scan(*span).height == 60
    traded = bucket.scan(*span, zero_volume=False)
    assert traded.height == 54
    assert traded["volume"].min() > 0


def test_lazy_and_collected_filters_agree(
    bucket: Bucket,
) -> None:
    """Filters and columns on the lazy frame give the same as on the collected one."""
    bucket.put("ohlcv/1m/BTCUSDT/20261119_0000.parquet", candles("BTCUSDT", DAY, 1440))
    bucket.put_hours("BTCUSDT", candles("BTCUSDT", DAY + timedelta(days=1), 90))
    lazy = lake.scan("1m", ["BTCUSDT"], DAY, DAY + timedelta(days=2), store=bucket.store)
    busy = (pl.col("volume") > 50, pl.col("trades") % 3 == 0)
    narrow = lazy.filter(*busy).select("open_time", "close")
    assert_frame_equal(narrow.collect(), lazy.collect().filter(*busy).select("open_time", "close"))


def test_a_frame_for_pandas(bucket: Bucket) -> None:
    frame = candles("BTCUSDT", DAY, 1440)
    bucket.put("ohlcv/1m/BTCUSDT/20261119_0000.parquet", frame)
    found = bucket.scan("1m", ["BTCUSDT"], DAY, DAY + timedelta(days=1)).to_pandas()
    assert list(found.columns) == frame.columns
    assert str(found["open_time"].dtype.tz) == "UTC"
    assert found["open_time"].iloc[0].to_pydatetime() == DAY
    assert found["close"].tolist() == frame["close"].to_list()


def test_empty_lake_gives_empty_columns(bucket: Bucket) -> None:
    """If nothing is stored, the frame has the same columns and no rows."""
    expected = candles("BTCUSDT", DAY, 1).clear()
    span = (DAY, DAY + timedelta(days=1))
    assert_frame_equal(bucket.scan("15m", ["BTCUSDT"], *span), expected)
    assert_frame_equal(bucket.scan("15m", [], *span), expected)
    bucket.put("ohlcv/15m/BTCUSDT/20261119_0000.parquet", candles("BTCUSDT", DAY, 4, 15))
    after = (DAY + timedelta(hours=2), DAY + timedelta(hours=3))
    assert_frame_equal(bucket.scan("15m", ["BTCUSDT"], *after), expected)


def test_other_time_zones_are_converted(bucket: Bucket) -> None:
    """Times of other time zones mean the same moments."""
    frame = candles("BTCUSDT", DAY, 1440)
    bucket.put("ohlcv/1m/BTCUSDT/20261119_0000.parquet", frame)
    tokyo = timezone(timedelta(hours=9))
    # It is the 20th in Tokyo already.
    start = DAY + timedelta(hours=20)
    end = start + timedelta(hours=1)
    found = bucket.scan("1m", ["BTCUSDT"], start.astimezone(tokyo), end.astimezone(tokyo))
    assert_frame_equal(found, frame.slice(1200, 60))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"interval": "5m"}, ValueError, "'5m' is not an interval: use one of 1m, 15m, 1h"),
        ({"interval": None}, ValueError, "None is not an interval"),
        ({"symbols": "BTCUSDT"}, TypeError, r"symbols must be a list such as \['BTCUSDT'\]"),
        ({"symbols": None}, TypeError, "symbols must be a list"),
        ({"symbols": [b"BTCUSDT"]}, TypeError, "symbols must be a list of texts"),
        ({"symbols": ["btcusdt"]}, ValueError, "'btcusdt' is not a symbol: symbols are upper case"),
        ({"symbols": ["BTCUSDT\n"]}, ValueError, "is not a symbol"),
        ({"symbols": [""]}, ValueError, "'' is not a symbol"),
        ({"start": DAY.date()}, TypeError, "start must be a datetime"),
        ({"end": "2026-11-20"}, TypeError, "end must be a datetime"),
        ({"start": DAY.replace(tzinfo=None)}, ValueError, "start must be an aware datetime"),
        ({"end": NEXT.replace(tzinfo=None)}, ValueError, "end must be an aware datetime"),
        ({"end": DAY}, ValueError, "end must be after start"),
        ({"end": DAY - timedelta(days=1)}, ValueError, "end must be after start"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(
    bucket: Bucket, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Arguments that cannot be meant are refused."""
    arguments = {"interval": "1m", "symbols": ["BTCUSDT"], "start": DAY, "end": NEXT} | change
    with pytest.raises(error, match=message):
        bucket.scan(**arguments)


@pytest.mark.parametrize("symbols", [("BTCUSDT",), {"BTCUSDT"}, pl.Series(["BTCUSDT"])], ids=str)
def test_symbols_may_come_in_any_collection(bucket: Bucket, symbols: Any) -> None:
    bucket.put("ohlcv/1m/BTCUSDT/20261119_0000.parquet", candles("BTCUSDT", DAY, 1440))
    assert bucket.scan("1m", symbols, DAY, NEXT).height == 1440


@pytest.mark.parametrize("hours", [-12, 0, 12])
def test_extreme_datetimes_mean_everything(bucket: Bucket, hours: int) -> None:
    """The earliest and the latest datetime mean everything."""
    frame = candles("BTCUSDT", DAY, 1440)
    bucket.put("ohlcv/1m/BTCUSDT/20261119_0000.parquet", frame)
    zone = timezone(timedelta(hours=hours))
    first, last = datetime.min.replace(tzinfo=zone), datetime.max.replace(tzinfo=zone)
    assert_frame_equal(bucket.scan("1m", ["BTCUSDT"], first, last), frame)


def finalize(bucket: Bucket, day: pl.DataFrame) -> None:
    """Finalize the day, which removes its hour objects."""
    stored = list_objects(bucket.store, Interval.ONE_MINUTE, "BTCUSDT", DAY, NEXT)
    finalize_day(bucket.store, Interval.ONE_MINUTE, DAY.date(), day, stored)
    assert len(list(bucket.store.objects("ohlcv/1m/BTCUSDT/"))) == 1


def test_lazy_frame_survives_finalizing(bucket: Bucket) -> None:
    """A lazy frame can still be read after its day is finalized."""
    day = candles("BTCUSDT", DAY, 1440)
    bucket.put_encoded_hours("BTCUSDT", day)
    lazy = lake.scan("1m", ["BTCUSDT"], DAY, NEXT, store=bucket.store)
    before = lazy.collect()
    finalize(bucket, day)
    assert_frame_equal(before, day)
    assert_frame_equal(lazy.collect(), day)


class FinalizedWhileRead(ObjectStore):
    """A store whose day is finalized by another process once its first object has been read."""

    def __init__(self, bucket: Bucket, day: pl.DataFrame) -> None:
        super().__init__(bucket.bucket.settings(concurrency=1))
        self.finalize: Callable[[], None] | None = lambda: finalize(bucket, day)

    def get(self, key: str) -> bytes | None:
        body = super().get(key)
        if self.finalize is not None:
            finalize, self.finalize = self.finalize, None
            finalize()
        return body


def test_finalizing_during_read_loses_nothing(bucket: Bucket) -> None:
    """A day that is finalized while it is read comes complete."""
    day = candles("BTCUSDT", DAY, 1440)
    bucket.put_encoded_hours("BTCUSDT", day)
    store = FinalizedWhileRead(bucket, day)
    found = lake.scan("1m", ["BTCUSDT"], DAY, NEXT, store=store).collect()
    assert store.finalize is None
    assert_frame_equal(found, day)


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_damaged_object_is_named_at_collect(bucket: Bucket, engine: Any) -> None:
    """A damaged object is named when the frame is collected."""
    body = encoded_day()
    for day in ("20261118", "20261119"):
        key = f"ohlcv/1m/BTCUSDT/{day}_0000.parquet"
        bucket.store.put(key, object_at(key))
    store_damaged(
        bucket.bucket, "ohlcv/1m/BTCUSDT/20261119_0000.parquet", body, flip_bit(body, 40_000)
    )
    lazy = lake.scan("1m", ["BTCUSDT"], DAY, NEXT, store=bucket.store)
    with pytest.raises(DamagedObjectError, match=r"BTCUSDT/20261119_0000\.parquet is damaged"):
        lazy.collect(engine=engine)


def test_copied_object_is_named(bucket: Bucket) -> None:
    """An object copied over another symbol's is named."""
    key = "ohlcv/1m/ETHUSDT/20261119_0000.parquet"
    bucket.store.put(key, encoded_day())
    with pytest.raises(DamagedObjectError, match=f"{key} is damaged.*candles of BTCUSDT"):
        bucket.scan("1m", ["ETHUSDT"], DAY, NEXT)


def test_verify_false_reads_without_the_digest(bucket: Bucket) -> None:
    day = day_of_candles()
    store_damaged(bucket.bucket, "ohlcv/1m/BTCUSDT/20261119_0000.parquet", b"others", encoded_day())
    assert_frame_equal(bucket.scan("1m", ["BTCUSDT"], DAY, NEXT, verify=False), day)
    with pytest.raises(DamagedObjectError):
        bucket.scan("1m", ["BTCUSDT"], DAY, NEXT)


@pytest.mark.parametrize("body", [b"", b"PAR1", b"<html>"], ids=str)
def test_object_without_candles_is_named(bucket: Bucket, body: bytes) -> None:
    """An object that holds no candles is named.

    Without a digest, as earlier versions wrote, decoding has to notice it.
    """
    bucket.put("ohlcv/1m/BTCUSDT/20261119_0000.parquet", candles("BTCUSDT", DAY, 1440))
    bucket.put_bytes("ohlcv/1m/ETHUSDT/20261119_0000.parquet", body)
    with pytest.raises(DamagedObjectError, match=r"ETHUSDT/20261119_0000\.parquet is damaged"):
        bucket.scan("1m", ["BTCUSDT", "ETHUSDT"], DAY, NEXT)


def test_counts_match_the_whole_frame(bucket: Bucket) -> None:
    """Counts and first rows are those of the whole frame."""
    symbols = ["BTCUSDT", "ETHUSDT"]
    for symbol in symbols:
        bucket.put(f"ohlcv/1m/{symbol}/20261119_0000.parquet", candles(symbol, DAY, 1440))
    lazy = lake.scan("1m", symbols, DAY, NEXT, store=bucket.store)
    whole = lazy.collect()
    assert lazy.select(pl.len()).collect().item() == 2880
    assert_frame_equal(lazy.head(1500).collect(), whole.head(1500))
    assert_frame_equal(lazy.tail(3).collect(), whole.tail(3))
    busy = pl.col("trades") > 700
    assert_frame_equal(lazy.filter(busy).head(3).collect(), whole.filter(busy).head(3))
    both = pl.collect_all([lazy.select("close"), lazy.select("open")])
    assert_frame_equal(both[0], whole.select("close"))


def test_an_absent_bucket_is_named(s3_bucket: S3Bucket) -> None:
    store = ObjectStore(s3_bucket.settings(bucket="no-such-bucket"))
    with pytest.raises(ObjectStoreError, match="There is no bucket 'no-such-bucket'"):
        lake.scan("1m", ["BTCUSDT"], DAY, DAY + timedelta(days=1), store=store)


def test_funding_rates_of_months_join(s3_bucket: S3Bucket) -> None:
    """Rates come from all months that the span touches, by symbol and time; strangers' keys do not count."""
    store = ObjectStore(s3_bucket.settings())
    hours = [datetime(2026, 10, 31, 16, tzinfo=UTC) + timedelta(hours=8 * n) for n in range(4)]
    for symbol in (CHINESE, "BTCUSDT"):
        for month in (hours[0].date().replace(day=1), hours[-1].date().replace(day=1)):
            rows = [
                (int(each.timestamp() * 1000), 0.0001, 5.0, None)
                for each in hours
                if each.month == month.month
            ]
            write_month(store, symbol, month, funding_rates(symbol, rows).rates)
    store.put("funding/BTCUSDT/209913.parquet", b"no month")
    rates = lake.funding(["BTCUSDT", CHINESE], hours[0], hours[3], store=store)
    assert rates.collect().select("symbol", "funding_time").rows() == [
        (symbol, each) for symbol in ("BTCUSDT", CHINESE) for each in hours[:3]
    ]
    everything = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    assert lake.funding([CHINESE], *everything, store=store).collect().height == 4
    assert lake.funding(["ETHUSDT"], *everything, store=store).collect().is_empty()
    assert lake.funding(["ETHUSDT"], *everything, store=store).collect_schema() == funding_schema()
    store.put(funding_key(CHINESE, hours[3].date().replace(day=1)), b"no Parquet")
    with pytest.raises(Exception, match=r"funding/币安人生USDT/202611.parquet is damaged"):
        lake.funding([CHINESE], *everything, store=store).collect()


@pytest.mark.parametrize(
    ("symbols", "end", "error"),
    [("BTCUSDT", NEXT, TypeError), (["a/b"], NEXT, ValueError), (["BTCUSDT"], DAY, ValueError)],
)
def test_funding_arguments_are_checked(symbols: Any, end: datetime, error: type) -> None:
    """Arguments that cannot be are refused before anything is read."""
    with pytest.raises(error):
        lake.funding(symbols, DAY, end)
