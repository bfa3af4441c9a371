from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.zero_volume import false_zero_volume
from pipeline_assets_tests.examples import examples
from pipeline_assets_tests.market_data import candle_file

START = datetime(2026, 10, 25, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOURS = 3
MINUTES = 60 * HOURS
Volumes = dict[int, float]  # by minute since START


def candles(volumes: Volumes, symbol: str = "BTCUSDT") -> pl.DataFrame:
    rows = [(symbol, START + minute * MINUTE, volume) for minute, volume in volumes.items()]
    schema = {"symbol": pl.String, "open_time": pl.Datetime("us", "UTC"), "volume": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def runs_in(minutes: pl.DataFrame, quarters: pl.DataFrame, hours: pl.DataFrame) -> pl.DataFrame:
    """Return the runs found in candles of 1m, 15m and 1h."""
    frames = (minutes, quarters, hours)
    intervals = (Interval.ONE_MINUTE, Interval.FIFTEEN_MINUTES, Interval.ONE_HOUR)
    return false_zero_volume(dict(zip(intervals, frames, strict=True)))


def summed(minutes: Volumes, size: int) -> Volumes:
    return {
        start: sum(minutes[start + offset] for offset in range(size))
        for start in range(0, MINUTES, size)
    }


def found(minutes: Volumes, quarters: Volumes, hours: Volumes) -> list[tuple[str, int, int, int]]:
    """Return the runs reported for one symbol: interval, minute of first and last open time, count."""
    frame = runs_in(candles(minutes), candles(quarters), candles(hours))
    assert frame.filter(pl.col("symbol") != "BTCUSDT").is_empty()
    return [
        (interval, (first - START) // MINUTE, (last - START) // MINUTE, count)
        for _, interval, first, last, count, *_ in frame.rows()
    ]


TRADED = dict.fromkeys(range(MINUTES), 2.0)
QUARTERS = dict.fromkeys(range(0, MINUTES, 15), 30.0)
IN_AN_HOUR = dict.fromkeys(range(0, MINUTES, 60), 120.0)


def test_frozen_minutes_come_with_contradictions() -> None:
    """Frozen minutes are reported with the candles that contradict them."""
    frozen = TRADED | dict.fromkeys(range(37, 111), 0.0)
    frame = runs_in(candles(frozen), candles(QUARTERS), candles(IN_AN_HOUR))
    assert frame.rows() == [
        (
            *("BTCUSDT", "1m", START + 37 * MINUTE, START + 110 * MINUTE, 74, 74),
            "the 15m candle of 2026-10-25 00:30 has volume 30.0, the 1m candles in it 14.0 together",
        )
    ]
    assert dict(frame.schema) == {
        "symbol": pl.String,
        "interval": pl.String,
        "first": pl.Datetime("us", "UTC"),
        "last": pl.Datetime("us", "UTC"),
        "count": pl.Int64,
        "contradicted": pl.Int64,
        "why": pl.String,
    }


def test_hour_contradicts_without_quarters() -> None:
    """An hour contradicts minutes if there are no 15m candles."""
    assert found(TRADED | dict.fromkeys(range(60, 75), 0.0), {}, IN_AN_HOUR) == [("1m", 60, 74, 15)]


def test_short_run_is_not_reported() -> None:
    """A run shorter than fifteen minutes is not reported."""
    assert found(TRADED | dict.fromkeys(range(60, 74), 0.0), QUARTERS, IN_AN_HOUR) == []


def test_missing_minutes_prevent_a_contradiction() -> None:
    """Volume that missing minutes may have had contradicts nothing."""
    minutes = dict.fromkeys(range(MINUTES), 0.0)
    del minutes[20]
    hours = {0: 9.0, 60: 0.0, 120: 0.0}
    assert found(minutes, {15: 9.0}, hours) == []
    assert found(minutes | {20: 0.0}, {15: 9.0}, hours) == [("1m", 0, 179, 180)]


def test_minutes_contradict_frozen_longer_candles() -> None:
    """Frozen 15m and 1h candles are contradicted by their minutes."""
    reported = found(TRADED, QUARTERS | {30: 0.0, 45: 0.0}, IN_AN_HOUR | {120: 0.0})
    assert reported == [("15m", 30, 45, 2), ("1h", 120, 120, 1)]


def test_run_is_reported_whole() -> None:
    """A run is reported as a whole, with the number of contradicted candles."""
    quiet = dict.fromkeys(range(MINUTES), 0.0)
    quarters = dict.fromkeys(QUARTERS, 0.0) | {75: 4.0}
    [run] = runs_in(candles(quiet), candles(quarters), candles({})).rows(named=True)
    assert (run["first"], run["last"]) == (START, START + 179 * MINUTE)
    assert (run["count"], run["contradicted"]) == (180, 15)
    assert run["why"].startswith("the 15m candle of 2026-10-25 01:15 has volume 4.0")


@pytest.mark.parametrize("proved", ["first hour", "second hour"])
@pytest.mark.parametrize("other", ["false too", "missing", "short of a minute"])
def test_run_over_two_hours_is_whole(proved, other) -> None:
    """A run over two hours is reported as a whole if one of the hours proves it.

    Minutes froze from 00:30 to 01:29, and the candles of one of the hours prove nothing.
    """
    frozen = range(30, 90)
    minutes = TRADED | dict.fromkeys(frozen, 0.0)
    quarters, hours = dict(QUARTERS), dict(IN_AN_HOUR)
    proves_nothing = 60 if proved == "first hour" else 0
    if other == "missing":
        del hours[proves_nothing]
        quarters = {}
    elif other == "false too":
        quarters = summed(minutes, 15)
        hours[proves_nothing] = 60.0
    else:
        del minutes[proves_nothing + (59 if proved == "first hour" else 0)]
        quarters = {}
    reported = found(minutes, quarters, hours)
    assert [run for run in reported if run[0] == "1m"] == [("1m", 30, 89, 60)]


def test_symbols_are_judged_separately() -> None:
    """Volume of one symbol proves nothing about another."""
    quiet, active = dict.fromkeys(range(MINUTES), 0.0), candles(QUARTERS, "ETHUSDT")
    assert runs_in(candles(quiet), active, candles({})).is_empty()


def test_month_is_true_until_frozen() -> None:
    """A month is judged true until some of its minutes are frozen.

    1m candles of a month, 14 of them quiet, with their own sums as 15m and 1h.
    """
    minutes = pl.read_parquet(candle_file("NEARUSDT", "1m")).select(
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
    assert runs_in(minutes, quarters, hours).is_empty()

    first, last = (
        datetime(2023, 5, 17, 9, 41, tzinfo=UTC),
        datetime(2023, 5, 17, 10, 54, tzinfo=UTC),
    )
    frozen = pl.col("open_time").is_between(first, last)
    altered = minutes.with_columns(volume=pl.when(frozen).then(0.0).otherwise("volume"))
    reported = runs_in(altered, quarters, hours)
    assert reported.drop("why", "contradicted").rows() == [("NEARUSDT", "1m", first, last, 74)]


@settings(max_examples=examples(80))
@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.sampled_from([0.0, 0.0, 1.5, 0.1])),
        min_size=1,
        max_size=12,
    ),
    st.permutations(range(MINUTES)),
)
def test_what_agrees_is_never_reported(runs, order) -> None:
    volumes = [volume for length, volume in runs for _ in range(length)][:MINUTES]
    minutes = dict(enumerate(volumes + [1.0] * (MINUTES - len(volumes))))
    shuffled = {minute: minutes[minute] for minute in order}
    assert found(shuffled, summed(minutes, 15), summed(minutes, 60)) == []


@settings(max_examples=examples(80))
@given(st.integers(0, MINUTES - 15), st.integers(15, MINUTES), st.sets(st.integers(0, MINUTES - 1)))
def test_frozen_run_needs_one_whole_bucket(start, length, missing) -> None:
    """A frozen run is reported if one of its buckets is complete."""
    frozen = range(start, min(start + length, MINUTES))
    minutes = TRADED | dict.fromkeys(frozen, 0.0)
    held = {minute: volume for minute, volume in minutes.items() if minute not in missing}
    reported = found(held, QUARTERS, IN_AN_HOUR)

    # For each frozen minute: its run of stored neighbours, and whether the run holds a complete quarter.
    def run_of(minute: int) -> range:
        low = high = minute
        while low - 1 in frozen and low - 1 in held:
            low -= 1
        while high + 1 in frozen and high + 1 in held:
            high += 1
        return range(low, high + 1)

    def whole(minute: int) -> bool:
        return not missing & set(range(minute - minute % 15, minute - minute % 15 + 15))

    expected = {
        minute
        for minute in frozen
        if minute in held and len(run_of(minute)) >= 15 and any(map(whole, run_of(minute)))
    }
    assert {m for _, first, last, _ in reported for m in range(first, last + 1)} == expected
    assert all(interval == "1m" for interval, *_ in reported)
    assert sum(count for *_, count in reported) == len(expected)
