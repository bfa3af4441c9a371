"""How much a model's probabilities depend on each column, by permutation of examples it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline_assets.research.candidate_model import Estimator
from pipeline_assets.research.model_metrics import log_losses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_REPEATS = 3
# A permutation of more examples says hardly more, and takes as much longer.
_MOST_ROWS = 4000
# Rows that are predicted in one call: each call has a cost of its own. 30 MB of inputs.
_ROWS_AT_ONCE = 50_000


@dataclass(frozen=True)
class Importance:
    """How much the log loss grows when a column's values are exchanged between examples.

    `low` and `high` are the smallest and largest growth of three permutations. A column that says what
    another one says too has a small importance, though the model may use it.
    """

    column: str
    mean: float
    low: float
    high: float


def importances(
    model: Estimator, matrix: "Array", won: "NDArray[np.int64]", columns: Sequence[str], seed: int
) -> list[Importance]:
    """Return the importance of each column, the greatest first.

    Args:
        model: the model.
        matrix: examples that the model was not trained on.
        won: whether each one earned money.
        columns: the names of the matrix's columns.
        seed: of the permutations.
    """
    drawn = np.random.default_rng(seed)
    if len(matrix) > _MOST_ROWS:
        rows = np.sort(drawn.choice(len(matrix), _MOST_ROWS, replace=False))
        matrix, won = matrix[rows], won[rows]
    truth = won.astype(np.float64)

    begun = float(log_losses(truth, model.predict_proba(matrix)[:, 1]).mean())
    at_once = max(_ROWS_AT_ONCE // (_REPEATS * len(matrix)), 1)
    found = []
    for first in range(0, len(columns), at_once):
        places = range(first, min(first + at_once, len(columns)))
        permuted = [_permuted(matrix, place, drawn) for place in places for _ in range(_REPEATS)]
        probability = model.predict_proba(np.concatenate(permuted))[:, 1]
        losses = log_losses(np.tile(truth, len(permuted)), probability)
        growths = losses.reshape(len(places), _REPEATS, -1).mean(axis=2) - begun
        found += [
            Importance(columns[place], float(each.mean()), float(each.min()), float(each.max()))
            for place, each in zip(places, growths, strict=True)
        ]
    return sorted(found, key=lambda each: -each.mean)


def _permuted(matrix: "Array", place: int, drawn: "np.random.Generator") -> "Array":
    """Return a matrix with one column's values exchanged between its rows."""
    changed = matrix.copy()
    changed[:, place] = matrix[drawn.permutation(len(matrix)), place]
    return changed
