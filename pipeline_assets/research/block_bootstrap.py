"""Confidence intervals of means over examples that depend on each other, by a bootstrap of blocks of time.

Candidates of the same hours share the market's move, and their trades overlap: drawn one by one they would
look like many more observations than there are. Whole days are drawn instead, all symbols together.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Whole = NDArray[np.int64]

DAY = timedelta(days=1)
_DRAWS = 1000
# The limits of an interval that holds the true value nine times in ten.
_LOW, _HIGH = 5, 95


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval; NaN where no example counts."""

    mean: float
    low: float
    high: float


class Blocks:
    """The blocks of some examples, and draws of these with replacement."""

    def __init__(self, microseconds: "Whole", length: timedelta, seed: int) -> None:
        """Cut the span into blocks.

        Args:
            microseconds: the time of each example.
            length: of a block: longer than most trades last.
            seed: of the draws.
        """
        span = length // timedelta(microseconds=1)
        _, self._place = np.unique(microseconds // span, return_inverse=True)
        self.number = int(self._place.max()) + 1 if len(self._place) else 0
        drawn = np.random.default_rng(seed)
        share = np.full(self.number, 1 / self.number) if self.number else np.empty(0)
        self._weights = drawn.multinomial(self.number, share, _DRAWS).astype(np.float64)

    def number_of(self, chosen: "NDArray[np.bool_]") -> int:
        """Return how many blocks have an example that counts."""
        return len(np.unique(self._place[chosen]))

    def estimate(self, values: "Array", counted: "NDArray[np.bool_] | None" = None) -> Estimate:
        """Return the mean of values with its interval, over the examples that count."""
        chosen = np.ones(len(values), bool) if counted is None else counted
        if not chosen.any():
            return Estimate(np.nan, np.nan, np.nan)
        drawn = self.draws(values, chosen)
        low, high = np.nanpercentile(drawn, (_LOW, _HIGH))
        return Estimate(float(values[chosen].mean()), float(low), float(high))

    def draws(self, values: "Array", chosen: "NDArray[np.bool_]") -> "Array":
        """Return the mean of values in each draw; NaN in a draw without an example that counts."""
        sums: Array = self._weights @ self._totals(np.where(chosen, values, 0.0))
        counts = self._weights @ self._totals(chosen.astype(np.float64))
        found = np.full(len(sums), np.nan)
        np.divide(sums, counts, out=found, where=counts > 0)
        return found

    def _totals(self, values: "Array") -> "Array":
        return np.bincount(self._place, values, self.number).astype(np.float64)


def block_length(minutes: "Array") -> timedelta:
    """Return the length of blocks for trades of these durations: whole days, twice what most trades take."""
    longest = float(np.quantile(minutes, 0.95)) if len(minutes) else 0.0
    return max(DAY, DAY * int(np.ceil(2 * longest / 1440)))
