"""Drawing a report's charts: one message each, labels beside the lines instead of a legend. Bars are in
chart_bars.py, heatmaps in chart_heatmap.py, what all share in chart_axes.py, colours in chart_looks.py.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline_assets.research.daily_report.chart_axes import (
    cut,
    series_of,
    show_unit,
    zero_line,
)
from pipeline_assets.research.daily_report.chart_bars import draw_bars, draw_columns
from pipeline_assets.research.daily_report.chart_heatmap import draw_heatmap
from pipeline_assets.research.daily_report.chart_looks import SERIES, house_style, png_of, svg_of
from pipeline_assets.research.daily_report.parts import Chart
from pipeline_assets.research.pictures import BLUE, GREY, LINES, figure, plain

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDE_INCHES, _NARROW_INCHES = 7.6, 3.7
_MOST_LABELLED = 6


@dataclass(frozen=True)
class DrawnChart:
    """A chart as it is shown.

    Attributes:
        wide: an SVG element for a desktop.
        narrow: an SVG element for a telephone, whose text is as large.
        png: the wide form for the PDF and the alert.
    """

    wide: str
    narrow: str
    png: bytes


def draw_chart(chart: Chart, salt: str) -> DrawnChart:
    """Return a chart in all its forms; `salt` differs between the charts of a page."""
    with house_style(salt):
        wide = _drawn(chart, _WIDE_INCHES, narrow=False)
        page = svg_of(wide, chart.title)
        # The places are found, which takes half of the time.
        wide.set_layout_engine("none")
        narrow = _drawn(chart, _NARROW_INCHES, narrow=True)
    with house_style(f"{salt} narrow"):
        return DrawnChart(page, svg_of(narrow, chart.title), png_of(wide))


def _drawn(chart: Chart, inches: float, *, narrow: bool) -> "Figure":
    data = chart.data.drop_nulls(chart.x)
    if chart.kind == "heatmap":
        return draw_heatmap(chart, data, inches, narrow=narrow)
    if chart.kind == "bars" and not data[chart.x].dtype.is_temporal():
        return draw_bars(chart, data, inches, narrow=narrow)
    drawn = figure(inches, 3.4 if chart.kind == "calibration" else 2.7)
    axes = drawn.subplots()
    plain(axes)
    draw = {
        "lines": _draw_lines,
        "band": _draw_band,
        "calibration": _draw_calibration,
        "bars": draw_columns,
    }
    draw[chart.kind](axes, chart, data)
    show_unit(axes, chart.unit)
    if data[chart.x].dtype.is_temporal():
        _time_axis(axes, data[chart.x], narrow=narrow)
    return drawn


def _draw_lines(axes: "Axes", chart: Chart, data: "pl.DataFrame") -> None:
    groups = series_of(chart, data)
    ends = []
    for place, (name, rows) in enumerate(groups):
        labelled = place < _MOST_LABELLED
        colour = SERIES[place] if labelled else LINES
        xs, ys = rows[chart.x].to_list(), rows[chart.y].cast(float).fill_null(float("nan"))
        marker = "o" if rows.height < 12 else ""
        axes.plot(
            xs,
            ys.to_list(),
            color=colour,
            linewidth=1.5 if labelled else 0.8,
            zorder=3 if labelled else 2,
            marker=marker,
            markersize=3,
        )
        known = rows.drop_nulls(chart.y)
        if labelled and name and known.height:
            ends.append((float(known[chart.y][-1]), name, colour))
    zero_line(axes)
    _label_ends(axes, ends)


def _label_ends(axes: "Axes", ends: list[tuple[float, str, str]]) -> None:
    """Write the lines' names at the right edge, moved apart where these would overlap."""
    low, high = axes.get_ylim()
    span = (high - low) or 1.0
    ordered = sorted(ends)
    places = _apart([(value - low) / span for value, _, _ in ordered])
    for (_, name, colour), place in zip(ordered, places, strict=True):
        axes.annotate(
            cut(name),
            (1.01, place),
            xycoords="axes fraction",
            color=colour,
            va="center",
            fontsize=8,
            annotation_clip=False,
        )


def _apart(wanted: list[float], step: float = 0.075) -> list[float]:
    """Return ascending places moved apart, none above the top unless there are too many."""
    places: list[float] = []
    for each in wanted:
        places.append(max(each, places[-1] + step) if places else each)
    highest = 1.0
    for number in reversed(range(len(places))):
        places[number] = min(places[number], highest)
        highest = places[number] - step
    return places


def _draw_band(axes: "Axes", chart: Chart, data: "pl.DataFrame") -> None:
    xs = data[chart.x].to_list()
    known = data.select(chart.y, "low", "high").cast(dict.fromkeys((chart.y, "low", "high"), float))
    middle, low, high = (known[name].fill_null(float("nan")) for name in (chart.y, "low", "high"))
    axes.fill_between(xs, low.to_list(), high.to_list(), color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(xs, middle.to_list(), color=BLUE, linewidth=1.5)
    zero_line(axes)
    rows = known.drop_nulls()
    if rows.height:
        ends = [("low", GREY), (chart.y, BLUE), ("high", GREY)]
        _label_ends(axes, [(float(rows[name][-1]), name, colour) for name, colour in ends])


def _draw_calibration(axes: "Axes", chart: Chart, data: "pl.DataFrame") -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
    # In the corner that is empty unless a model is wrong altogether.
    axes.annotate("dashed: as predicted", (0.98, 0.03), ha="right", color=GREY, fontsize=8)
    for place, (name, rows) in enumerate(series_of(chart, data.drop_nulls(chart.y))):
        colour = SERIES[place % len(SERIES)]
        xs, ys = rows[chart.x].to_list(), rows[chart.y].to_list()
        if {"low", "high"} <= set(rows.columns):
            axes.vlines(xs, rows["low"].to_list(), rows["high"].to_list(), color=colour, alpha=0.5)
        axes.plot(xs, ys, color=colour, marker="o", markersize=5, linewidth=1)
        if name and xs:
            axes.annotate(
                cut(name),
                (xs[-1], ys[-1]),
                xytext=(6, -3),
                textcoords="offset points",
                color=colour,
                fontsize=8,
            )
    axes.set(xlim=(0, 1), ylim=(0, 1.08))
    axes.set_xlabel("probability that the model gave", fontsize=8, color=GREY)
    axes.set_ylabel("share that came true", fontsize=8, color=GREY)


def _time_axis(axes: "Axes", times: "pl.Series", *, narrow: bool) -> None:
    import matplotlib.dates

    # Without annotations in matplotlib.
    dates: Any = matplotlib.dates
    most = 4 if narrow else 8
    moments = times.unique().sort()
    if (moments == moments.dt.truncate("1d")).all():
        # Hours between values of days would say that something is known of these.
        days = (moments[-1] - moments[0]).days + 1 if moments.len() else 1
        axes.xaxis.set_major_locator(dates.DayLocator(interval=-(-days // most)))
        axes.xaxis.set_major_formatter(dates.DateFormatter("%d %b"))
        return
    locator = dates.AutoDateLocator(minticks=3, maxticks=most)
    axes.xaxis.set_major_locator(locator)
    hours = ["%H:%M", "%H:%M", "%S.%f"]
    axes.xaxis.set_major_formatter(
        # By default it writes a midnight among hours as "Nov-01", and days without their month.
        dates.ConciseDateFormatter(
            locator,
            formats=["%Y", "%b %Y", "%d %b", *hours],
            zero_formats=["", "%Y", "%d %b", "%d %b", *hours[:2]],
            show_offset=False,
        )
    )
