"""Intervals of confidence for the report: of a share by Wilson's score, of a mean by the bootstrap of blocks.
Both hold the true value 19 times in 20. The bootstrap itself is in research/block_bootstrap.py.
"""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from pipeline_assets.research.block_bootstrap import DAY, Blocks
from pipeline_assets.research.daily_report.parts import Edition

if TYPE_CHECKING:
    import polars as pl

_NORMAL = 1.959963984540054
_LIMITS = (2.5, 97.5)
# Fewer blocks than these say nothing about how blocks differ.
LEAST_BLOCKS = 6
_HOUR = timedelta(hours=1)
_SEED = 20


@dataclass(frozen=True)
class Limits:
    """The limits of an interval; NaN where there are too few observations."""

    low: float
    high: float


def wilson(positive: int, cases: int) -> Limits:
    """Return the interval of a share by Wilson's score."""
    if not cases:
        return Limits(math.nan, math.nan)
    share, squared = positive / cases, _NORMAL**2
    middle = (share + squared / (2 * cases)) / (1 + squared / cases)
    reach = _NORMAL * math.sqrt(share * (1 - share) / cases + squared / (4 * cases**2))
    reach /= 1 + squared / cases
    return Limits(max(0.0, middle - reach), min(1.0, middle + reach))


def block_of(edition: Edition, horizon: timedelta) -> timedelta:
    """Return the length of blocks: whole days, and in a day's edition the horizon or at least one hour."""
    return max(_HOUR, horizon) if edition.kind == "day" else DAY


def mean_limits(hours: "pl.DataFrame", total: str, length: timedelta) -> Limits:
    """Return the interval of a mean over all cases of some hours.

    Args:
        hours: `hour`, `cases` and the sum of the values of these cases.
        total: the column of the sums.
        length: of a block.
    """
    counted = hours.filter(hours["cases"] > 0)
    blocks = Blocks(counted["hour"].to_physical().to_numpy(), length, _SEED)
    if blocks.number < LEAST_BLOCKS:
        return Limits(math.nan, math.nan)
    rows = np.ones(counted.height, bool)
    # Both are means of a row in the same draw, so that their ratio is the mean of a case.
    sums = blocks.draws(counted[total].to_numpy().astype(np.float64), rows)
    cases = blocks.draws(counted["cases"].to_numpy().astype(np.float64), rows)
    low, high = np.percentile(sums / cases, _LIMITS)
    return Limits(float(low), float(high))
