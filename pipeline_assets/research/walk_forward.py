"""Walk-forward folds: each part of a span is predicted by models of the time before. Models are in
estimators.py.

A training example is used only if its outcome was known an embargo before the first candidate that is
predicted (purging): a trade that reaches into the predicted time would tell the model about it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline_assets.errors import InternalError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]

# The share of the training examples, the latest ones, on which probabilities are calibrated.
_CALIBRATION = 0.25


class LeakError(InternalError):
    """A training example's outcome reaches into the time that is predicted: the figures would be too good."""


@dataclass(frozen=True)
class Fold:
    """Rows of the examples, each in the order of time.

    Attributes:
        fit: on which a model is fitted.
        calibrate: later ones, on which its probabilities are calibrated.
        test: still later ones, which are predicted.
    """

    fit: "Whole"
    calibrate: "Whole"
    test: "Whole"


@dataclass(frozen=True)
class Times:
    """When each example's candle closed and when its outcome was known: microseconds, by time of close."""

    closed: "Whole"
    known: "Whole"

    def before(self, row: int, embargo: int, rows: "Whole | None" = None) -> "Whole":
        """Return the rows before a row whose outcome was known an embargo before its candle closed."""
        earlier = np.arange(row) if rows is None else rows[rows < row]
        found: Whole = earlier[self.known[earlier] + embargo <= self.closed[row]]
        return found


def walk_forward(times: Times, folds: int, embargo: int) -> list[Fold]:
    """Return the folds: test parts of equal size at the end of the span, one after the other.

    The first training part is as large as two test parts. Later ones hold all that came before.

    Args:
        times: of the examples.
        folds: the number of test parts.
        embargo: in microseconds.
    """
    number = len(times.closed)
    size = number // (folds + 2)
    found = []
    for fold in range(folds):
        first = number - (folds - fold) * size
        test = np.arange(first, first + size)
        found.append(_fold(times, times.before(first, embargo), test, embargo))
    return found


def whole(times: Times, embargo: int) -> Fold:
    """Return the fold of the final model, which uses every example and tests none."""
    rows = np.arange(len(times.closed))
    return _fold(times, rows, rows[:0], embargo)


def check_no_leak(times: Times, folds: Sequence[Fold], embargo: int) -> None:
    """Refuse folds in which an outcome reaches into a later part.

    Raises:
        LeakError: the message names the fold and the example.
    """
    for number, fold in enumerate(folds):
        for earlier, later in ((fold.fit, fold.calibrate), (fold.calibrate, fold.test)):
            if not len(earlier) or not len(later):
                continue
            begins = times.closed[later].min()
            leaking = earlier[times.known[earlier] + embargo > begins]
            if len(leaking):
                raise LeakError(
                    f"Fold {number}: the outcome of example {leaking[0]} was not known an embargo before the "
                    "examples that follow it. Report it: the figures of this model would be too good."
                )


def _fold(times: Times, train: "Whole", test: "Whole", embargo: int) -> Fold:
    """Split a training part into the examples to fit and, after these, those to calibrate."""
    calibrate = train[len(train) - int(len(train) * _CALIBRATION) :]
    fit = times.before(int(calibrate[0]), embargo, train) if len(calibrate) else train
    return Fold(fit, calibrate, test)
