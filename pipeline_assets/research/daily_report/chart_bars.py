"""Drawing a report's bars: upright over time, lying for names. The other charts are in charts.py."""

from typing import TYPE_CHECKING, Any

from pipeline_assets.research.daily_report.chart_axes import (
    cut,
    name_unit,
    places_of,
    series_of,
    short_number,
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
_NAME_BESIDE, _LONGEST = 12, 38


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
    """Draw lying bars, whose names are read without turning the head; each value stands at its bar.

    Long names on a telephone stand above their bars: beside these only their beginning has room.
    """
    groups = series_of(chart, data)[:3]
    names = data[chart.x].cast(str).unique(maintain_order=True).to_list()[:_MOST_BARS]
    above = narrow and max(map(len, names), default=0) > _NAME_BESIDE
    drawn = figure(inches, 0.7 + len(names) * (0.16 + 0.1 * len(groups) + (0.2 if above else 0)))
    axes = drawn.subplots()
    plain(axes)
    name_unit(axes, chart.unit)
    height = (0.45 if above else 0.7) / len(groups)
    values: list[float] = []
    places = places_of(data[chart.y].drop_nulls().cast(float))
    for number, (name, rows) in enumerate(groups):
        place = (number - (len(groups) - 1) / 2) * height
        colour = SERIES[number] if len(groups) > 1 else None
        values += _draw_group(axes, chart, rows, (names, place, height, colour, places))
        _name_series(axes, name, number, len(groups))
    _name_bars(axes, names, above=above)
    _leave_room(axes, values, 0.24 if narrow else 0.1)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.grid(visible=False)
    # The values stand at the bars.
    axes.tick_params(axis="x", labelbottom=False, length=0)
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    return drawn


def _draw_group(
    axes: "Axes",
    chart: Chart,
    rows: "pl.DataFrame",
    how: tuple[list[str], float, float, str | None, int],
) -> list[float]:
    """Draw the bars of a series with their values, and return their lengths.

    `how` has the names of all bars, the place beside a name, the height, the colour (None for that of the
    sign) and the decimals of the values.
    """
    names, place, height, colour, decimals = how
    found = dict(zip(rows[chart.x].cast(str), rows[chart.y].cast(float), strict=True))
    shown = [(row, found[each]) for row, each in enumerate(names) if found.get(each) is not None]
    lengths = [value for _, value in shown]
    rows_at = [row + place for row, _ in shown]
    colours: Any = colour or [_sign(each) for each in lengths]
    axes.barh(rows_at, lengths, height=height * 0.92, color=colours, linewidth=0)
    for at, value in zip(rows_at, lengths, strict=True):
        axes.annotate(
            short_number(value, decimals),
            (value, at),
            xytext=(3 if value >= 0 else -3, 0),
            textcoords="offset points",
            va="center",
            ha="left" if value >= 0 else "right",
            fontsize=7.5,
        )
    return lengths


def _name_bars(axes: "Axes", names: list[str], *, above: bool) -> None:
    """Write each bar's name beside the axis, or above the bar."""
    axes.set_yticks(range(len(names)), [] if above else [cut(each, _LONGEST) for each in names])
    axes.set_ylim(len(names) - 0.4, -0.75 if above else -0.6)
    for row, name in enumerate(names if above else ()):
        axes.annotate(
            cut(name, _LONGEST),
            (0, row - 0.28),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            va="bottom",
            fontsize=7.5,
            color=GREY,
        )


def _leave_room(axes: "Axes", values: list[float], share: float) -> None:
    """Make the axis longer than the bars, by a share of it on each side that has bars, for the values."""
    low, high = min([0.0, *values]), max([0.0, *values])
    sides = (low < 0) + (high > 0 or low == 0)
    room = ((high - low) or 1.0) * share / (1 - sides * share)
    axes.set_xlim(low - room if low < 0 else 0.0, high + room if sides == 2 or low == 0 else 0.0)


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
