"""The figures of a model, drawn from its predictions out of sample. Every mean has the interval that holds
the true value nine times in ten, by block_bootstrap.py. Rules that use the figures are in baselines.py.

Net returns are after fees, slippage and funding, per unit of notional of one trade; per candidate they
count 0 for a candidate that is not traded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline_assets.research.baselines import BASE_RATE, baseline_returns, holding_return
from pipeline_assets.research.block_bootstrap import DAY, Blocks, Estimate, block_length

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

BUCKETS = 10
_SMALLEST = 1e-9


@dataclass(frozen=True)
class Group:
    """Some candidates out of sample: a bucket of probability, a month or a symbol.

    Attributes:
        name: what they have in common.
        candidates: how many there are.
        traded: how many the model trades.
        probability: the mean probability.
        win_rate: the share that earned money.
        net_return: of every candidate, traded or not.
        traded_return: of the candidates that the model trades.
    """

    name: str
    candidates: int
    traded: int
    probability: float
    win_rate: Estimate
    net_return: Estimate
    traded_return: Estimate


@dataclass(frozen=True)
class Figures:
    """All figures of a model.

    Attributes:
        metrics: by name, see `figures`.
        baselines: the mean net return a candidate of each baseline; of `base_rate` the log loss.
        buckets: ten equal parts by probability, the least likely first.
        months: by month.
        symbols: by symbol.
    """

    metrics: dict[str, float]
    baselines: dict[str, float]
    buckets: Sequence[Group]
    months: Sequence[Group]
    symbols: Sequence[Group]


def figures(predictions: "pl.DataFrame", seed: int) -> Figures:
    """Return the figures of predictions out of sample.

    Names that end in `_low` and `_high` are limits of an interval. `net_return` is per candidate,
    `traded_return` per traded candidate, `edge_…` the difference to a baseline per candidate (of
    `base_rate`: the log loss that the model saves), `calibration_error` the mean distance of probability
    and frequency over ten buckets, and `calibration_error_chance` the distance that chance explains 19
    times in 20.

    Args:
        predictions: `symbol`, `open_time`, `price`, `net_return`, `minutes`, `probability`, `base_rate`,
            `traded`, in the order of time.
        seed: of the draws.
    """
    view = _View(predictions, seed)
    net, traded, won = view.net, view.traded, view.won
    earned = np.where(traded, net, 0.0)
    loss, plain = log_losses(won, view.probability), log_losses(won, view.base_rate)
    error, chance = view.calibration()
    metrics = {
        "candidates": float(len(net)),
        "traded": float(traded.sum()),
        "blocks": float(view.blocks.number),
        "traded_blocks": float(view.blocks.number_of(traded)),
        "block_days": view.length / DAY,
        "log_loss": float(loss.mean()),
        "brier": float(((view.probability - won) ** 2).mean()),
        "roc_auc": _roc_auc(won, view.probability),
        "calibration_error": error,
        "calibration_error_chance": chance,
        "buy_and_hold_of_the_span": holding_return(predictions),
        **_named("win_rate", view.blocks.estimate(won)),
        **_named("traded_win_rate", view.blocks.estimate(won, traded)),
        **_named("net_return", view.blocks.estimate(earned)),
        **_named("traded_return", view.blocks.estimate(net, traded)),
    }
    baselines = {}
    for name, returns in baseline_returns(predictions).items():
        baselines[name] = float(returns.mean())
        metrics |= _named(f"edge_{name}", view.blocks.estimate(earned - returns))
    baselines[BASE_RATE] = float(plain.mean())
    metrics |= _named(f"edge_{BASE_RATE}", view.blocks.estimate(plain - loss))
    months = predictions["open_time"].dt.strftime("%Y-%m").to_numpy()
    return Figures(
        {name: value for name, value in metrics.items() if np.isfinite(value)},
        baselines,
        view.groups(np.array([f"{each + 1}" for each in view.buckets]), in_order=True),
        view.groups(months),
        view.groups(predictions["symbol"].to_numpy()),
    )


def log_losses(won: "Array", probability: "Array") -> "Array":
    """Return the log loss of each probability."""
    likely = np.clip(probability, _SMALLEST, 1 - _SMALLEST)
    found: Array = -np.log(np.where(won > 0, likely, 1 - likely))
    return found


def _named(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _roc_auc(won: "Array", probability: "Array") -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(won, probability)) if 0 < won.mean() < 1 else np.nan


class _View:
    """The predictions as arrays, with their blocks and buckets."""

    def __init__(self, predictions: "pl.DataFrame", seed: int) -> None:
        self.net: Array = predictions["net_return"].to_numpy()
        self.won: Array = (self.net > 0).astype(np.float64)
        self.traded: NDArray[np.bool_] = predictions["traded"].to_numpy()
        self.probability: Array = predictions["probability"].to_numpy()
        self.base_rate: Array = predictions["base_rate"].to_numpy()
        self.length = block_length(predictions["minutes"].to_numpy())
        self.blocks = Blocks(predictions["open_time"].to_physical().to_numpy(), self.length, seed)
        order = np.argsort(self.probability, kind="stable")
        self.buckets = np.empty(len(order), np.int64)
        self.buckets[order] = np.arange(len(order)) * BUCKETS // max(len(order), 1)

    def calibration(self) -> tuple[float, float]:
        """Return the mean distance of probability and frequency, and the distance that chance explains."""
        gaps, drawn, shares = [], [], []
        for bucket in range(BUCKETS):
            inside = self.buckets == bucket
            if inside.any():
                gap = self.won - self.probability
                gaps.append(abs(gap[inside].mean()))
                # Around the gap that was found: how far a gap moves by the choice of days alone.
                drawn.append(np.abs(self.blocks.draws(gap, inside) - gap[inside].mean()))
                shares.append(inside.mean())
        by_chance = np.nan_to_num(np.array(drawn)).T @ np.array(shares)
        return float(np.dot(gaps, shares)), float(np.quantile(by_chance, 0.95))

    def groups(self, names: "NDArray[np.str_]", *, in_order: bool = False) -> list[Group]:
        """Return the figures of the candidates that share a name."""
        found = sorted(set(names.tolist()), key=int if in_order else None)
        return [self._group(name, names == name) for name in found]

    def _group(self, name: str, inside: "NDArray[np.bool_]") -> Group:
        traded = inside & self.traded
        return Group(
            name=name,
            candidates=int(inside.sum()),
            traded=int(traded.sum()),
            probability=float(self.probability[inside].mean()),
            win_rate=self.blocks.estimate(self.won, inside),
            net_return=self.blocks.estimate(self.net, inside),
            traded_return=self.blocks.estimate(self.net, traded),
        )
