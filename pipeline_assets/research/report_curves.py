"""Equity and drawdown as curves for the report and the picture. Figures drawn from them are in metrics.py."""

from typing import TYPE_CHECKING

from pipeline_assets.research.backtest_types import BacktestResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_POINTS = 4000


def curves(result: BacktestResult) -> tuple[list[list[float]], list[list[float]]]:
    """Return equity and drawdown (percent, below 0) as [times in seconds, values].

    A long curve is thinned: the last equity of each span, and the worst drawdown.
    """
    import numpy as np

    times = [int(each.timestamp()) for each in result.equity["time"].to_pylist()]
    values = result.equity["equity"].to_numpy()
    fallen = drawdowns(values, float(result.request["capital"])) * 100
    step = -(-len(times) // _MOST_POINTS) or 1
    ends = [*range(step - 1, len(times), step)]
    if times and (not ends or ends[-1] != len(times) - 1):
        ends.append(len(times) - 1)
    starts = [0, *(end + 1 for end in ends[:-1])]
    chosen = [times[end] for end in ends]
    worst = [float(np.min(fallen[a : b + 1])) for a, b in zip(starts, ends, strict=False)]
    equity = [round(float(values[end]), 4) for end in ends]
    return [chosen, equity], [chosen, [round(each, 4) for each in worst]]


def drawdowns(equity: "NDArray[np.float64]", capital: float) -> "NDArray[np.float64]":
    """Return the loss from the highest equity until then, as a part of that equity: 0 and below."""
    import numpy as np

    peak = np.maximum(np.maximum.accumulate(equity), capital) if len(equity) else equity
    fallen: NDArray[np.float64] = equity / peak - 1
    return fallen
