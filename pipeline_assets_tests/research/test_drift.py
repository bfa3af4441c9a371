"""The conclusions from inputs, decisions and trades: warnings, notes and intervals."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from pipeline_assets.research.drift import LEAST_TRADES, DriftSubject, drift_report
from pipeline_assets.research.drift_documents import CalibrationDrift, DriftReport
from pipeline_assets.research.model_inputs import input_columns
from pipeline_assets_tests.fixtures.drifting import METRICS
from pipeline_assets_tests.fixtures.models import facts
from pipeline_assets_tests.research.made_examples import START

SUBJECT = DriftSubject(
    "macd_cross", "1", "20261122-0", facts(), METRICS,
    date(2026, 3, 1), date(2026, 3, 28), date(2026, 3, 1),
)  # fmt: skip


def times(number: int, days: int) -> pl.Series:
    """Return so many times, evenly over some days."""
    found = [START + timedelta(days=days) * place / number for place in range(number)]
    return pl.Series("open_time", found).dt.cast_time_unit("us")


def trades(number: int, days: int, said: float, won: float, seed: int = 1) -> pl.DataFrame:
    """Return closed trades with a probability, of which a share won."""
    drawn = np.random.default_rng(seed).random(number)
    return pl.DataFrame(
        {
            "open_time": times(number, days),
            "probability": [said] * number,
            "net_return": np.where(drawn < won, 0.01, -0.01),
        }
    )


def report(closed: pl.DataFrame, subject: DriftSubject = SUBJECT) -> DriftReport:
    """Return the report of some trades, with a few decisions and inputs."""
    inputs = pl.DataFrame(schema={"id": pl.String, **dict.fromkeys(input_columns(), pl.Float64)})
    decisions = pl.DataFrame(
        {"open_time": times(5, 1), "verdict": ["accept"] * 5, "reason": [""] * 5, "judged": True}
    )
    return drift_report(subject, inputs, decisions, closed)


def calibration(closed: pl.DataFrame) -> CalibrationDrift:
    """Return the calibration of some trades."""
    found = report(closed).calibration
    assert found is not None
    return found


def test_broken_promise_warns() -> None:
    """The model said 60 %, and 40 % won: surely and largely off."""
    found = report(trades(400, 28, said=0.6, won=0.4))
    [warning] = found.warnings
    assert warning.startswith("Calibration moved: 4")
    assert "the model said 60%" in warning


def test_kept_promise_seldom_warns() -> None:
    """A calibrated model is warned of once in twenty tries at most."""
    warned = [bool(report(trades(200, 28, 0.55, 0.55, seed)).warnings) for seed in range(40)]
    assert sum(warned) <= 2


@pytest.mark.parametrize(("number", "days"), [(LEAST_TRADES - 1, 28), (400, 9)])
def test_too_few_trades_are_not_judged(number: int, days: int) -> None:
    """The figures are there; the note says that they are no verdict."""
    found = report(trades(number, days, said=0.9, won=0.1))
    assert found.warnings == ()
    assert found.calibration is not None
    assert f"{number} closed trades of {days} days, and 50 of 10 days are needed" in found.notes[-1]


def test_open_trades_are_counted_apart() -> None:
    closed = trades(60, 28, 0.5, 0.5)
    still = closed.head(7).with_columns(net_return=pl.lit(None, pl.Float64))
    found = calibration(pl.concat([closed, still]))
    assert (found.trades, found.unfinished) == (60, 7)
    assert found == calibration(closed).model_copy(update={"unfinished": 7})
    assert report(still).calibration is None


def test_groups_follow_the_probability() -> None:
    """At most five parts of ten and more, each with its own share of winners."""
    likely = trades(60, 28, 0.8, 0.8).with_columns(probability=pl.Series(np.linspace(0.5, 0.9, 60)))
    groups = calibration(likely).groups
    said = [each.probability for each in groups]
    assert [each.trades for each in groups] == [12] * 5
    assert said == sorted(said)
    assert all(each.won.low <= each.won.mean <= each.won.high for each in groups)
    assert len(calibration(trades(19, 9, 0.5, 0.5)).groups) == 1


def test_manifest_without_figures_compares_less() -> None:
    """Models of earlier releases have fewer figures."""
    bare = DriftSubject(**{**vars(SUBJECT), "metrics": {}})
    found = report(trades(60, 28, 0.5, 0.5), bare)
    assert found.calibration is not None
    assert found.decisions is not None
    assert (found.calibration.trained_return, found.decisions.trained_accepted) == (None, None)
