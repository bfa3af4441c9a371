"""The pictures of a model card as PNG. Figures come from model_metrics.py, the page from model_card.py."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline_assets.research.block_bootstrap import Estimate
from pipeline_assets.research.importance import Importance
from pipeline_assets.research.model_metrics import Group
from pipeline_assets.research.pictures import BLUE, GREY, ORANGE, figure, plain, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BASIS_POINTS = 1e4
MOST_BARS = 30


def calibration_picture(buckets: Sequence[Group]) -> bytes:
    """Return probability and frequency of winning by bucket; a calibrated model lies on the diagonal."""
    drawn = figure(5.2, 4.6)
    axes = drawn.subplots()
    likely = [each.probability for each in buckets]
    rates = [each.win_rate for each in buckets]
    ends = [*likely, *(each.low for each in rates), *(each.high for each in rates)]
    diagonal = [min(ends), max(ends)]
    axes.plot(diagonal, diagonal, color=GREY, linewidth=0.8, linestyle="--")
    axes.errorbar(
        likely,
        [each.mean for each in rates],
        yerr=_errors(rates, 1),
        color=BLUE,
        marker="o",
        markersize=4,
        linewidth=1,
        elinewidth=0.8,
        capsize=2,
    )
    axes.set_xlabel("probability of the model")
    axes.set_ylabel("share that won")
    plain(axes)
    return png(drawn)


def bucket_picture(buckets: Sequence[Group]) -> bytes:
    """Return the mean net return of all candidates in each bucket of probability, in basis points."""
    drawn = figure(7, 3.6)
    axes = drawn.subplots()
    returns = [each.net_return for each in buckets]
    _bars(axes, [f"{each.probability:.2f}" for each in buckets], returns)
    axes.set_xlabel("mean probability of the bucket")
    axes.set_ylabel("net return, basis points")
    return png(drawn)


def importance_picture(importances: Sequence[Importance]) -> bytes:
    """Return how much the log loss grows when a column is permuted, for the first columns."""
    shown = list(importances)[:20][::-1]
    drawn = figure(7, 0.9 + 0.22 * len(shown))
    axes = drawn.subplots()
    means = [each.mean for each in shown]
    estimates = [Estimate(each.mean, each.low, each.high) for each in shown]
    axes.barh(
        [each.column for each in shown], means, color=BLUE, xerr=_errors(estimates, 1), ecolor=GREY
    )
    axes.set_xlabel("growth of the log loss")
    plain(axes)
    return png(drawn)


def group_picture(groups: Sequence[Group]) -> bytes:
    """Return the mean net return of the candidates that the model trades, by group, in basis points."""
    drawn = figure(9, 3.6)
    axes = drawn.subplots()
    shown = [each for each in groups if each.traded][:MOST_BARS]
    _bars(axes, [each.name for each in shown], [each.traded_return for each in shown])
    axes.tick_params(axis="x", rotation=60 if len(shown) > 8 else 0)
    axes.set_ylabel("net return a trade, basis points")
    return png(drawn)


def _bars(axes: "Axes", names: Sequence[str], returns: Sequence[Estimate]) -> None:
    means = [each.mean * _BASIS_POINTS for each in returns]
    places = range(len(names))
    axes.bar(
        places,
        means,
        color=[BLUE if each >= 0 else ORANGE for each in means],
        yerr=_errors(returns, _BASIS_POINTS),
        ecolor=GREY,
        error_kw={"elinewidth": 0.8, "capsize": 2},
    )
    axes.set_xticks(list(places), list(names))
    axes.axhline(0, color=GREY, linewidth=0.8)
    plain(axes)


def _errors(estimates: Sequence[Estimate], times: float) -> list[list[float]]:
    """Return the distances from the means to their limits, as matplotlib takes them."""
    # With a few blocks a mean may lie outside of its limits.
    below = [max((each.mean - each.low) * times, 0.0) for each in estimates]
    above = [max((each.high - each.mean) * times, 0.0) for each in estimates]
    return [below, above]
