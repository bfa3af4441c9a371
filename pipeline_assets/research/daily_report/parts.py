"""The parts of a report: sections of figures, charts and tables, and the span that they cover.

The sections' modules fill these parts; page.py and pdf.py show them. No HTML, no Dagster, no I/O.
Text from outside (symbols, strategies, reasons) stays plain text here: page.py and pdf.py escape it.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Literal

from pipeline_assets.collection.scheduled_days import Span, first_day
from pipeline_assets.errors import InputError
from pipeline_assets.market.partition_keys import FIRST_DAY
from pipeline_assets.market.windows import Window

if TYPE_CHECKING:
    import polars as pl

EditionKind = Span
ChartKind = Literal["lines", "bars", "heatmap", "calibration", "band"]
NO_VALUE = "–"


@dataclass(frozen=True)
class Edition:
    """The span of a report.

    Attributes:
        kind: a UTC day, a week from Monday (ISO 8601), or a calendar month.
        start: midnight UTC at which the span starts.
        end: midnight UTC at which the span ends, exclusive.
    """

    kind: EditionKind
    start: datetime
    end: datetime

    @classmethod
    def of(cls, kind: EditionKind, day: date) -> "Edition":
        """Return the edition of a kind that contains a day."""
        first = first_day(kind, day)
        after = first + timedelta(days={"day": 1, "week": 7, "month": 31}[kind])
        if kind == "month":
            after = after.replace(day=1)
        return cls(kind, _midnight(first), _midnight(after))

    def check(self, today: date) -> None:
        """Refuse a span that has no report.

        Args:
            today: the UTC day.

        Raises:
            InputError: the span ended before the exchange opened, or begins in the future.
        """
        first, last = self.start.date(), self.end.date() - timedelta(days=1)
        span = str(first) if self.kind == "day" else f"the {self.kind} from {first}"
        if last < FIRST_DAY:
            raise InputError(f"There is no report of {span}: the exchange opened on {FIRST_DAY}.")
        if first > today:
            raise InputError(
                f"There is no report of {span}, which lies in the future: today is {today}, UTC."
            )

    def name(self) -> str:
        """Return the name in keys and headings: "20261128", "2026-W48" or "202611"."""
        if self.kind == "week":
            year, week, _ = self.start.isocalendar()
            return f"{year}-W{week:02d}"
        return f"{self.start:%Y%m%d}" if self.kind == "day" else f"{self.start:%Y%m}"

    def title(self) -> str:
        """Return the span as a reader says it, e.g. "Saturday 28 November 2026"."""
        if self.kind == "day":
            return f"{self.start:%A} {self.start.day} {self.start:%B %Y}"
        if self.kind == "month":
            return f"{self.start:%B %Y}"
        last = self.days()[-1]
        return f"Week {self.name()}: {self.start.day} {self.start:%B} to {last.day} {last:%B %Y}"

    def window(self) -> Window:
        """Return the span as a window."""
        return Window(self.start, self.end)

    def days(self) -> list[date]:
        """Return the UTC days of the span."""
        first = self.start.date()
        return [first + timedelta(days=each) for each in range((self.end - self.start).days)]


@dataclass(frozen=True)
class Source:
    """Where a figure came from.

    Attributes:
        text: a few words for the reader.
        asset: key and partition of the asset, as "candidate_outcomes 2026-11-28"; None without one.
        query: the SQL text that gave the figure; None without one.
    """

    text: str
    asset: str | None = None
    query: str | None = None


@dataclass(frozen=True)
class Figure:
    """A number of the report.

    Attributes:
        label: what is counted or measured.
        value: formatted with its unit; NO_VALUE where there is none.
        detail: a comparison or a qualification; why there is no value.
        source: where the number came from.
    """

    label: str
    value: str
    detail: str
    source: Source


@dataclass(frozen=True)
class Column:
    """A column of a table; a unit that is not empty is shown in its heading."""

    name: str
    unit: str = ""
    align: Literal["left", "right"] = "left"


@dataclass(frozen=True)
class Table:
    """A table whose cells are formatted text."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    source: Source
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A chart with one message.

    Attributes:
        title: a sentence that says the message.
        kind: "lines" of `y` over `x`, one per value of `series`; "bars" of `y`, one per value of `x` in the
            order of the data, side by side by `series` (three at most); "heatmap" of `y`, columns by `x`
            and rows by `series`; "calibration" of the share `y` over the probability `x`, both from 0 to 1,
            with a diagonal; "band", a line of `y` over `x` between the columns `low` and `high`.
            "calibration" draws `low` and `high` where the data has them.
        data: one row per point, sorted as it is shown. A null of `y` interrupts a line.
        x: name of a column: a time (UTC), a number or a text.
        y: name of the column of values.
        series: name of the column that names each line or row; None for one line.
        unit: of `y`, as "%" or "USDT"; shown at the axis.
        source: where the data came from.
        note: a line below the chart.
    """

    title: str
    kind: ChartKind
    data: "pl.DataFrame"
    x: str
    y: str
    series: str | None
    unit: str
    source: Source
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the report about one subject.

    Attributes:
        key: name in addresses of the page: lower-case letters, digits and hyphens.
        title: heading.
        headline: one sentence with the most important finding.
        figures: numbers that are read first.
        charts: shown after the figures.
        tables: shown after the charts.
        empty: why the section has nothing to show; None if it has something.
    """

    key: str
    title: str
    headline: str
    figures: tuple[Figure, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    empty: str | None = None


@dataclass(frozen=True)
class DailyReport:
    """The report of a day, a week or a month.

    Attributes:
        edition: the span.
        sections: in the order of reading.
        made_at: when the report was made.
        warnings: what makes the whole report less reliable, e.g. a day that is not finalized.
    """

    edition: Edition
    sections: tuple[Section, ...]
    made_at: datetime
    warnings: tuple[str, ...] = ()


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
