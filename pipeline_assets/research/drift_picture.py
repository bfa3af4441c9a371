"""The picture of drifted features as PNG. Figures come from drift.py."""

from collections.abc import Sequence

from pipeline_assets.research.drift_documents import DriftReport
from pipeline_assets.research.pictures import BLUE, GREY, ORANGE, figure, plain, png
from pipeline_assets.research.stability import SHIFTED, SHIFTED_SLIGHTLY

_MOST_BARS = 20


def drift_picture(reports: Sequence[DriftReport]) -> bytes:
    """Return the features that moved most, of all strategies; lines show where a shift begins."""
    several = len(reports) > 1
    bars = [
        (each.index, f"{report.strategy}: {each.name}" if several else each.name)
        for report in reports
        for each in report.features
    ]
    # The largest bar on top.
    shown = sorted(bars, key=lambda each: (-each[0], each[1]))[:_MOST_BARS][::-1]
    drawn = figure(7, 1.1 + 0.22 * len(shown))
    axes = drawn.subplots()
    indexes = [index for index, _ in shown]
    axes.barh([name for _, name in shown], indexes, color=[_colour(each) for each in indexes])
    for limit, style in ((SHIFTED_SLIGHTLY, ":"), (SHIFTED, "--")):
        axes.axvline(limit, color=GREY, linewidth=0.9, linestyle=style)
    axes.set_xlim(0, max([1.2 * SHIFTED, *(1.05 * each for each in indexes)]))
    axes.set_xlabel(
        f"population stability index: from {SHIFTED_SLIGHTLY} a little, from {SHIFTED} moved"
    )
    plain(axes)
    return png(drawn)


def _colour(index: float) -> str:
    if index >= SHIFTED:
        return ORANGE
    return BLUE if index >= SHIFTED_SLIGHTLY else GREY
