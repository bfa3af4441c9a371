"""The baselines that a model must beat, and whether it does: trading every candidate, trading none, buying
and holding, and knowing nothing but the share of winners. Predictions are made in training.py.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

ALWAYS, NEVER, HOLD, BASE_RATE = "always", "never", "buy_and_hold", "base_rate"
# Fewer days or trades say nothing about a model, however good these look.
FEWEST_BLOCKS, FEWEST_TRADED = 20, 50
# Probabilities that are this far off their frequencies on average are of use still. Above the most they are
# not, though chance may explain it.
_CALIBRATED, _MOST_UNCALIBRATED = 0.02, 0.1
_SENTENCES = {
    ALWAYS: "It is not surely better than trading every candidate",
    NEVER: "It does not surely earn money after costs",
    HOLD: "It is not surely better than holding the symbols for the same hours",
    BASE_RATE: "Its probabilities are not surely better than the plain share of winners",
}


def baseline_returns(predictions: "pl.DataFrame") -> "dict[str, Array]":
    """Return the net return of each candidate by each baseline, in the order of the rows.

    `buy_and_hold` holds a candidate's symbol for as long as the model's trade lasts, at the mean rise of
    the symbol over the whole span, without costs: the same exposure without any timing. It is 0 where the
    model does not trade.

    Args:
        predictions: `symbol`, `open_time`, `price`, `net_return`, `minutes` and `traded`, in the order of
    time.
    """
    import polars as pl

    first, last = pl.col("price").first(), pl.col("price").last()
    span = (pl.col("open_time").last() - pl.col("open_time").first()).dt.total_minutes()
    rise = pl.when(span > 0).then((last / first - 1) / span).otherwise(0.0).over("symbol")
    held = pl.when("traded").then(rise * pl.col("minutes")).otherwise(0.0)
    found = predictions.select(held=held)["held"].to_numpy()
    net = predictions["net_return"].to_numpy()
    return {ALWAYS: net, NEVER: np.zeros(len(net)), HOLD: found}


def holding_return(predictions: "pl.DataFrame") -> float:
    """Return what buying every symbol in equal parts and holding it over the span earns, without costs."""
    import polars as pl

    rise = pl.col("price").last() / pl.col("price").first() - 1
    by_symbol = predictions.group_by("symbol", maintain_order=True).agg(rise=rise)
    return float(by_symbol["rise"].mean() or 0.0)  # type: ignore[arg-type]


def failures(metrics: Mapping[str, float]) -> tuple[str, ...]:
    """Return why a model does not pass, one sentence each; none if it does.

    A model must be better than each baseline by more than chance explains: the lower limit of the 90 %
    interval of the difference must be above 0. So a model without any skill passes once in twenty at most.

    Args:
        metrics: the figures of `model_metrics.py`.
    """
    found = []
    if metrics["blocks"] < FEWEST_BLOCKS:
        found.append(
            f"Out of sample there are {metrics['blocks']:.0f} independent spans of time, and {FEWEST_BLOCKS} "
            "are needed."
        )
    # Hardly a draw of days misses all of a few good ones, so the interval would say "surely".
    if metrics["traded"] < FEWEST_TRADED or metrics["traded_blocks"] < FEWEST_BLOCKS:
        found.append(
            f"Out of sample it trades {metrics['traded']:.0f} candidates in {metrics['traded_blocks']:.0f} "
            f"independent spans of time, and {FEWEST_TRADED} in {FEWEST_BLOCKS} are needed."
        )
    for name, sentence in _SENTENCES.items():
        low = metrics[f"edge_{name}_low"]
        # Returns of no trade are no returns: the sentence above says why.
        if not low > 0 and (metrics["traded"] or name == BASE_RATE):
            mean, high = metrics[f"edge_{name}"], metrics[f"edge_{name}_high"]
            found.append(f"{sentence}: {_difference(name, mean, low, high)}.")
    error = metrics["calibration_error"]
    allowed = min(max(_CALIBRATED, metrics["calibration_error_chance"]), _MOST_UNCALIBRATED)
    if not error <= allowed:
        found.append(
            f"Its probabilities are {error:.2%} off their frequencies on average; {allowed:.2%} is allowed."
        )
    return tuple(found)


def _difference(name: str, mean: float, low: float, high: float) -> str:
    """Return in words by how much a model is better than a baseline, in the units of the model card."""
    if name == BASE_RATE:
        return f"log loss better by {mean:+.5f}, interval {low:+.5f} to {high:+.5f}"
    mean, low, high = (each * 1e4 for each in (mean, low, high))
    return f"better by {mean:+.2f} basis points a candidate, interval {low:+.2f} to {high:+.2f}"
