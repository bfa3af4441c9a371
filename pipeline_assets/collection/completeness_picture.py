"""Draw completeness as a PNG: symbols × days as colours. The counts come from market/completeness.py."""

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from pipeline_assets.market.completeness import completeness
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The more is missing, the darker. So the states differ without colours too, and one incomplete cell
# stands out among thousands of complete ones.
_COLOURS = {
    "complete": "#b5dcc4",
    "99 % and more": "#ffd24d",
    "90 % and more": "#f98e2b",
    "under 90 %": "#d7301f",
    "nothing": "#5c0011",
    "not listed": "#e4e4e4",
    "not looked at": "#ffffff",
}
_STATES = {name: number for number, name in enumerate(_COLOURS)}
_DPI = 100
# Pixels. A cell is as large as the picture has room for, and a symbol never less than two high.
_ROOM_WIDE, _ROOM_HIGH = 900, 640
_LEAST_CELL, _LARGEST_CELL = 2, 20
_LETTER, _LINE, _DATE = 7, 13, 84
_ABOVE, _BELOW, _BESIDE = 34, 62, 16
_SHARES = 62
_LEAST_WIDTH = 700
# Fonts with Chinese characters, of which some symbols are made; matplotlib's own has none.
_CHINESE = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    *("Droid Sans Fallback", "Microsoft YaHei", "PingFang SC", "Arial Unicode MS"),
)


@dataclass(frozen=True)
class _Grid:
    """The cells: a state for each symbol and column, and what the columns and rows are."""

    symbols: list[str]
    shares: list[str]
    first_days: list[date]
    days_per_column: int
    states: "np.ndarray[Any, Any]"
    title: str


