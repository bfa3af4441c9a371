"""Clusters of symbols whose hourly returns move together, by hierarchical clustering. Pure, and the same
closes give the same order. Closes are read in market.py.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

_HOUR = timedelta(hours=1)
# Returns that two symbols need in common: with fewer, correlations of 0.7 come by chance.
LEAST_RETURNS = 12
# Symbols are joined while the mean correlation between their groups is at least this.
TOGETHER = 0.7


@dataclass(frozen=True)
class Clusters:
    """Correlations of hourly returns.

    Attributes:
        symbols: in the order of the tree: neighbours are alike.
        correlations: a row and a column for each of these.
        groups: the clusters of at least two symbols, the largest first.
        mean: the mean correlation of two symbols.
        returns: how many returns each symbol has.
        left_out: how many symbols miss an hour, or have a price that did not move.
    """

    symbols: tuple[str, ...]
    correlations: "Array"
    groups: tuple[tuple[str, ...], ...]
    mean: float
    returns: int
    left_out: int


def clusters_of(closes: "pl.DataFrame") -> Clusters | None:
    """Return the clusters of symbols; None if fewer than two have enough returns.

    A symbol with a missing hour, or whose price did not move, is left out.

    Args:
        closes: `symbol`, `open_time` of each hour, `close`.
    """
    returns = _returns(closes)
    if returns.width < 2 or returns.height < LEAST_RETURNS:
        return None
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
    from scipy.spatial.distance import squareform

    symbols = returns.columns
    found = np.clip(np.corrcoef(returns.to_numpy(), rowvar=False), -1, 1)
    # Rounded, because sums of floats differ between processors, and a tie would be broken by noise.
    distances = np.round(1 - (found + found.T) / 2, 9)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    order = [int(each) for each in leaves_list(tree)]
    if symbols[order[0]] > symbols[order[-1]]:
        order.reverse()
    labels = fcluster(tree, 1 - TOGETHER, "distance")
    held: dict[int, list[str]] = {}
    for place in order:
        held.setdefault(int(labels[place]), []).append(symbols[place])
    groups = sorted((tuple(each) for each in held.values() if len(each) > 1), key=_largest)
    others = found[~np.eye(len(symbols), dtype=bool)]
    return Clusters(
        symbols=tuple(symbols[place] for place in order),
        correlations=found[np.ix_(order, order)],
        groups=tuple(groups),
        mean=float(others.mean()),
        returns=returns.height,
        left_out=closes["symbol"].n_unique() - len(symbols),
    )


def _largest(group: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    return -len(group), group


def _returns(closes: "pl.DataFrame") -> "pl.DataFrame":
    """Return a column of returns for each symbol that has all hours, by name."""
    import polars as pl

    if closes.is_empty():
        return pl.DataFrame()
    hours = int((closes["open_time"].max() - closes["open_time"].min()) / _HOUR) + 1  # type: ignore[operator]
    wide = closes.sort("symbol", "open_time").pivot("symbol", index="open_time", values="close")
    if wide.height < hours:
        # An hour that no symbol has would make one return of two hours.
        return pl.DataFrame()
    columns = [each for each in wide.columns[1:] if not wide[each].null_count()]
    changes = wide.sort("open_time").select(pl.col(columns).log().diff()).slice(1)
    moved = [each for each in columns if (changes[each].std() or 0) > 0]  # type: ignore[operator]
    return changes.select(sorted(moved))
