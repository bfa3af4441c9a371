"""A report arranged for the page and the PDF: its title, its drawn charts, its sources by number. The texts
of sections are made in the sections' modules; this module knows neither HTML nor PDF.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from urllib.parse import quote

from pipeline_assets.research.daily_report.charts import DrawnChart, draw_chart
from pipeline_assets.research.daily_report.parts import Chart, DailyReport, Section, Source

_NAMES = {"day": "Daily report", "week": "Weekly report", "month": "Monthly report"}


@dataclass(frozen=True)
class SourceEntry:
    """A source as the list of sources shows it.

    Attributes:
        text: a few words.
        asset: key and partition, or None.
        url: address of the asset in Dagster, or None where Dagster's address is not known.
        query: the SQL text, or None.
    """

    text: str
    asset: str | None
    url: str | None
    query: str | None


@dataclass(frozen=True)
class Part:
    """A section and its drawn charts."""

    section: Section
    charts: tuple[tuple[Chart, DrawnChart], ...]


@dataclass(frozen=True)
class Content:
    """Everything that the page and the PDF show.

    Attributes:
        title: the kind of report and its span.
        span: the first and last moment.
        made_at: when the report was made.
        warnings: what makes the report less reliable.
        parts: the sections.
        sources: of all figures, each once.
        numbers: the place of each source in `sources`, from 1.
    """

    title: str
    span: str
    made_at: str
    warnings: tuple[str, ...]
    parts: tuple[Part, ...]
    sources: tuple[SourceEntry, ...]
    numbers: Mapping[Source, int]

    def cover(self) -> bytes | None:
        """Return the first chart as a PNG, or None if no section has a chart."""
        return next((drawn.png for part in self.parts for _, drawn in part.charts), None)


def title_of(report: DailyReport) -> str:
    """Return the report's heading, e.g. "Daily report: Saturday 28 November 2026"."""
    return f"{_NAMES[report.edition.kind]}: {report.edition.title()}"


def content_of(report: DailyReport, dagster_url: str | None) -> Content:
    """Return a report with its charts drawn. The same report gives the same content.

    Args:
        report: the report.
        dagster_url: where a reader reaches Dagster's pages, without a slash at the end; None if unknown.
    """
    numbers: dict[Source, int] = {}
    for section in report.sections:
        sources = [each.source for each in section.figures]
        sources += [each.source for each in section.charts]
        sources += [each.source for each in section.tables]
        for source in sources:
            numbers.setdefault(source, len(numbers) + 1)
    edition = report.edition
    return Content(
        title=title_of(report),
        span=f"{edition.start:%Y-%m-%d %H:%M} to {edition.end:%Y-%m-%d %H:%M}",
        made_at=f"{report.made_at:%Y-%m-%d %H:%M}",
        warnings=report.warnings,
        parts=tuple(Part(_unbroken(section), _charts(section)) for section in report.sections),
        sources=tuple(_entry(each, dagster_url) for each in numbers),
        numbers=numbers,
    )


def _unbroken(section: Section) -> Section:
    """Return a section whose sentences end no line between a number and its percent sign."""
    figures = tuple(
        replace(each, value=_kept(each.value), detail=_kept(each.detail))
        for each in section.figures
    )
    return replace(section, headline=_kept(section.headline), figures=figures)


def _kept(text: str) -> str:
    return text.replace(" %", "\u00a0%")


def _charts(section: Section) -> tuple[tuple[Chart, DrawnChart], ...]:
    return tuple(
        (chart, draw_chart(chart, f"{section.key} {place}"))
        for place, chart in enumerate(section.charts)
    )


def _entry(source: Source, dagster_url: str | None) -> SourceEntry:
    return SourceEntry(
        source.text, source.asset, asset_url(source.asset, dagster_url), source.query
    )


def asset_url(asset: str | None, dagster_url: str | None) -> str | None:
    """Return the address of an asset's page in Dagster, of its partition where that is one day."""
    if asset is None or dagster_url is None:
        return None
    key, _, partition = asset.partition(" ")
    address = f"{dagster_url}/assets/{quote(key, safe='')}"
    try:
        day = date.fromisoformat(partition)
    except ValueError:
        return address
    return f"{address}?partition={day}"
