"""The check `parity`: what was published of a finished day against its stored candles."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from dagster import AssetKey, materialize

from pipeline_assets.assets.candidates import candidate_objects
from pipeline_assets.assets.parity import parity_check
from pipeline_assets.market.candidates import candidate_id, candidate_schema
from pipeline_assets.market.candles import candle_schema
from pipeline_assets.market.intervals import Interval, to_milliseconds
from pipeline_assets.market.strategies import configured_strategies
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.candidate_objects import read_candidates, store_candidates
from pipeline_assets.resources.candle_objects import write_candles
from pipeline_assets.resources.evaluation_record import Evaluation
from pipeline_assets.resources.listing_history import write_universe
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.slots import CandleSlots
from pipeline_assets.settings import Settings
from pipeline_assets.signals.due_minutes import Cursor
from pipeline_assets.signals.evaluation import run_tick
from pipeline_assets.signals.parity import Recomputed, compare, judge_day
from pipeline_assets.signals.tick import Services
from pipeline_assets_tests.fixtures.candidates import (
    MINUTE,
    CandidateSensor,
    sensor_resources,
    topic_of_its_own,
)
from pipeline_assets_tests.fixtures.exchange import start_exchange
from pipeline_assets_tests.fixtures.platform import platform_without_snowflake
from pipeline_assets_tests.market_data import candle_file, market_data

DAY = datetime(2026, 11, 20, tzinfo=UTC)
VERSION = "1-abc"


def candidates(*minutes: int, **changes: Any) -> pl.DataFrame:
    """Candidates of one strategy and symbol at minutes of the day."""
    rows = [
        {
            "id": candidate_id("s", VERSION, "BTCUSDT", "1m", DAY + minute * MINUTE),
            "strategy": "s",
            "version": VERSION,
            "symbol": "BTCUSDT",
            "interval": "1m",
            "side": "long",
            "open_time": DAY + minute * MINUTE,
            "price": 100.0,
            "indicators": json.dumps({"macd": 0.5}),
            "created_at": DAY,
        }
        | changes
        for minute in minutes
    ]
    return pl.DataFrame(rows, schema=candidate_schema(), orient="row")


def recomputed(frame: pl.DataFrame, *tied: str, judged_from: int = 0) -> Recomputed:
    judged = [("BTCUSDT", "s", VERSION, DAY + judged_from * MINUTE)]
    schema = dict.fromkeys(["symbol", "strategy", "version"], pl.String())
    types = schema | {"from_time": candidate_schema()["open_time"]}
    return Recomputed(frame, frozenset(tied), pl.DataFrame(judged, schema=types, orient="row"))


def evaluated(since: int = 0, strategy_since: int = 0, *skipped: tuple[int, int]) -> Evaluation:
    return Evaluation(
        {"BTCUSDT": DAY + since * MINUTE},
        {f"s {VERSION}": DAY + strategy_since * MINUTE},
        {"BTCUSDT": [Window(DAY + start * MINUTE, DAY + end * MINUTE) for start, end in skipped]},
    )


def minutes_of(frame: pl.DataFrame) -> list[int]:
    return [(opened - DAY) // MINUTE for opened in frame["open_time"]]


def test_equal_sides_are_parity() -> None:
    """The same candidates on both sides are parity."""
    found = compare(recomputed(candidates(1, 2, 3)), candidates(3, 1, 2), evaluated())
    assert (found.matched, found.passed) == (3, True)
    assert compare(recomputed(candidates()), candidates(), evaluated()).passed


def test_missing_and_extra_are_distinguished() -> None:
    """Missing and extra candidates are distinguished."""
    found = compare(recomputed(candidates(1, 2, 5)), candidates(2, 7), evaluated())
    assert (minutes_of(found.missing), minutes_of(found.extra)) == ([1, 5], [7])
    assert (found.matched, found.passed) == (1, False)


@pytest.mark.parametrize(
    "change",
    [{"side": "short"}, {"price": 100.1}, {"indicators": '{"macd":0.501}'}, {"indicators": "{}"}],
)
def test_same_id_with_other_values_differs(change: dict[str, Any]) -> None:
    """A candidate with the same id and other values is different."""
    published = pl.concat([candidates(1), candidates(2, **change)])
    found = compare(recomputed(candidates(1, 2)), published, evaluated())
    assert (minutes_of(found.different), found.matched, found.passed) == ([2], 1, False)


def test_values_may_differ_by_their_rounding() -> None:
    published = candidates(2, indicators='{"macd":0.50000009}')
    assert compare(recomputed(candidates(2)), published, evaluated()).passed


def test_threshold_ties_are_no_errors() -> None:
    """Ties at a threshold are no errors."""
    ids = [*candidates(1)["id"], *candidates(2)["id"]]
    found = compare(recomputed(candidates(1, 3), *ids), candidates(2, 3), evaluated())
    assert (minutes_of(found.ties), found.matched, found.passed) == ([1, 2], 1, True)


@pytest.mark.parametrize(
    ("evaluation", "missing"),
    [
        (evaluated(), [1, 5, 9]),
        (evaluated(5), [5, 9]),
        (evaluated(0, 6), [9]),
        (evaluated(0, 0, (0, 2), (9, 12)), [5]),
        (Evaluation({}, {}, {}), []),
    ],
)
def test_unevaluated_minutes_are_not_missing(evaluation: Evaluation, missing: list[int]) -> None:
    """Candidates of minutes that were never evaluated are not missing."""
    found = compare(recomputed(candidates(1, 5, 9)), candidates(), evaluation)
    assert minutes_of(found.missing) == missing


def test_uncheckable_candidates_are_not_extra() -> None:
    """Candidates that the lake cannot confirm are not extra.

    Before the day's history is long enough, and by strategies that are configured no more.
    """
    gone = candidates(9, version="1-gone", id="x")
    published = pl.concat([candidates(1, 7), gone])
    found = compare(recomputed(candidates(), judged_from=5), published, evaluated())
    assert (minutes_of(found.not_judged), minutes_of(found.extra)) == ([1, 9], [7])


@pytest.fixture
def day_over(candidate_sensor: CandidateSensor) -> CandidateSensor:
    """A day of which the sensor evaluated twenty minutes; it is the next day now."""
    candidate_sensor.tick()
    for _ in range(10):
        candidate_sensor.minutes(2)
        candidate_sensor.tick()
    return candidate_sensor


def check(sensor: CandidateSensor, day: str) -> tuple[bool, str]:
    """Finalize the day's candidates and check them, as the job does."""
    key = AssetKey("candidate_objects")
    result = materialize(
        [candidate_objects(), parity_check()],
        partition_key=day,
        resources=sensor_resources(sensor.settings),
        instance=sensor.platform.instance,
    )
    [evaluation] = result.get_asset_check_evaluations()
    assert (evaluation.asset_key, evaluation.check_name) == (key, "parity")
    return evaluation.passed, str(evaluation.description)


