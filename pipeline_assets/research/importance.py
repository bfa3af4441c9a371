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
    repeated, found = np.tile(matrix, (_REPEATS, 1)), []
    for place, name in enumerate(columns):
        changed = repeated.copy()
        orders = [drawn.permutation(len(matrix)) for _ in range(_REPEATS)]
        changed[:, place] = matrix[np.concatenate(orders), place]
        probability = model.predict_proba(changed)[:, 1]
        losses = log_losses(np.tile(truth, _REPEATS), probability).reshape(_REPEATS, -1)
        growths = losses.mean(axis=1) - begun
        growth = Importance(name, float(growths.mean()), float(growths.min()), float(growths.max()))
        found.append(growth)
    return sorted(found, key=lambda each: -each.mean)
