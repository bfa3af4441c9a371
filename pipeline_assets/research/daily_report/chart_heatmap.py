"""Drawing a heatmap of a report. The other charts are in charts.py."""

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_assets.research.daily_report.chart_axes import name_unit, places_of, short_number
from pipeline_assets.research.daily_report.parts import Chart
from pipeline_assets.research.pictures import BLUE, ORANGE, figure

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.figure import Figure

_MOST_VALUES = 8
_FEW_COLUMNS = 12
_HOUR = re.compile("[0-9]{2}:[0-9]{2}")


def draw_heatmap(chart: Chart, data: "pl.DataFrame", inches: float, *, narrow: bool) -> "Figure":
    """Draw columns by `x` and rows by `series`; blue is positive, orange negative, the lightest zero.

    Args:
        chart: the chart.
        data: its rows.
        inches: the width.
        narrow: whether there is no room for the names of many columns.
    """
    from matplotlib.colors import LinearSegmentedColormap

    series = chart.series or chart.x
    columns = data[chart.x].unique(maintain_order=True).to_list()
    rows = data[series].unique(maintain_order=True).to_list()
    values = _grid(data.select(series, chart.x, chart.y), rows, columns)
    extent = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    extent = extent or 1.0
    line = min(0.22, 5.4 / max(len(rows), 1)) if not narrow else min(0.2, 6 / max(len(rows), 1))
    drawn = figure(inches, 1.2 + line * len(rows))
    axes = drawn.subplots()
    # Without a negative value the scale begins at zero.
    lowest = -extent if bool((values < 0).any()) else 0.0
    ends = [ORANGE] if lowest else []
    colours = LinearSegmentedColormap.from_list("house", [*ends, "#f4f6f8", BLUE])
    picture = axes.imshow(
        values, cmap=colours, vmin=lowest, vmax=extent, aspect="auto", interpolation="none"
    )
    _name_cells(axes, rows, columns, narrow=narrow)
    if max(len(rows), len(columns)) <= _MOST_VALUES:
        _write_values(axes, values, extent)
    bar = drawn.colorbar(picture, ax=axes, shrink=0.8, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=0)
    name_unit(axes, chart.unit)
    return drawn


def _grid(cells: "pl.DataFrame", rows: list[Any], columns: list[Any]) -> np.ndarray[Any, Any]:
    """Return the values of cells (row, column, value) as an array, NaN where there is none."""
    values = np.full((len(rows), len(columns)), np.nan)
    places = ({each: place for place, each in enumerate(found)} for found in (rows, columns))
    row_places, column_places = places
    for row, column, value in cells.rows():
        if value is not None:
            values[row_places[row], column_places[column]] = value
    return values


def _name_cells(axes: Any, rows: list[Any], columns: list[Any], *, narrow: bool) -> None:
    """Write the names of rows, and those of columns where there is room."""
    size = 8 if max(len(rows), len(columns)) <= 24 else 5.5
    axes.set_yticks(range(len(rows)), [_name(each) for each in rows], fontsize=size)
    _name_columns(axes, [_name(each) for each in columns], size, narrow=narrow)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _name_columns(axes: Any, names: list[str], size: float, *, narrow: bool) -> None:
    """Write the names of columns; of hours only some, as a reader counts between these."""
    step = 1
    if len(names) > _FEW_COLUMNS and all(map(_HOUR.fullmatch, names)):
        step = 6 if narrow else 3
    elif len(names) > (_FEW_COLUMNS if narrow else 60):
        names = []
    shown = names[::step]
    turned = max(map(len, shown), default=0) * len(shown) > (24 if narrow else 70)
    axes.set_xticks(range(0, len(names), step), shown, fontsize=size, rotation=90 if turned else 0)


def _write_values(axes: Any, values: np.ndarray[Any, Any], extent: float) -> None:
    places = places_of(values[np.isfinite(values)].tolist())
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            # Not the page's ink and paper, which change with its theme: the cells do not.
            colour = "#fffffe" if abs(value) > 0.6 * extent else "#1b1f25"
            axes.text(
                column,
                row,
                short_number(value, places),
                ha="center",
                va="center",
                fontsize=8,
                color=colour,
            )


def _name(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 20 else f"{text[:19]}…"
