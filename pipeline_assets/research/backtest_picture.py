"""Equity and drawdown of a backtest as a PNG. The curves are computed in report_curves.py."""

from datetime import UTC, datetime

from pipeline_assets.research.backtest_types import BacktestResult
from pipeline_assets.research.pictures import BLUE, GREY, ORANGE, figure, plain, png
from pipeline_assets.research.report_curves import curves


def backtest_picture(result: BacktestResult) -> bytes:
    """Return equity and, below it, drawdown as a PNG. The same result gives the same bytes."""
    drawn = figure(9, 4.6)
    above, below = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    (times, equity), (_, drawdown) = curves(result)
    moments = [datetime.fromtimestamp(each, UTC) for each in times]
    above.plot(moments, equity, color=BLUE, linewidth=1.4)
    above.axhline(float(result.request["capital"]), color=GREY, linewidth=0.8, linestyle="--")
    above.set_ylabel("equity")
    above.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    below.fill_between(moments, drawdown, 0, color=ORANGE, alpha=0.35, linewidth=0)
    below.plot(moments, drawdown, color=ORANGE, linewidth=0.8)
    below.set_ylabel("drawdown, %")
    for axes in (above, below):
        plain(axes)
    return png(drawn)
