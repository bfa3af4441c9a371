"""Equity and drawdown of a backtest as a PNG. The curves are computed in report_curves.py."""

import io
from datetime import UTC, datetime

from pipeline_assets.research.backtest_types import BacktestResult
from pipeline_assets.research.report_curves import curves

_EQUITY, _DRAWDOWN, _LINES = "#0072b2", "#b34700", "#d5dae0"


def backtest_picture(result: BacktestResult) -> bytes:
    """Return equity and, below it, drawdown as a PNG. The same result gives the same bytes."""
    # A figure of its own needs no display and shares no state, as pyplot's do.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.6), dpi=100, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    (times, equity), (_, drawdown) = curves(result)
    moments = [datetime.fromtimestamp(each, UTC) for each in times]
    above.plot(moments, equity, color=_EQUITY, linewidth=1.4)
    above.axhline(float(result.request["capital"]), color="#5b6570", linewidth=0.8, linestyle="--")
    above.set_ylabel("equity")
    above.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    below.fill_between(moments, drawdown, 0, color=_DRAWDOWN, alpha=0.35, linewidth=0)
    below.plot(moments, drawdown, color=_DRAWDOWN, linewidth=0.8)
    below.set_ylabel("drawdown, %")
    for axes in (above, below):
        axes.grid(visible=True, color=_LINES, linewidth=0.6)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    drawn = io.BytesIO()
    # The version of matplotlib in the file would change its bytes.
    figure.savefig(drawn, format="png", metadata={"Software": None})
    return drawn.getvalue()
