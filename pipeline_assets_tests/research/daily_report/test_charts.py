"""Charts and the columns of a PDF's tables: what is written where, so that a reader can read it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl
import pytest

from pipeline_assets.research.daily_report.chart_axes import places_of
from pipeline_assets.research.daily_report.charts import draw_chart
from pipeline_assets.research.daily_report.parts import Chart, Column, Source, Table
from pipeline_assets.research.daily_report.pdf_columns import column_widths
from pipeline_assets.research.daily_report.pdf_text import text_width

START = datetime(2026, 11, 1, tzinfo=UTC)
SOURCE = Source("made up")


def texts(svg: str) -> list[str]:
    """Return the texts of a drawn chart, in the order of drawing."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def drawn(kind: Any, data: pl.DataFrame, unit: str = "", series: str | None = None) -> list[str]:
    """Return the texts of a chart of a frame's first two columns, on a telephone."""
    x, y = data.columns[:2]
    return texts(draw_chart(Chart("title", kind, data, x, y, series, unit, SOURCE), "x").narrow)


def test_long_names_stay_whole() -> None:
    """On a telephone too, a bar's name has its end. Values have as many decimals as the largest."""
    names = ["rsi_reversal: volume_zscore_60", "macd_cross: volume_zscore_60"]
    found = drawn("bars", pl.DataFrame({"feature": names, "index": [0.458, -0.0359]}))
    assert set(names) <= set(found)
    assert {"0.458", "−0.036"} <= set(found)


@pytest.mark.parametrize(
    ("values", "places"), [([], 0), ([7, 1840], 0), ([4.4, 0.15], 2), ([0.5], 3), ([512.3, 1], 0)]
)
def test_places_follow_largest_value(values: list[float], places: int) -> None:
    assert places_of(values) == places


def test_axis_has_one_unit() -> None:
    """Volumes on both sides of ten thousand millions are all in thousand millions."""
    times = [START + timedelta(hours=n) for n in range(4)]
    found = drawn("bars", pl.DataFrame({"time": times, "volume": [1e9, 5e9, 9e9, 17e9]}), "USDT")
    assert "bn USDT" in found
    assert not [each for each in found if re.search("[0-9](k|M|bn)", each)]


def test_axis_shows_thousands() -> None:
    """An equity of 216,000 is 216 thousand on the axis: it was drawn as 21.6 "k USDT"."""
    times = [START + timedelta(hours=n) for n in range(4)]
    data = pl.DataFrame({"time": times, "equity": [0.0, 50_000.0, 100_000.0, 216_000.0]})
    found = drawn("lines", data, "USDT")
    assert "k USDT" in found
    assert {"100", "200"} <= set(found)


@pytest.mark.parametrize(("days", "named"), [(1, {"01 Nov", "02 Nov"}), (7, {"01 Nov", "05 Nov"})])
def test_midnights_name_day_and_month(days: int, named: set[str]) -> None:
    """On the axis of values of quarter hours, a day was "Nov-01", or "3" alone."""
    times = [START + timedelta(minutes=15 * n) for n in range(days * 96 + 1)]
    data = pl.DataFrame({"time": times, "equity": [float(n) for n in range(len(times))]})
    assert named <= set(drawn("lines", data))


@pytest.mark.parametrize("days", [1, 3, 30])
def test_values_of_days_have_no_hours(days: int) -> None:
    """The axis of values of whole days says no hour, of which nothing is known."""
    times = [START + timedelta(days=n) for n in range(days)]
    found = drawn("bars", pl.DataFrame({"time": times, "volume": [1.0 + n for n in range(days)]}))
    assert not [each for each in found if ":" in each]
    assert len(found) > 1


def test_hours_are_named_on_telephone() -> None:
    """Columns without a name would leave the reader to guess; every sixth hour has its own."""
    hours = [f"{hour:02d}:00" for hour in range(24)]
    data = pl.DataFrame({"time": hours, "candidates": range(24), "strategy": ["x"] * 24})
    found = drawn("heatmap", data, series="strategy")
    assert [each for each in found if ":" in each] == ["00:00", "06:00", "12:00", "18:00"]


def test_labels_stay_beside_lines() -> None:
    """Names of lines that end at the top are moved apart downwards, within the chart."""
    times = [START, START + timedelta(hours=1)] * 3
    names = [name for name in ("1m", "15m", "1h") for _ in range(2)]
    data = pl.DataFrame({"time": times, "stored": [99.0, 100.0] * 3, "interval": names})
    chart = Chart("title", "lines", data, "time", "stored", "interval", "%", SOURCE)
    svg = draw_chart(chart, "x").wide
    heights = [float(each) for each in re.findall(r' y="([0-9.]+)"[^>]*>[0-9]+[mh]</text>', svg)]
    ordered = sorted(heights)
    assert len(ordered) == 3
    assert min(b - a for a, b in pairwise(ordered)) > 8
    # Below the unit, which stands above the chart.
    [unit] = re.findall(r' y="([0-9.]+)"[^>]*>%</text>', svg)
    assert ordered[0] > float(unit)


def test_no_word_is_broken() -> None:
    """A column is as wide as its longest word, and a number stays on one line with its unit."""
    columns = (
        Column("strategy"),
        Column("known", "", "right"),
        Column("95 % of the mean", "", "right"),
    )
    rows = (("bollinger_breakout", "1,026", "-0.037 to 0.234 %"), ("words " * 40, "7", "–"))
    widths = column_widths(Table("title", columns, rows, SOURCE), 300)
    assert sum(widths) == pytest.approx(300)
    longest = (*map(text_width, rows[0][:2]), text_width(rows[0][2]))
    assert all(width > least + 6 for width, least in zip(widths, longest, strict=True))
