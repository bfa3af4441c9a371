"""The two kinds of models: a model file may hold both, and a linear one tells longs from shorts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipeline_assets.research import model_files
from pipeline_assets.research.candidate_model import input_matrix
from pipeline_assets.research.estimators import KINDS, LOGISTIC, fitted, one_thread
from pipeline_assets.research.importance import importances
from pipeline_assets.research.model_inputs import input_columns
from pipeline_assets.research.side_products import with_fast_products
from pipeline_assets.research.walk_forward import Fold
from pipeline_assets.resources.stored_objects import digest_of
from pipeline_assets_tests.research.made_examples import PATTERN, made


def data(strength: float = 2.0) -> tuple[Any, Any]:
    """A matrix with nulls in every column but the side, and a column of nulls; and who won."""
    frame = made(900, strength).frame
    matrix = input_matrix(frame, input_columns())
    holes = np.random.default_rng(2).random(matrix.shape) < 0.03
    holes[:, 0] = False
    matrix[holes] = np.nan
    matrix[:, -1] = np.nan
    return matrix, (frame["net_return"].to_numpy() > 0).astype(np.int64)


FOLD = Fold(np.arange(500), np.arange(500, 700), np.arange(700, 900))


@pytest.mark.parametrize("kind", KINDS)
def test_model_files_hold_both_kinds(kind: str) -> None:
    """The registry's list of types covers what training makes; the loaded model predicts alike."""
    matrix, won = data()
    with one_thread():
        model = fitted(kind, matrix, won, FOLD, 0)
        body = model_files.dump(model)
        loaded = model_files.load(body, digest_of(body))
        ours, theirs = (each.predict_proba(matrix[FOLD.test]) for each in (model, loaded))
    assert np.array_equal(ours, theirs)


def test_linear_model_knows_the_side() -> None:
    """A column that speaks for longs speaks against shorts."""
    matrix, won = data()
    with one_thread():
        model = fitted(LOGISTIC, matrix, won, FOLD, 0)
        asked = np.zeros((2, matrix.shape[1]))
        asked[:, 0] = (1, -1)
        asked[:, input_columns().index(PATTERN)] = 2
        long, short = model.predict_proba(asked)[:, 1]
    assert long > 0.65
    assert short < 0.35


def test_importance_names_the_pattern() -> None:
    """The pattern's column and the side come first; a column of nulls changes nothing."""
    matrix, won = data()
    with one_thread():
        model = fitted(LOGISTIC, matrix, won, FOLD, 0)
        found = importances(model, matrix[FOLD.test], won[FOLD.test], input_columns(), 0)
    assert {each.column for each in found[:2]} == {PATTERN, "side"}
    (nulls,) = (each for each in found if each.column == input_columns()[-1])
    assert (nulls.low, nulls.mean, nulls.high) == (0, 0, 0)
    assert len(found) == len(input_columns())


@pytest.mark.parametrize("kind", KINDS)
def test_faster_copy_predicts_alike(kind: str) -> None:
    """The same bits, for one row and for many; the estimator that is stored keeps its classes."""
    matrix, won = data()
    with one_thread():
        model = fitted(kind, matrix, won, FOLD, 0)
        faster = with_fast_products(model)
        assert (faster is model) is (kind != LOGISTIC)
        for rows in (matrix[:1], matrix[FOLD.test], matrix):
            assert np.array_equal(faster.predict_proba(rows), model.predict_proba(rows))
        # A file may not hold the faster step.
        model_files.dump(model)


@pytest.mark.parametrize("change", ["degree", "weights", "column", "output"])
def test_other_products_are_left(change: str) -> None:
    """A ColumnTransformer that makes anything else predicts by itself."""
    matrix, won = data()
    with one_thread():
        model: Any = fitted(LOGISTIC, matrix, won, FOLD, 0)
    products = model.calibrated_classifiers_[0].estimator.estimator.steps[2][1]
    name, first, columns = products.transformers_[0]
    if change == "degree":
        first.interaction_only = False
    elif change == "weights":
        products.transformer_weights = {name: 2.0}
    elif change == "column":
        products.transformers_[0] = (name, first, [1, columns[1]])
    else:
        products.set_output(transform="pandas")
    assert with_fast_products(model) is model