def test_finished_day_is_in_parity(
    day_over: CandidateSensor,
) -> None:
    """A finished day is finalized and in parity until a candidate is changed.

    The lake ends where the sensor stopped: what it never saw it could not evaluate.
    """
    passed, reported = check(day_over, "2026-11-20")
    assert (passed, reported) == (True, "2026-11-20 is not over yet.")
    day_over.platform.exchange.set_clock(DAY + timedelta(hours=24, minutes=5))
    published = len(set(day_over.published_ids()))
    passed, reported = check(day_over, "2026-11-20")
    assert passed
    assert f"{published} candidates as recomputed from the lake; 0 missing, 0 extra" in reported
    assert [*day_over.platform.objects("candidates/")] == ["candidates/1m/20261120.parquet"]

    [made_up] = candidates(800)[:1].partition_by("id")
    strategy = configured_strategies(day_over.settings.strategies)[0]
    named = {"strategy": strategy.name, "version": strategy.version, "id": "made-up"}
    store = ObjectStore(day_over.settings.s3)
    store_candidates(store, made_up.with_columns(pl.lit(v).alias(k) for k, v in named.items()))
    passed, reported = check(day_over, "2026-11-20")
    assert not passed
    assert "0 missing, 1 extra" in reported


def test_day_without_sensor_is_reported(day_over: CandidateSensor) -> None:
    """A day that the sensor never evaluated is reported as such."""
    passed, reported = check(day_over, "2026-11-18")
    assert (passed, reported) == (True, "The sensor has evaluated no minute of 2026-11-18.")


