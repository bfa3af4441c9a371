"""Parts that a report's charts share: series, units, zero lines, short names and numbers."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline_assets.research.daily_report.parts import Chart
from pipeline_assets.research.pictures import GREY

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

LABEL_CHARACTERS = 26
# The smallest number that is written in a unit, and the unit: four digits are read as they are.
_UNITS = ((1e9, 1e9, "bn"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))


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


def name_unit(axes: "Axes", unit: str) -> None:
    """Write the unit above the axis."""
    if unit:
        axes.set_title(unit, loc="left", fontsize=8, color=GREY)


def show_unit(axes: "Axes", unit: str) -> None:
    """Write the unit above a drawn axis, and the axis' numbers in it; large ones in thousands or more."""
    largest = max(map(abs, axes.get_ylim()))
    size, word = _unit_of(largest)
    name_unit(axes, f"{word} {unit}".strip())
    axes.yaxis.set_major_formatter(lambda value, _: short_number(value / size))


def short_number(value: float, places: int | None = None) -> str:
    """Return a number as a label has room for: "12.3k", "4.56M", "0.0012".

    Args:
        value: the number.
        places: decimals of a number below 10,000; by default those of three significant digits.
    """
    size, word = _unit_of(abs(value))
    if word:
        return f"{value / size:,.3g}{word}".replace("-", "−")
    if places is None:
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    else:
        text = f"{value:,.{places}f}"
    return (text if text.strip("-0.") else text.lstrip("-")).replace("-", "−")


def _unit_of(value: float) -> tuple[float, str]:
    """Return the size of the unit that a positive number is written in, and its word."""
    found = ((size, word) for least, size, word in _UNITS if value >= least)
    return next(found, (1.0, ""))


def places_of(values: Iterable[float]) -> int:
    """Return the decimals with which values are compared: the largest has three significant digits.

    Whole numbers have none.
    """
    held = list(values)
    largest = max(map(abs, held), default=0.0)
    if not largest or all(each == round(each) for each in held):
        return 0
    return max(0, 2 - math.floor(math.log10(largest)))


def cut(name: str, most: int = LABEL_CHARACTERS) -> str:
    """Return a name without line breaks, cut where it would not fit."""
    line = " ".join(name.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
