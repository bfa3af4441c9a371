"""Walk-forward folds: equal to another library's, and no trade reaches into the predicted time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline_assets.research.walk_forward import (
    LeakError,
    Times,
    check_no_leak,
    walk_forward,
    whole,
)

MINUTE = 60_000_000


def times(number: int, seed: int = 1, longest: int = 600) -> Times:
    """Random minutes, each with a trade of up to `longest` minutes."""
    drawn = np.random.default_rng(seed)
    closed = np.sort(drawn.choice(20 * number, number, replace=False)) * MINUTE
    return Times(closed, closed + drawn.integers(1, longest, number) * MINUTE)


@pytest.mark.parametrize("embargo", [0, 60, 1000])
def test_folds_equal_another_library(embargo: int) -> None:
    """purgedcv drops the same examples, by its own intervals, before the same test parts."""
    from purgedcv import WalkForwardSplit

    held, folds = times(500), 4
    found = walk_forward(held, folds, embargo * MINUTE)
    reference = WalkForwardSplit(
        folds,
        500 // (folds + 2),
        prediction_times=pd.Series(pd.to_datetime(held.closed, unit="us")),
        # A trade that ends at the very time of the first prediction is known by then: purgedcv drops it.
        evaluation_times=pd.Series(pd.to_datetime(held.known - 1, unit="us")),
        purge_horizon=pd.Timedelta(minutes=embargo),
    )
    for fold, (train, test) in zip(found, reference.split(np.zeros((500, 1))), strict=True):
        assert fold.test.tolist() == test.tolist()
        # Between the two training parts further examples are dropped.
        kept = held.before(int(test[0]), embargo * MINUTE)
        assert kept.tolist() == train.tolist()
        assert set(fold.fit) | set(fold.calibrate) <= set(train.tolist())
        assert len(kept) < test[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(60, 400), st.integers(1, 6), st.integers(0, 2000), st.integers(0, 99))
def test_no_outcome_reaches_ahead(number: int, folds: int, embargo: int, seed: int) -> None:
    """However long trades last, each part ends an embargo before the next one begins."""
    held = times(number, seed, longest=1500)
    found = walk_forward(held, folds, embargo * MINUTE)
    check_no_leak(held, found, embargo * MINUTE)
    tested = np.concatenate([fold.test for fold in found])
    assert tested.tolist() == list(range(int(tested[0]), number))
    for fold in found:
        for earlier, later in ((fold.fit, fold.calibrate), (fold.calibrate, fold.test)):
            if len(earlier) and len(later):
                assert held.known[earlier].max() + embargo * MINUTE <= held.closed[later].min()


@pytest.mark.parametrize("part", ["fit", "calibrate"])
def test_planted_label_is_a_leak(part: str) -> None:
    """One label moved across the boundary of its fold is found and named."""
    held = times(500)
    fold = walk_forward(held, 3, 60 * MINUTE)[1]
    row = getattr(fold, part)[3]
    boundary = held.closed[fold.calibrate if part == "fit" else fold.test].min()
    held.known[row] = boundary - 60 * MINUTE
    check_no_leak(held, [fold], 60 * MINUTE)
    held.known[row] = boundary - 60 * MINUTE + 1
    with pytest.raises(LeakError, match=f"Fold 0: the outcome of example {row} "):
        check_no_leak(held, [fold], 60 * MINUTE)


def test_final_fold_uses_everything() -> None:
    """Nothing is held back for a test; fitting and calibrating stay apart."""
    held = times(400)
    fold = whole(held, 0)
    check_no_leak(held, [fold], 0)
    assert fold.calibrate.tolist() == list(range(300, 400))
    assert 250 < len(fold.fit) < 300
    assert not len(fold.test)