# Real candles


REAL = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
REAL_DAY = date(2025, 5, 20)


def real_candles(symbol: str, window: Window) -> pl.DataFrame:
    """A file's candles in a window; columns that it does not have are 0."""
    utc = pl.Datetime("us", "UTC")
    frame = pl.read_parquet(candle_file(symbol, "1m")).with_columns(
        pl.lit(symbol).alias("symbol"), pl.from_epoch("open_time", "ms").cast(utc)
    )
    missing = [name for name in candle_schema() if name not in frame.columns]
    return (
        frame.with_columns(pl.lit(0).alias(name) for name in missing if name != "close_time")
        .with_columns(
            (pl.col("open_time") + MINUTE - timedelta(milliseconds=1)).alias("close_time"),
        )
        .select(pl.col(name).cast(kind) for name, kind in candle_schema().items())
        .filter(pl.col("open_time").is_between(window.start, window.end, closed="left"))
        .sort("open_time")
    )


@pytest.mark.matrix
@pytest.mark.timeout(1200)
def test_replayed_day_is_in_parity(tmp_path: Path, s3_bucket, redis_url, kafka_server) -> None:
    """A whole replayed day is in parity.

    1,440 minutes of four symbols, each a tick of the sensor; the default strategies.
    """
    day = day_window(REAL_DAY)
    with (
        start_exchange(
            candles=market_data() / "klines", clock=f"stepped:{REAL_DAY}T00:00:05Z"
        ) as ex,
        platform_without_snowflake(
            tmp_path,
            ex,
            s3_bucket,
            redis_url,
            symbols=",".join(REAL),
            kafka=topic_of_its_own(kafka_server),
        ) as platform,
    ):
        settings: Settings = platform.settings
        store = ObjectStore(settings.s3)
        every = {s: real_candles(s, Window(day.start - timedelta(days=4), day.end)) for s in REAL}
        for ago in (4, 3, 2, 1):
            keep(store, every, day_window(REAL_DAY - timedelta(days=ago)))
        listed = to_milliseconds(day.start - timedelta(days=10))
        universe = {s: [listed, None, "TRADING", True] for s in REAL}
        write_universe(store, {"seen_ms": to_milliseconds(day.start), "symbols": universe})
        resources = sensor_resources(settings)
        names = ("settings", "exchange", "store", "indicator_states", "candidate_topic")
        services = Services(*(resources[name] for name in names))
        slots, cursor = CandleSlots(settings.redis), Cursor(day.start - MINUTE)
        by_minute = pl.concat(every.values()).partition_by("open_time", as_dict=True)
        evaluated_candles = 0
        for minute in range(1440):
            opened = day.start + minute * MINUTE
            ex.set_clock(opened + timedelta(seconds=63))
            slots.write(by_minute[(opened,)])
            report = run_tick(services, cursor)
            cursor = report.cursor
            evaluated_candles += report.candles
        keep(store, every, day)
        published = read_candidates(store, REAL_DAY)
        strategies = configured_strategies(settings.strategies)
        finding = judge_day(store, strategies, REAL_DAY, published)
        print(f"{evaluated_candles} candles, {finding.description}")
        assert evaluated_candles == 4 * 1440
        assert finding.passed
        assert set(published["strategy"]) == {each.name for each in strategies}
        assert published.height > 500


def keep(store: ObjectStore, every: dict[str, pl.DataFrame], window: Window) -> None:
    """Put a day's candles on the lake."""
    inside = pl.col("open_time").is_between(window.start, window.end, closed="left")
    for frame in every.values():
        write_candles(store, Interval.ONE_MINUTE, window, frame.filter(inside), None)
