"""Numbers and times of a report as text, with their units. Sections decide which numbers are shown."""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime

from pipeline_assets.research.daily_report.parts import NO_VALUE, Column, Source, Table

_LARGE = ((1e12, "T"), (1e9, "bn"), (1e6, "M"), (1e3, "k"))


def count(value: float) -> str:
    """Return a whole number with separators."""
    return f"{value:,.0f}"


def percent(share: float | None, places: int = 2, *, signed: bool = False) -> str:
    """Return a share as percent, such as "1.25 %" and, signed, "+1.25 %"."""
    if share is None or not math.isfinite(share):
        return NO_VALUE
    return f"{_rounded(share * 100, places):{'+' if signed else ''},.{places}f} %"


def money(value: float | None, *, signed: bool = False) -> str:
    """Return an amount of the quote asset to the cent."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    return f"{_rounded(value, 2):{'+' if signed else ''},.2f} USDT"


def volume(value: float) -> str:
    """Return a large amount of the quote asset in thousands, millions or more, such as "1.25 bn USDT"."""
    for size, name in _LARGE:
        if abs(value) >= size:
            return f"{value / size:,.2f} {name} USDT"
    return f"{value:.2f} USDT"


def seconds(value: float | None) -> str:
    """Return seconds with one decimal."""
    return NO_VALUE if value is None else f"{value:,.1f} s"


def interval(low: float | None, high: float | None, places: int = 2) -> str:
    """Return the limits of a share in percent, such as "-0.10 to 0.25 %"; NO_VALUE without them."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return NO_VALUE
    return (
        f"{_rounded(low * 100, places):.{places}f} to {_rounded(high * 100, places):.{places}f} %"
    )


def share_of(part: float, whole: float) -> float:
    """Return a part of a whole; NaN of nothing."""
    return part / whole if whole else math.nan


def minute(moment: datetime) -> str:
    """Return a UTC time to the minute."""
    return f"{moment:%Y-%m-%d %H:%M}"


def table(
    title: str, columns: str, rows: Iterable[Sequence[str]], source: Source, note: str = ""
) -> Table:
    """Return a table whose columns are written as "symbol, return >": ">" aligns to the right."""
    named = [each.strip() for each in columns.split(",")]
    held = tuple(
        Column(each.rstrip(" >"), align="right" if each.endswith(">") else "left") for each in named
    )
    return Table(title, held, tuple(tuple(row) for row in rows), source, note)


def _rounded(value: float, places: int) -> float:
    """Return a rounded value without the sign of a zero."""
    return round(value, places) + 0.0
