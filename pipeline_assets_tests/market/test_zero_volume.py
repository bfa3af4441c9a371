from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.market.zero_volume import false_zero_volume
from pipeline_assets_tests.market.frames import market_data

START = datetime(2026, 10, 25, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOURS = 3
MINUTES = 60 * HOURS
Volumes = dict[int, float]  # by minute since START


def candles(volumes: Volumes, symbol: str = "BTCUSDT") -> pl.DataFrame:
    rows = [(symbol, START + minute * MINUTE, volume) for minute, volume in volumes.items()]
    schema = {"symbol": pl.String, "open_time": pl.Datetime("us", "UTC"), "volume": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def summed(minutes: Volumes, size: int) -> Volumes:
    return {
        start: sum(minutes[start + offset] for offset in range(size))
        for start in range(0, MINUTES, size)
    }


def found(minutes: Volumes, quarters: Volumes, hours: Volumes) -> list[tuple[str, int, int, int]]:
    """The runs told of one symbol: interval, minute of the first and last open time, count."""
    frame = false_zero_volume(candles(minutes), candles(quarters), candles(hours))
    assert frame.filter(pl.col("symbol") != "BTCUSDT").is_empty()
    return [
        (interval, (first - START) // MINUTE, (last - START) // MINUTE, count)
        for _, interval, first, last, count, _ in frame.rows()
    ]


TRADED = dict.fromkeys(range(MINUTES), 2.0)
QUARTERS = dict.fromkeys(range(0, MINUTES, 15), 30.0)
IN_AN_HOUR = dict.fromkeys(range(0, MINUTES, 60), 120.0)


def test_frozen_minutes_are_told_with_what_contradicts_them() -> None:
    frozen = TRADED | dict.fromkeys(range(37, 111), 0.0)
    frame = false_zero_volume(candles(frozen), candles(QUARTERS), candles(IN_AN_HOUR))
    assert frame.rows() == [
        (
            *("BTCUSDT", "1m", START + 37 * MINUTE, START + 110 * MINUTE, 74),
            "the 15m candle of 2026-10-25 00:30 has volume 30.0, the 1m candles in it 14.0 together",
        )
    ]
    assert dict(frame.schema) == {
        "symbol": pl.String,
        "interval": pl.String,
        "first": pl.Datetime("us", "UTC"),
        "last": pl.Datetime("us", "UTC"),
        "count": pl.Int64,
        "why": pl.String,
    }


def test_an_hour_contradicts_minutes_where_there_are_no_quarters() -> None:
    assert found(TRADED | dict.fromkeys(range(60, 75), 0.0), {}, IN_AN_HOUR) == [("1m", 60, 74, 15)]


def test_a_run_shorter_than_fifteen_minutes_is_not_told() -> None:
    assert found(TRADED | dict.fromkeys(range(60, 74), 0.0), QUARTERS, IN_AN_HOUR) == []


def test_what_a_missing_minute_may_have_traded_contradicts_nothing() -> None:
    minutes = dict.fromkeys(range(MINUTES), 0.0)
    del minutes[20]
    hours = {0: 9.0, 60: 0.0, 120: 0.0}
    assert found(minutes, {15: 9.0}, hours) == []
    assert found(minutes | {20: 0.0}, {15: 9.0}, hours) == [("1m", 0, 59, 60)]


def test_a_frozen_quarter_and_hour_are_contradicted_by_their_minutes() -> None:
    told = found(TRADED, QUARTERS | {30: 0.0, 45: 0.0}, IN_AN_HOUR | {120: 0.0})
    assert told == [("15m", 30, 45, 2), ("1h", 120, 120, 1)]


def test_of_a_long_run_only_the_contradicted_part_is_told() -> None:
    quiet = dict.fromkeys(range(MINUTES), 0.0)
    quarters = dict.fromkeys(QUARTERS, 0.0) | {75: 4.0}
    told = found(quiet, quarters, {})
    assert told == [("1m", 75, 89, 15)]


def test_symbols_do_not_speak_for_each_other() -> None:
    quiet, active = dict.fromkeys(range(MINUTES), 0.0), candles(QUARTERS, "ETHUSDT")
    assert false_zero_volume(candles(quiet), active, candles({})).is_empty()


def test_real_minutes_look_true_until_some_are_frozen() -> None:
    """Real 1m candles, 14 of them quiet, with their own sums as 15m and 1h."""
    name = "klines/twelve_columns/NEARUSDT-1m-usdm-20230501_20230531.parquet"
    minutes = pl.read_parquet(market_data(name)).select(
        pl.lit("NEARUSDT").alias("symbol"),
        pl.from_epoch("open_time", "ms").cast(pl.Datetime("us", "UTC")),
        "volume",
    )
    quarters, hours = (
        minutes.group_by("symbol", pl.col("open_time").dt.truncate(size)).agg(
            pl.col("volume").sum()
        )
        for size in ("15m", "1h")
    )
    assert false_zero_volume(minutes, quarters, hours).is_empty()

    first, last = (
        datetime(2023, 5, 17, 9, 41, tzinfo=UTC),
        datetime(2023, 5, 17, 10, 54, tzinfo=UTC),
    )
    frozen = pl.col("open_time").is_between(first, last)
    altered = minutes.with_columns(volume=pl.when(frozen).then(0.0).otherwise("volume"))
    told = false_zero_volume(altered, quarters, hours)
    assert told.drop("why").rows() == [("NEARUSDT", "1m", first, last, 74)]


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from([0.0, 0.0, 1.5, 0.1])),
        min_size=1,
        max_size=12,
    ),
    st.permutations(range(MINUTES)),
)
def test_what_agrees_is_never_told(runs, order) -> None:
    volumes = [volume for length, volume in runs for _ in range(length)][:MINUTES]
    minutes = dict(enumerate(volumes + [1.0] * (MINUTES - len(volumes))))
    shuffled = {minute: minutes[minute] for minute in order}
    assert found(shuffled, summed(minutes, 15), summed(minutes, 60)) == []


@settings(max_examples=80)
@given(st.integers(0, MINUTES - 15), st.integers(15, MINUTES), st.sets(st.integers(0, MINUTES - 1)))
def test_a_frozen_run_is_told_but_where_its_bucket_is_not_whole(start, length, missing) -> None:
    frozen = range(start, min(start + length, MINUTES))
    minutes = TRADED | dict.fromkeys(frozen, 0.0)
    held = {minute: volume for minute, volume in minutes.items() if minute not in missing}
    told = found(held, QUARTERS, IN_AN_HOUR)

    # Each frozen minute by itself: its run of stored neighbours, and whether its quarter is whole.
    def run_of(minute: int) -> int:
        low = high = minute
        while low - 1 in frozen and low - 1 in held:
            low -= 1
        while high + 1 in frozen and high + 1 in held:
            high += 1
        return high - low + 1

    def whole(minute: int) -> bool:
        return not missing & set(range(minute - minute % 15, minute - minute % 15 + 15))

    expected = {m for m in frozen if m in held and run_of(m) >= 15 and whole(m)}
    assert {m for _, first, last, _ in told for m in range(first, last + 1)} == expected
    assert all(interval == "1m" for interval, *_ in told)
    assert sum(count for *_, count in told) == len(expected)
