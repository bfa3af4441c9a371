"""The protocol of an indicator, and the recursion that most of them share. No indicator is defined here."""

import math
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

from pydantic import Field

from pipeline_assets.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Counts = NDArray[np.int64]

# TA-Lib takes up to 100,000; a state would then hold as many numbers a symbol.
Period = Annotated[int, Field(ge=2, le=5000)]

SEED_WEIGHT = 1e-12
# For means that decay while prices stand still: an old move may be all that is left in such a mean, and
# must still outweigh the seed. This weight leaves room for hundreds of flat candles.
DECAYING_SEED_WEIGHT = 1e-32


class IndicatorError(InputError, ValueError):
    """Candles or states that indicators cannot work on. The message says which and what to do."""


class Candles(NamedTuple):
    """Columns of candles, float64: of one symbol along time, or of many symbols at their newest."""

    high: "Array"
    low: "Array"
    close: "Array"
    volume: "Array"


class Indicator(Protocol):
    """One indicator with its parameters: a frozen dataclass, equal to another of equal parameters."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of its values; they carry the parameters, so no two indicators share one."""

    @property
    def candles_needed(self) -> int:
        """How many candles make its value independent of where the history began."""

    @property
    def height(self) -> int:
        """How many numbers its state takes for each symbol. All are 0 before the first candle."""

    def history(self, candles: Candles) -> "tuple[Array, ...]":
        """Return its values along the candles of one symbol, one array a column; NaN before the first."""

    def advance(
        self, state: "Array", candles: Candles, close_before: "Array", seen: "Counts"
    ) -> "tuple[Array, ...]":
        """Return its values after one more candle of each symbol, one array a column; NaN before the first.

        Args:
            state: its numbers, (height, symbols); moved on in place.
            candles: the new candle of each symbol.
            close_before: the close of the candle before it; NaN where there is none.
            seen: how many candles each symbol has had, this one included.
        """


def candles_to_forget(weight: float, seed_weight: float = SEED_WEIGHT) -> int:
    """After how many more values a seed counts for less than `seed_weight` in an exponential mean."""
    return math.ceil(math.log(seed_weight) / math.log1p(-weight))


def move_mean(mean: "Array", new: "Array", weight: float, period: int, seen: "Counts") -> None:
    """Move exponential means on by one value each, in place; seeded by the mean of the first values.

    Args:
        mean: one a symbol; the sum of the values so far until there are `period`.
        new: the new values.
        weight: of the new value: 2 / (period + 1) for an EMA, 1 / period for Wilder's smoothing.
        period: how many values make the seed.
        seen: how many values each has had, the new one included; below 1 the new one is left out.
    """
    import numpy as np

    moved = mean + (new - mean) * weight
    if not np.all(seen > period):
        total = np.where(seen < 1, 0.0, mean + new)
        moved = np.where(seen > period, moved, np.where(seen == period, total / period, total))
    mean[:] = moved


def window_mean(window: "Array") -> "Array":
    """Return the mean of each column, added row by row: NumPy's own order, and so the last bit, depends on
    how many symbols stand beside each other.
    """
    mean: Array = window[0].copy()
    for row in window[1:]:
        mean += row
    mean /= len(window)
    return mean


def known(values: "Array", seen: "Counts", first: int) -> "Array":
    """Return the values of symbols that have seen `first` candles or more, NaN for the others."""
    import numpy as np

    return np.where(seen >= first, values, np.nan)
