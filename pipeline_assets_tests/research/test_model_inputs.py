"""The inputs of models: the newest features that were available, and none that are old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from pipeline_assets.market.intervals import Interval
from pipeline_assets.research.candidate_model import ModelInputError
from pipeline_assets.research.features import feature_names
from pipeline_assets.research.model_inputs import input_columns, model_inputs
from pipeline_assets_tests.research.made_features import LAG, feature_frame

START = datetime(2026, 5, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
INTERVALS = {"f15_": Interval.FIFTEEN_MINUTES, "f1h_": Interval.ONE_HOUR}
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def candidates(*rows: tuple[str, datetime, str]) -> pl.DataFrame:
    """Candidates of (symbol, open time, side)."""
    return pl.DataFrame(
        [(str(number), *row) for number, row in enumerate(rows)],
        schema={
            "id": pl.String,
            "symbol": pl.String,
            "open_time": pl.Datetime("us", "UTC"),
            "side": pl.String,
        },
        orient="row",
    )


def features(start: datetime = START, hours: int = 12) -> dict[Interval, pl.DataFrame]:
    return {
        each: feature_frame(each, SYMBOLS, start, start + timedelta(hours=hours))
        for each in INTERVALS.values()
    }


def expected(frame: pl.DataFrame, symbol: str, close: datetime, oldest: timedelta) -> dict | None:
    """The newest row by a plain search."""
    rows = [
        row
        for row in frame.to_dicts()
        if row["symbol"] == symbol and close - oldest <= row["available_at"] <= close
    ]
    return max(rows, key=lambda row: row["available_at"]) if rows else None


def test_inputs_equal_a_plain_search() -> None:
    """Random minutes, unsorted and with holes in the tables: the newest available row, or null."""
    drawn = np.random.default_rng(3)
    held = {
        interval: frame.filter(pl.Series(drawn.random(frame.height) < 0.7)).sample(
            fraction=1, shuffle=True, seed=4
        )
        for interval, frame in features().items()
    }
    minutes = drawn.integers(0, 12 * 60, 300)
    asked = candidates(
        *((SYMBOLS[each % 2], START + int(each) * MINUTE, "long") for each in minutes)
    )
    found = model_inputs(asked, held)
    assert found["id"].to_list() == asked["id"].to_list()
    nulls = 0
    for row in found.iter_rows(named=True):
        close = row["open_time"] + MINUTE
        for prefix, interval in INTERVALS.items():
            oldest = interval.span + LAG + MINUTE
            wanted = expected(held[interval], row["symbol"], close, oldest)
            nulls += wanted is None
            for name in feature_names()[:3]:
                assert row[f"{prefix}{name}"] == (None if wanted is None else wanted[name])
    assert nulls > 10


@pytest.mark.parametrize("minute", range(14, 18))
def test_features_count_once_available(minute: int) -> None:
    """The candle of 00:00 to 00:15 is available at 00:16: the first candidate with it closes then."""
    asked = candidates(("BTCUSDT", START + minute * MINUTE, "long"))
    held = features()
    value = model_inputs(asked, held)[f"f15_{feature_names()[0]}"][0]
    opened = START if minute + 1 >= 16 else START - 15 * MINUTE
    assert value == opened.timestamp() / 60


def test_other_lag_moves_merged_rows() -> None:
    """Rows were merged with 60 s; with a lag of ten minutes training knows these as late as live does."""
    name = f"f15_{feature_names()[0]}"
    for minute, opened in ((23, -15), (24, 0)):
        asked = candidates(("BTCUSDT", START + minute * MINUTE, "long"))
        (value,) = model_inputs(asked, features(), 10 * MINUTE)[name]
        assert value == (START + opened * MINUTE).timestamp() / 60


def test_later_rows_change_nothing() -> None:
    """Truncation: inputs are equal with every row removed that was not available."""
    held = features()
    asked = [candidates(("ETHUSDT", START + number * 7 * MINUTE, "short")) for number in range(80)]
    for one in asked:
        close = one["open_time"][0] + MINUTE
        known = {key: each.filter(pl.col("available_at") <= close) for key, each in held.items()}
        assert model_inputs(one, held).equals(model_inputs(one, known))


def test_old_features_are_null() -> None:
    """After an outage of the load the columns are null, and the row stays."""
    asked = candidates(("BTCUSDT", START + timedelta(hours=5), "long"))
    held = {
        each: frame.filter(pl.col("available_at") < START + timedelta(hours=3))
        for each, frame in features().items()
    }
    (row,) = model_inputs(asked, held).to_dicts()
    values = {name: row[name] for name in input_columns()}
    assert values.pop("side") == 1.0
    assert set(values.values()) == {None}


def test_oldest_features_still_count() -> None:
    """A candidate a minute before the next row is due has the row before, whatever the load lag is."""
    lag = timedelta(minutes=9)
    held = features()
    moved = pl.col("available_at") - LAG + lag
    held = {key: each.with_columns(available_at=moved) for key, each in held.items()}
    asked = candidates(*(("BTCUSDT", START + 600 * MINUTE + n * MINUTE, "long") for n in range(60)))
    assert model_inputs(asked, held, lag).null_count().sum_horizontal().item() == 0


def test_columns_and_sides() -> None:
    asked = candidates(("BTCUSDT", START, "long"), ("BTCUSDT", START, "short"))
    found = model_inputs(asked, features())
    assert tuple(found.columns) == ("id", "symbol", "open_time", *input_columns())
    assert found["side"].to_list() == [1.0, -1.0]
    assert {found.schema[name] for name in input_columns()} == {pl.Float64}
    assert len(input_columns()) == 1 + 2 * len(feature_names())


def test_no_candidates_give_no_rows() -> None:
    assert model_inputs(candidates(), features()).height == 0


@pytest.mark.parametrize("broken", ["interval", "column"])
def test_missing_features_are_named(broken: str) -> None:
    held = features()
    if broken == "interval":
        del held[Interval.ONE_HOUR]
    else:
        held[Interval.ONE_HOUR] = held[Interval.ONE_HOUR].drop(feature_names()[2])
    with pytest.raises(ModelInputError, match="1h"):
        model_inputs(candidates(("BTCUSDT", START, "long")), held)