def completeness_picture(
    gaps: "pl.DataFrame",
    lifetimes: Mapping[str, tuple[datetime, datetime | None]],
    interval: Interval,
    window: Window,
    looked_at: Collection[date],
) -> bytes:
    """Draw the share of due candles that is stored, of each symbol and day; return a PNG.

    With more days than there is room for, a cell is several days. Symbols in Chinese characters need
    a font of the machine's that has them; where there is none each is shown as "?".

    Args:
        gaps: as `gap_causes` gives them: all of the days that were looked at.
        lifetimes: the symbols to show; the gaps say when they traded.
        interval: whose candles; gaps of others do no harm.
        window: the days to show.
        looked_at: the UTC days that the gaps are known of.
    """
    import polars as pl

    counted = completeness(gaps, lifetimes, interval, window, looked_at)
    days = counted["day"].unique().sort().to_list()
    wide = -(-len(days) * _LEAST_CELL // _ROOM_WIDE)
    column = ((pl.col("day") - days[0]).dt.total_days() // wide).alias("column")
    cells = (
        counted.group_by("symbol", column)
        .agg(pl.col("expected", "missing").sum(), looked=pl.col("expected").is_not_null().any())
        .join(_listed(counted, column), on=("symbol", "column"))
        .sort("symbol", "column")
        .with_columns(state=_state())
    )
    symbols = cells["symbol"].unique(maintain_order=True).to_list()
    totals = counted.group_by("symbol", maintain_order=True).agg(
        pl.col("expected", "missing").sum()
    )
    expected, missing = int(totals["expected"].sum()), int(totals["missing"].sum())
    grid = _Grid(
        symbols=symbols,
        shares=[_share(due, lacking) for _, due, lacking in totals.rows()],
        first_days=days[::wide],
        days_per_column=wide,
        states=cells["state"].to_numpy().reshape(len(symbols), -1),
        title=f"{interval} candles stored, {days[0]} to {days[-1]} (UTC): "
        + (
            f"{_share(expected, missing)} of {expected:,} that should exist"
            if expected
            else "none should exist on the days that were looked at"
        ),
    )
    return _drawn(grid)


def _listed(counted: "pl.DataFrame", column: "pl.Expr") -> "pl.DataFrame":
    """Return whether a symbol was listed on any of a cell's days."""
    import polars as pl

    return counted.group_by("symbol", column).agg(pl.col("listed").any())


def _state() -> "pl.Expr":
    import polars as pl

    expected, missing = pl.col("expected"), pl.col("missing")
    stored = 1 - missing / expected

    def state(name: str) -> "pl.Expr":
        return pl.lit(_STATES[name])

    return (
        pl.when(~pl.col("looked"))
        .then(state("not looked at"))
        .when(~pl.col("listed"))
        .then(state("not listed"))
        # The candles that should exist are still to come: nothing can be said about them.
        .when(expected == 0)
        .then(state("not looked at"))
        .when(missing == 0)
        .then(state("complete"))
        .when(missing == expected)
        .then(state("nothing"))
        .when(stored >= 0.99)
        .then(state("99 % and more"))
        .when(stored >= 0.9)
        .then(state("90 % and more"))
        .otherwise(state("under 90 %"))
    )


def _share(expected: int, missing: int) -> str:
    """Return the stored share in percent, rounded down: 100 % only where nothing is missing."""
    if not expected:
        return ""
    hundredths = (expected - missing) * 10_000 // expected
    return "100 %" if not missing else f"{hundredths / 100:.2f} %"


def _drawn(grid: _Grid) -> bytes:
    # A figure of its own needs no display and shares no state, as pyplot's do.
    from matplotlib.figure import Figure

    rows, columns = grid.states.shape
    wide = min(max(_ROOM_WIDE // columns, _LEAST_CELL), _LARGEST_CELL)
    high = min(max(_ROOM_HIGH // rows, _LEAST_CELL), _LARGEST_CELL)
    named = high >= _LINE
    names, family = _writable(grid.symbols)
    left = _LETTER * max(map(len, names)) + _BESIDE
    right = _SHARES if named else _BESIDE
    width = max(left + columns * wide + right, _LEAST_WIDTH)
    height = _ABOVE + rows * high + _BELOW
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    axes = figure.add_axes(
        (left / width, _BELOW / height, columns * wide / width, rows * high / height)
    )
    _fill(axes, grid, lines=min(wide, high) >= 8)
    step = 1 if named else -(-_LINE // high)
    axes.set_yticks(range(0, rows, step), names[::step], fontsize=8, fontfamily=family)
    step = -(-_DATE // wide)
    dated = [column for column in range(0, columns, step) if columns - column >= step or not column]
    axes.set_xticks(dated, [str(grid.first_days[column]) for column in dated], fontsize=8)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("left")
    if named:
        for row, share in enumerate(grid.shares):
            axes.annotate(
                share,
                (columns - 0.5, row),
                xytext=(4, 0),
                textcoords="offset points",
                fontsize=8,
                verticalalignment="center",
            )
    figure.text(8 / width, 1 - 18 / height, grid.title, fontsize=9)
    _legend(figure, grid, width)
    return _png(figure)


def _fill(axes: "Axes", grid: _Grid, *, lines: bool) -> None:
    """Draw the cells, with lines between them where there is room.

    All lines are one artist. As a grid each would be a tick with five artists, a quarter of the time
    that the picture takes.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import ListedColormap

    rows, columns = grid.states.shape
    axes.imshow(
        grid.states,
        cmap=ListedColormap(list(_COLOURS.values())),
        vmin=0,
        vmax=len(_COLOURS) - 1,
        aspect="auto",
        interpolation="nearest",
    )
    axes.tick_params(length=0)
    if lines:
        right, below = columns - 0.5, rows - 0.5
        upright = [((x - 0.5, -0.5), (x - 0.5, below)) for x in range(1, columns)]
        level = [((-0.5, y - 0.5), (right, y - 0.5)) for y in range(1, rows)]
        drawn = LineCollection([*upright, *level], colors="white", linewidths=0.8)
        axes.add_collection(drawn, autolim=False)
    for spine in axes.spines.values():
        spine.set_color("#999999")
        # On the edge it would cover half of a small cell.
        spine.set_position(("outward", 1))


def _legend(figure: "Figure", grid: _Grid, width: int) -> None:
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=colour, edgecolor="#999999", linewidth=0.5, label=name)
        for name, colour in _COLOURS.items()
    ]
    figure.legend(
        handles=patches,
        loc="lower left",
        bbox_to_anchor=(0, 0),
        ncols=len(patches),
        fontsize=8,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.1,
    )
    if grid.days_per_column > 1:
        message = f"a cell is {grid.days_per_column} days"
        figure.text(1 - 8 / width, 0.0, message, fontsize=8, ha="right", va="bottom")


def _writable(symbols: list[str]) -> tuple[list[str], list[str]]:
    """Return the symbols as they can be written with the fonts of this machine, and these fonts."""
    from matplotlib.font_manager import fontManager

    if all(map(str.isascii, symbols)):
        return symbols, ["DejaVu Sans"]
    there = {each.name for each in fontManager.ttflist}
    chinese = [name for name in _CHINESE if name in there][:1]
    if not chinese:
        symbols = [symbol.encode("ascii", "replace").decode() for symbol in symbols]
    return symbols, ["DejaVu Sans", *chinese]


def _png(figure: "Figure") -> bytes:
    """Return the picture with a palette: half the size, and it goes into an event of Dagster's.

    The palette is given, and not made from the picture: that would leave out the colour of a single
    cell, for which one looks.
    """
    from matplotlib.colors import to_rgb
    from PIL import Image

    greys = [(step / 23,) * 3 for step in range(24)]
    entries = [*map(to_rgb, _COLOURS.values()), *greys]
    palette = Image.new("P", (1, 1))
    palette.putpalette([round(255 * part) for entry in entries for part in entry])
    drawn, body = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png")
    picture = Image.open(drawn).convert("RGB")
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(body, "PNG", optimize=True)
    return body.getvalue()
