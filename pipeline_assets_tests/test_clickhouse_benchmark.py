"""The benchmark of Redis and ClickHouse: its Redis half, and its rules against those of the slots' script."""

import json
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from pipeline_assets.resources.slots import CandleSlots, state_key
from pipeline_assets_tests.benchmarks.bench_clickhouse import NOT_MEASURED, measure
from pipeline_assets_tests.benchmarks.bench_slots import NOON, candles
from pipeline_assets_tests.benchmarks.clickhouse_store import (
    CANDLE,
    decoded,
    encoded,
    planned,
    slot_rows,
)
from pipeline_assets_tests.benchmarks.slot_stores import stores
from pipeline_assets_tests.fixtures.redis import RedisServer

SYMBOLS = ["SYMBOL0USDT", "SYMBOL1USDT"]


@pytest.fixture(scope="module")
def every() -> pl.DataFrame:
    """Provide 61 minutes of two symbols."""
    return candles().filter(pl.col("symbol").is_in(SYMBOLS))


def test_redis_half_prints_each_line(
    every: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a ClickHouse each line has Redis' figure, and says that ClickHouse was not measured."""
    monkeypatch.delenv("BENCH_CLICKHOUSE", raising=False)
    monkeypatch.delenv("BENCH_CHDB", raising=False)
    with ExitStack() as ends:
        met = measure(stores(tmp_path, ends), every, reads=10, idle_seconds=0.01)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(met) == 11
    assert {line["against"] for line in lines} == {NOT_MEASURED}
    assert {line["ratio"] for line in lines} == {None}
    redis = [next(iter(line["stores"].values())) for line in lines]
    assert all(figures["lowest"] > 0 for figures in redis if "lowest" in figures)
    assert [figures["candles_left"] for figures in redis if "candles_left" in figures] == [30]
    assert lines[-1]["figure"] == 0


def minutes(every: pl.DataFrame, *numbers: int) -> pl.DataFrame:
    opened = [NOON + timedelta(minutes=number) for number in numbers]
    return every.filter(pl.col("open_time").is_in(opened))


@pytest.mark.parametrize(
    ("numbers", "change"),
    [
        pytest.param(range(7, 22), 0, id="new minute"),
        pytest.param(range(6, 21), 0, id="unchanged"),
        pytest.param((20,), 1, id="corrected"),
        pytest.param((12,), 0, id="late"),
        pytest.param((0, 1), 0, id="older than what is held"),
        pytest.param((12, 13, 20, 21), 1, id="late, corrected and new"),
    ],
)
def test_rules_equal_the_slots_script(
    every: pl.DataFrame, own_redis_server: RedisServer, numbers: range, change: float
) -> None:
    """The plan for ClickHouse writes as many candles and marks the same states as the product."""
    slots = CandleSlots(own_redis_server.settings())
    slots.write(minutes(every, *range(6, 12), *range(13, 21)))
    offered = minutes(every, *numbers).with_columns(pl.col("close") + change)
    plan = planned(offered, slots.read(SYMBOLS))
    assert plan.rows.height == slots.write(offered).written
    client = own_redis_server.client()
    marks = {symbol: client.hget(state_key(symbol), "changed") for symbol in SYMBOLS}
    planned_marks = {symbol: str(changed) for symbol, changed in plan.marks.iter_rows()}
    assert planned_marks == {symbol: changed for symbol, changed in marks.items() if changed}


def test_rows_are_decoded_as_encoded(every: pl.DataFrame) -> None:
    assert decoded(encoded(slot_rows(every), CANDLE)).equals(every)
