"""Parts that a report's charts share: series, units, zero lines, short names and numbers."""

from typing import TYPE_CHECKING

from pipeline_assets.research.daily_report.parts import Chart
from pipeline_assets.research.pictures import GREY

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

LABEL_CHARACTERS = 26


def series_of(chart: Chart, data: "pl.DataFrame") -> "list[tuple[str, pl.DataFrame]]":
    """Return the rows of each series, in the order of the data."""
    if chart.series is None:
        return [("", data)]
    named = data.partition_by(chart.series, maintain_order=True)
    return [(str(each[chart.series][0]), each) for each in named]


def zero_line(axes: "Axes") -> None:
    """Draw the zero line where values lie on both sides of it."""
    low, high = axes.get_ylim()
    if low < 0 < high:
        axes.axhline(0, color=GREY, linewidth=0.8)


def show_unit(axes: "Axes", unit: str) -> None:
    """Write the unit above the axis, and numbers at it in their short form."""
    if unit:
        axes.set_title(unit, loc="left", fontsize=8, color=GREY)
    axes.yaxis.set_major_formatter(lambda value, _: short_number(value))


def short_number(value: float) -> str:
    """Return a number as a label has room for: "12.3k", "4.56M", "0.0012"."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):,.3g}{letter}".replace("-", "−")
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "0" if text in ("-0", "0") else text.replace("-", "−")


def cut(name: str, most: int = LABEL_CHARACTERS) -> str:
    """Return a name without line breaks, cut where it would not fit."""
    line = " ".join(name.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
