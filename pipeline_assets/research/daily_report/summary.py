"""A report without its pictures, as a document on the lake, for the command and for programs. Page and PDF
are written in stored_edition.py.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, PlainSerializer, TypeAdapter, with_config

from pipeline_assets.research.daily_report.content import title_of
from pipeline_assets.research.daily_report.parts import (
    DailyReport,
    Edition,
    EditionKind,
    Figure,
    Section,
    Table,
)
from pipeline_assets.resources.lake_documents import read_document
from pipeline_assets.resources.object_store import ObjectStore

PREFIX = "reports/"
_Moment = Annotated[datetime, PlainSerializer(datetime.isoformat)]


@dataclass(frozen=True)
class SectionSummary:
    """A section without its charts; see parts.Section."""

    key: str
    title: str
    headline: str
    empty: str | None
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]

    @classmethod
    def of(cls, section: Section) -> "SectionSummary":
        """Return a section's summary."""
        return cls(
            section.key,
            section.title,
            section.headline,
            section.empty,
            section.figures,
            section.tables,
        )

    def said(self) -> str:
        """Return the sentence that stands for the section."""
        return self.empty or self.headline


@with_config(ConfigDict(defer_build=True))
@dataclass(frozen=True)
class ReportSummary:
    """A report as a document.

    Attributes:
        kind: of the edition.
        name: of the edition, as in the keys.
        title: the heading.
        made_at: when the report was made.
        content: digest of all that the report shows but the time of making.
        warnings: what makes the report less reliable.
        sections: in the order of reading.
    """

    kind: EditionKind
    name: str
    title: str
    made_at: _Moment
    content: str
    warnings: tuple[str, ...]
    sections: tuple[SectionSummary, ...]

    @classmethod
    def of(cls, report: DailyReport, content: str) -> "ReportSummary":
        """Return a report's summary."""
        return cls(
            report.edition.kind,
            report.edition.name(),
            title_of(report),
            report.made_at,
            content,
            report.warnings,
            tuple(map(SectionSummary.of, report.sections)),
        )

    def headlines(self) -> list[str]:
        """Return a line for each section that has something to say, or why none has."""
        full = [each for each in self.sections if each.empty is None] or list(self.sections[:1])
        return [f"{each.title}: {each.said()}" for each in full]


DOCUMENT: TypeAdapter[ReportSummary] = TypeAdapter(ReportSummary, config=None)


def report_key(edition: Edition, ending: str) -> str:
    """Return the key of a report: `reports/20261128.html`; endings are "html", "pdf" and "json"."""
    return f"{PREFIX}{edition.name()}.{ending}"


def read_summary(store: ObjectStore, edition: Edition) -> ReportSummary | None:
    """Return a report's summary; None if the report is not made, or the document is damaged.

    Raises:
        NewerVersionError: a newer release wrote the document.
        ObjectStoreError: the store does not answer.
    """
    return read_document(store, report_key(edition, "json"), DOCUMENT)
