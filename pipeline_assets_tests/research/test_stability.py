"""The population stability index, as properties and against values counted by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.research.stability import (
    SHIFTED,
    column_index,
    decile_shares,
    smallest_share,
    stability_index,
)

DECILES = np.arange(0.1, 0.95, 0.1)
SHARES = st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4)
# Few distinct values among many, so that deciles coincide.
VALUES = st.lists(st.one_of(st.integers(-3, 3).map(float), st.floats(-9, 9)), min_size=1)


def index(live: Any, trained: Any) -> float:
    """Return the index of values against those of a training, as training keeps them."""
    trained = np.asarray(trained, float)
    known = trained[~np.isnan(trained)]
    deciles = np.quantile(known, DECILES).tolist() if len(known) else []
    return column_index(np.asarray(live, float), deciles, 1 - len(known) / len(trained))


def test_equals_published_formula() -> None:
    """Two groups, 60 and 40 percent against 50 and 50."""
    expected = 0.1 * math.log(0.6 / 0.5) - 0.1 * math.log(0.4 / 0.5)
    assert stability_index([0.6, 0.4], [0.5, 0.5], 1e-9) == pytest.approx(expected)


@given(SHARES, SHARES)
def test_index_is_symmetric_and_positive(live: list[float], trained: list[float]) -> None:
    found = stability_index(live, trained, 1e-3)
    assert found >= 0
    assert found == pytest.approx(stability_index(trained, live, 1e-3))
    assert stability_index(live, live, 1e-3) == 0


@given(VALUES)
def test_equal_samples_have_no_index(values: list[float]) -> None:
    """A sample against itself: quantiles lie between values, so one value may count in the next group."""
    assert index(values * 100, values * 100) < 1e-3


@given(VALUES, VALUES)
def test_order_and_unit_change_nothing(live: list[float], trained: list[float]) -> None:
    """The index depends on ranks alone; mirrored values have the mirrored groups."""
    found = index(live, trained)
    assert index(live[::-1], trained) == found
    assert index(np.array(live) * 4, np.array(trained) * 4) == pytest.approx(found)
    # The quantile of mirrored values may differ in its last digits, and an equal value is beside it then.
    deciles = np.quantile(trained, DECILES)
    mirrored = column_index(-np.array(live), (-deciles)[::-1].tolist(), 0.0)
    assert mirrored == pytest.approx(found, abs=1e-9)


def plain_index(live: np.ndarray[Any, Any], trained: np.ndarray[Any, Any]) -> float:
    """Return the index over the values themselves as groups."""
    shares = [[float((each == value).mean()) for value in (-1, 1)] for each in (live, trained)]
    return stability_index(shares[0], shares[1], 1e-3)


@given(st.integers(1, 999), st.integers(1, 999))
def test_two_values_stay_below_index(first: int, second: int) -> None:
    """Eight of ten groups would be empty; the deciles tell the shares within a tenth."""
    live, trained = (np.repeat([-1.0, 1.0], [each, 1000 - each]) for each in (first, second))
    found = index(live, trained)
    assert found <= plain_index(live, trained) + 1e-9
    if abs(first - second) >= 300:
        assert found > 0.01


def test_constant_feature_moves_with_value() -> None:
    assert index([5.0] * 300, [5.0] * 1000) == pytest.approx(0, abs=1e-12)
    assert index([6.0] * 300, [5.0] * 1000) > SHIFTED


@given(st.integers(0, 300), st.integers(0, 300))
def test_nulls_are_a_group(live: int, trained: int) -> None:
    """Where the known values are alike, the index is that of known and null alone."""
    values = np.linspace(0, 1, 300)
    found = index(
        np.concatenate([np.full(live, np.nan), values]),
        np.concatenate([np.full(trained, np.nan), values]),
    )
    shares = [(each / (each + 300), 300 / (each + 300)) for each in (live, trained)]
    assert found == pytest.approx(
        stability_index(shares[0], shares[1], smallest_share(300)), abs=2e-3
    )


def test_nulls_alone_are_compared() -> None:
    """A column without any value, live or in the training."""
    nulls, numbers = [math.nan] * 300, list(range(300))
    assert index(nulls, nulls) == 0
    assert index(nulls, numbers) > 1
    assert index(numbers, nulls) > 1


@given(st.integers(1, 5))
def test_tiny_sample_has_finite_index(number: int) -> None:
    found = index([0.5] * number, np.linspace(0, 1, 1000))
    assert 0 <= found < math.inf
    # A group without any value is as likely as one with the only value.
    assert number > 1 or found == 0


def test_shift_of_mean_is_found() -> None:
    """Half a standard deviation moves, a twentieth does not."""
    drawn = np.random.default_rng(1)
    trained = drawn.normal(size=5000)
    assert index(drawn.normal(size=1000) + 0.05, trained) < 0.1
    assert index(drawn.normal(size=1000) + 0.6, trained) > SHIFTED
    assert decile_shares(trained, np.quantile(trained, DECILES).tolist()) == pytest.approx(
        [0.1] * 10, abs=1e-3
    )


def test_unmoved_features_rarely_warn() -> None:
    """None of a hundred columns of 200 candidates seems to have moved."""
    drawn = np.random.default_rng(2)
    deciles = np.quantile(drawn.normal(size=50_000), DECILES).tolist()
    found = [column_index(drawn.normal(size=200), deciles, 0.0) for _ in range(100)]
    assert max(found) < SHIFTED
