"""Intervals of means whose examples depend on each other, and the rules that use the intervals."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from pipeline_assets.research.baselines import baseline_returns, failures
from pipeline_assets.research.block_bootstrap import DAY, Blocks, block_length
from pipeline_assets.research.model_metrics import figures
from pipeline_assets_tests.research.made_examples import START

DAY_US = 86_400_000_000


def test_intervals_hold_the_truth() -> None:
    """Days with a common shock: intervals of days hold the true mean as often as these say."""
    drawn, held = np.random.default_rng(1), 0
    for seed in range(200):
        shocks = np.repeat(drawn.normal(size=60), 20)
        times = np.repeat(np.arange(60), 20) * DAY_US
        estimate = Blocks(times, DAY, seed).estimate(shocks + drawn.normal(size=1200))
        held += estimate.low <= 0 <= estimate.high
    assert 165 <= held <= 195


def test_dependent_examples_widen_the_interval() -> None:
    """Twenty copies of an observation are one observation."""
    values = np.random.default_rng(2).normal(size=60)
    once = Blocks(np.arange(60) * DAY_US, DAY, 1).estimate(values)
    copied = Blocks(np.repeat(np.arange(60), 20) * DAY_US, DAY, 1).estimate(np.repeat(values, 20))
    assert copied.high - copied.low == pytest.approx(once.high - once.low)


def test_no_example_has_no_mean() -> None:
    estimate = Blocks(np.arange(5) * DAY_US, DAY, 1).estimate(np.ones(5), np.zeros(5, bool))
    assert np.isnan([estimate.mean, estimate.low, estimate.high]).all()


@pytest.mark.parametrize(("minutes", "days"), [(10.0, 1), (700.0, 1), (1440.0, 2), (5000.0, 7)])
def test_blocks_outlast_the_trades(minutes: float, days: int) -> None:
    assert block_length(np.full(100, minutes)) == days * DAY


def predictions(traded: list[bool]) -> pl.DataFrame:
    """Four hourly candidates of a symbol that rises by 1 % an hour."""
    rows = len(traded)
    return pl.DataFrame(
        {
            "symbol": ["BTCUSDT"] * rows,
            "open_time": [START + timedelta(hours=each) for each in range(rows)],
            "price": [100.0 + each for each in range(rows)],
            "net_return": [0.01, -0.01, 0.02, 0.0],
            "minutes": [60.0, 120.0, 60.0, 60.0],
            "traded": traded,
        }
    )


def test_baselines_by_hand() -> None:
    """Holding earns the mean rise for as long as the model's own trades last."""
    found = baseline_returns(predictions([True, True, False, False]))
    assert found["always"].tolist() == [0.01, -0.01, 0.02, 0.0]
    assert found["never"].tolist() == [0, 0, 0, 0]
    assert found["buy_and_hold"] == pytest.approx([0.01, 0.02, 0, 0])


GOOD = {
    "blocks": 100.0,
    "traded": 500.0,
    "traded_blocks": 60.0,
    "calibration_error": 0.01,
    "calibration_error_chance": 0.015,
} | {
    f"edge_{name}{end}": value
    for name in ("always", "never", "buy_and_hold", "base_rate")
    for end, value in (("", 0.002), ("_low", 0.001), ("_high", 0.003))
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"blocks": 19.0}, "independent spans"),
        ({"traded": 49.0}, "trades 49 candidates"),
        ({"traded_blocks": 19.0}, "in 19 independent spans"),
        ({"edge_always_low": 0.0}, "every candidate"),
        ({"edge_never_low": -0.001}, "after costs"),
        ({"edge_buy_and_hold_low": 0.0}, "holding"),
        ({"edge_base_rate_low": -0.1}, "share of winners"),
        ({"calibration_error": 0.021}, "off their frequencies"),
        ({"calibration_error": 0.11, "calibration_error_chance": 0.2}, "off their frequencies"),
    ],
)
def test_each_failure_is_named(change: dict[str, float], words: str) -> None:
    assert failures(GOOD) == ()
    (sentence,) = failures(GOOD | change)
    assert words in sentence


def test_chance_excuses_small_distances() -> None:
    """Few candidates are off their frequencies by chance alone."""
    few = {"calibration_error": 0.05, "calibration_error_chance": 0.06}
    assert failures(GOOD | few) == ()


def test_returns_of_no_trade_are_not_judged() -> None:
    """A model that trades nothing fails by that, and not by "better by +0.00 basis points" besides."""
    edges = {each: 0.0 for each in GOOD if each.startswith("edge_")}
    found = failures(GOOD | edges | {"traded": 0.0, "traded_blocks": 0.0})
    assert [sentence.split(":")[0] for sentence in found] == [
        "Out of sample it trades 0 candidates in 0 independent spans of time, and 50 in 20 are needed.",
        "Its probabilities are not surely better than the plain share of winners",
    ]


def test_few_lucky_days_do_not_pass() -> None:
    """Informative probabilities beside trades of four good days: nearly no draw of days misses all four."""
    drawn = np.random.default_rng(5)
    days, each_day = 60, 50
    number = days * each_day
    opened = [START + timedelta(days=n // each_day, minutes=n % each_day) for n in range(number)]
    day = np.arange(number) // each_day
    probability = np.where(drawn.random(number) < 0.5, 0.3, 0.6)
    won = drawn.random(number) < probability
    lucky = np.isin(day, [7, 21, 33, 48]) & (np.arange(number) % each_day < 20)
    net = np.where(won | lucky, 0.001, -0.002)
    held = pl.DataFrame(
        {
            "symbol": ["BTCUSDT"] * number,
            "open_time": opened,
            "price": np.full(number, 100.0),
            "net_return": net,
            "minutes": np.full(number, 60.0),
            "probability": probability,
            "base_rate": np.full(number, 0.45),
            "traded": lucky,
        }
    )
    metrics = figures(held, 0).metrics
    assert metrics["traded"] == 80
    assert metrics["traded_blocks"] == 4
    (sentence,) = failures(metrics)
    assert "in 4 independent spans" in sentence
