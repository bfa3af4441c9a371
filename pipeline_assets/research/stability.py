"""The population stability index: how far live values moved from those of a training. Pure; which values are
compared is decided in drift.py.

A training leaves nine deciles and the share of nulls of each column. Where deciles are equal, as in a column
of a few values, they tell the training's shares only within limits. The index is then the smallest one that
these limits allow: equal samples have an index of 0, and a constant column that stays constant, too.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

# Naeem Siddiqi, Credit Risk Scorecards (Wiley, 2006): below 0.1 no change to speak of, from 0.25 on a shift.
SHIFTED_SLIGHTLY, SHIFTED = 0.1, 0.25
# With a smaller one, a few nulls of a column that never had any would look like a shift.
_SMALLEST = 0.005


def stability_index(live: Sequence[float], trained: Sequence[float], smallest: float) -> float:
    """Return the index of two distributions over the same groups, 0 or above; their order does not matter.

    Args:
        live: the share of each group.
        trained: the same in the training.
        smallest: counts in place of a smaller share: the index of an empty group would be infinite.
    """
    total = 0.0
    for now, then in zip(live, trained, strict=True):
        share, expected = max(now, smallest), max(then, smallest)
        total += (share - expected) * math.log(share / expected)
    return float(total)


def smallest_share(number: int) -> float:
    """Return the share that counts in place of smaller ones: half a percent, or half of one value."""
    return max(_SMALLEST, 0.5 / number)


def column_index(values: "Array", deciles: Sequence[float], missing: float) -> float:
    """Return the index of a column: nulls are a group beside the ten between the deciles.

    Args:
        values: at least one live value; NaN is null.
        deciles: the nine inner deciles of the training; empty where every value was null.
        missing: the share of nulls in the training.
    """
    known = values[~np.isnan(values)]
    live_missing = 1 - len(known) / len(values)
    smallest = smallest_share(len(values))
    if len(known) == 0 or len(deciles) == 0:
        return stability_index([live_missing, 1 - live_missing], [missing, 1 - missing], smallest)
    shares = decile_shares(known, deciles)
    return stability_index(
        [live_missing, *(shares * (1 - live_missing))],
        [missing, *([(1 - missing) / len(shares)] * len(shares))],
        smallest,
    )


def decile_shares(values: "Array", deciles: Sequence[float]) -> "Array":
    """Return the share of values between each two deciles.

    A value that equals a decile may count on either side of it, in parts: it counts where the shares are most
    alike. Otherwise a column of two values would have eight empty groups.
    """
    ordered, cuts = np.sort(values), np.asarray(deciles)
    low, high = (
        np.concatenate([[0.0], np.searchsorted(ordered, cuts, side) / len(ordered), [1.0]])
        for side in ("left", "right")
    )
    below = low.copy()
    _straighten(below, low, high, 0, len(below) - 1)
    shares: Array = np.diff(below)
    return shares


def _straighten(below: "Array", low: "Array", high: "Array", first: int, last: int) -> None:
    """Fill the cumulated shares between two places: as straight as the limits allow.

    Among all lines within the limits, the straightest has the smallest index. It touches a limit where the
    straight line between two of its places is farthest beyond that limit.
    """
    if last - first < 2:
        return
    inner = slice(first + 1, last)
    line = np.linspace(below[first], below[last], last - first + 1)[1:-1]
    over, under = line - high[inner], low[inner] - line
    if max(over.max(), under.max()) <= 0:
        below[inner] = line
        return
    limit, beyond = (high, over) if over.max() >= under.max() else (low, under)
    touched = first + 1 + int(beyond.argmax())
    below[touched] = limit[touched]
    _straighten(below, low, high, first, touched)
    _straighten(below, low, high, touched, last)
