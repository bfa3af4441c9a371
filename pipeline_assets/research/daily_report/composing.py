"""Sections and bar charts put together alike. Each section decides what these say."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline_assets.research.daily_report.parts import Chart, Figure, Section, Source, Table

if TYPE_CHECKING:
    import polars as pl

# Names that a title has room for.
_NAMED = 3


def section_of(
    names: tuple[str, str],
    headline: str,
    figures: Iterable[Figure],
    charts: Iterable[Chart | None],
    tables: Iterable[Table | None],
) -> Section:
    """Return a section without the charts that are None and the tables that have no rows.

    Args:
        names: the section's key and title.
        headline: its most important finding.
        figures: in order.
        charts: in order; None where there is nothing to draw.
        tables: in order.
    """
    drawn = tuple(each for each in charts if each is not None)
    filled = tuple(each for each in tables if each is not None and each.rows)
    return Section(*names, headline, tuple(figures), drawn, filled)


def empty_section(names: tuple[str, str], headline: str, why: str) -> Section:
    """Return a section that has nothing to show, with the reason."""
    return Section(*names, headline, empty=why)


def most_frequent(one: str, several: str, counts: "pl.DataFrame") -> str:
    """Return a title with the first of some counts, and with all that are as frequent.

    Args:
        one: the title's words before one name, such as "The most frequent cause is".
        several: its words before several names.
        counts: a name and a number a row, the largest first.
    """
    names, numbers = counts.get_columns()
    first = names.filter(numbers == numbers[0]).to_list()
    more = f" and {len(first) - _NAMED} more" if len(first) > _NAMED else ""
    return f"{one if len(first) == 1 else several} {', '.join(first[:_NAMED])}{more}"


def bars(title: str, data: "pl.DataFrame", source: Source, unit: str, note: str = "") -> Chart:
    """Return a bar chart of a frame's second column by its first."""
    x, y = data.columns
    return Chart(title, "bars", data, x=x, y=y, series=None, unit=unit, source=source, note=note)
