"""Drawing a report's bars: upright over time, lying for names. The other charts are in charts.py."""

from typing import TYPE_CHECKING, Any

from pipeline_assets.research.daily_report.chart_axes import (
    LABEL_CHARACTERS,
    cut,
    series_of,
    short_number,
    show_unit,
    zero_line,
)
from pipeline_assets.research.daily_report.chart_looks import SERIES
from pipeline_assets.research.daily_report.parts import Chart
from pipeline_assets.research.pictures import BLUE, GREY, ORANGE, figure, plain

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_BARS = 24


def draw_columns(axes: "Axes", chart: Chart, data: "pl.DataFrame") -> None:
    """Draw upright bars over time."""
    groups = series_of(chart, data)[:3]
    moments = data[chart.x].unique().sort()
    span = (moments.diff().drop_nulls().min() if moments.len() > 1 else None) or None
    seconds = span.total_seconds() if span is not None else 3600.0  # type: ignore[union-attr]
    width = 0.8 * seconds / 86400 / len(groups)

    for place, (name, rows) in enumerate(groups):
        shift = (place - (len(groups) - 1) / 2) * width
        xs = [number + shift for number in _days(rows[chart.x].to_list())]
        ys = rows[chart.y].cast(float).fill_null(0.0).to_list()
        colours: Any = SERIES[place] if len(groups) > 1 else [_sign(each) for each in ys]
        axes.bar(xs, ys, width=width, color=colours, linewidth=0)
        _name_series(axes, name, place, len(groups))
    axes.xaxis_date()
    axes.grid(visible=False, axis="x")
    zero_line(axes)


def draw_bars(chart: Chart, data: "pl.DataFrame", inches: float, *, narrow: bool) -> "Figure":
    """Draw lying bars, whose names are read without turning the head; each value stands at its bar."""
    groups = series_of(chart, data)[:3]
    names = data[chart.x].cast(str).unique(maintain_order=True).to_list()[:_MOST_BARS]
    drawn = figure(inches, 0.7 + len(names) * (0.16 + 0.1 * len(groups)))
    axes = drawn.subplots()
    plain(axes)
    show_unit(axes, chart.unit)
    values: list[float] = []
    for number, (name, rows) in enumerate(groups):
        values += _draw_group(axes, chart, rows, names, (number, len(groups)))
        _name_series(axes, name, number, len(groups))
    short = [cut(each, 14 if narrow else LABEL_CHARACTERS) for each in names]
    axes.set_yticks(range(len(names)), short)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.margins(x=0.12 if not narrow else 0.24)
    if values and min(values) >= 0:
        axes.set_xlim(left=0)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.grid(visible=False)
    # The values stand at the bars.
    axes.tick_params(axis="x", labelbottom=False, length=0)
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    return drawn


def _draw_group(
    axes: "Axes", chart: Chart, rows: "pl.DataFrame", names: list[str], place: tuple[int, int]
) -> list[float]:
    """Draw the bars of a series, and return their lengths; `place` is its number of how many series."""
    number, count = place
    height = 0.7 / count
    found = dict(zip(rows[chart.x].cast(str), rows[chart.y].cast(float), strict=True))
    shown = [(row, found[each]) for row, each in enumerate(names) if found.get(each) is not None]
    lengths = [value for _, value in shown]
    rows_at = [row + (number - (count - 1) / 2) * height for row, _ in shown]
    colours: Any = SERIES[number] if count > 1 else [_sign(each) for each in lengths]
    axes.barh(rows_at, lengths, height=height * 0.92, color=colours, linewidth=0)
    for at, value in zip(rows_at, lengths, strict=True):
        axes.annotate(
            short_number(value),
            (value, at),
            xytext=(3 if value >= 0 else -3, 0),
            textcoords="offset points",
            va="center",
            ha="left" if value >= 0 else "right",
            fontsize=7.5,
        )
    return lengths


def _name_series(axes: "Axes", name: str, place: int, count: int) -> None:
    """Write a series' name in its colour above the bars."""
    if name:
        axes.annotate(
            cut(name),
            (1.0 - 0.27 * (count - 1 - place), 1.01),
            xycoords="axes fraction",
            color=SERIES[place],
            ha="right",
            va="bottom",
            fontsize=8,
        )


def _sign(value: float) -> str:
    return BLUE if value >= 0 else ORANGE


def _days(moments: list[Any]) -> list[float]:
    """Return times as matplotlib counts these."""
    import matplotlib.dates as counted

    count: Any = counted.date2num
    return [float(each) for each in count(moments)]
