"""Made-up examples of a training: random inputs, and outcomes with or without a pattern. No tests here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from pipeline_assets.research.examples import Examples
from pipeline_assets.research.model_inputs import input_columns
from pipeline_assets.research.training_types import TrainingRequest
from pipeline_assets_tests.research.held_candles import by_volume

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 90
# The column of which the outcome depends, for longs one way and for shorts the other.
PATTERN = "f15_trend_16"


def made(number: int, strength: float, seed: int = 1, cost: float = 0.0007) -> Examples:
    """Return examples whose chance to win depends on a column as strongly as given; 0 is no pattern."""
    drawn = np.random.default_rng(seed)
    minutes = np.sort(drawn.choice(DAYS * 1440, number, replace=False))
    opened = [START + timedelta(minutes=int(each)) for each in minutes]
    times = pl.Series(opened).dt.cast_time_unit("us")
    columns = {name: drawn.normal(size=number) for name in input_columns()}
    columns["side"] = np.where(drawn.random(number) < 0.5, 1.0, -1.0)
    score = strength * columns["side"] * columns[PATTERN]
    won = drawn.random(number) < 1 / (1 + np.exp(-score))
    # Equal gains and losses before costs: without a pattern every trade loses the costs on average.
    net = np.where(won, 1, -1) * 0.002 * drawn.uniform(0.5, 1.5, number) - cost
    symbols = np.array(["BTCUSDT", "ETHUSDT"])[drawn.integers(0, 2, number)]
    frame = pl.DataFrame(
        {
            "id": [f"{each:036d}" for each in range(number)],
            "symbol": symbols,
            "open_time": times,
            "price": 100 * np.exp(drawn.normal(0, 0.01, number)),
            **columns,
            "net_return": net,
            "entry_time": times + timedelta(minutes=2),
            "exit_time": times + timedelta(hours=2),
            "known_at": times + timedelta(hours=2, minutes=1),
        }
    )
    return Examples(frame, {"traded": number}, number, ())


def request(**values: Any) -> TrainingRequest:
    """Return a request for the made examples."""
    given: dict[str, Any] = {
        "strategy": by_volume(),
        "symbols": ["BTCUSDT", "ETHUSDT"],
        "start": START,
        "end": START + timedelta(days=DAYS),
        "folds": 2,
    }
    return TrainingRequest(**given | values)
