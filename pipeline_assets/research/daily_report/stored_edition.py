"""A report on the lake: the page, the PDF and the summary, written together. The sections are made in
sections.py; assets and the command show what is returned here.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from pipeline_assets.research.daily_report.content import Content, content_of
from pipeline_assets.research.daily_report.page import page_of
from pipeline_assets.research.daily_report.parts import DailyReport, Edition
from pipeline_assets.research.daily_report.pdf import pdf_of
from pipeline_assets.research.daily_report.readers import Readers
from pipeline_assets.research.daily_report.reconciliations import ledger_warnings
from pipeline_assets.research.daily_report.sections import SECTIONS
from pipeline_assets.research.daily_report.summary import (
    DOCUMENT,
    ReportSummary,
    read_summary,
    report_key,
)
from pipeline_assets.resources.lake_documents import update_document
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import ObjectStoreError, PreconditionFailedError

_ATTEMPTS = 5


@dataclass(frozen=True)
class StoredEdition:
    """A report that is on the lake.

    Attributes:
        summary: its document.
        page: key of the page.
        pdf: key of the PDF.
        cover: the first chart as a PNG; None without one.
        changed: whether the figures differ from those that were stored.
    """

    summary: ReportSummary
    page: str
    pdf: str
    cover: bytes | None
    changed: bool


def make_report(
    readers: Readers,
    edition: Edition,
    made_at: datetime,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> DailyReport:
    """Return the report of an edition.

    Args:
        readers: what is read.
        edition: the span.
        made_at: the time now.
        progress: takes how many sections are made, of how many.

    Raises:
        WarehouseError: unreachable, or refused; see its message.
        ObjectStoreError: the lake does not answer, or an object is damaged.
    """
    sections = []
    for done, make in enumerate(SECTIONS):
        progress(done, len(SECTIONS))
        sections.append(make(readers, edition))
    progress(len(SECTIONS), len(SECTIONS))
    warnings = []
    if made_at < edition.end:
        warnings.append("The span is not over: later figures are missing.")
    if readers.runs is None:
        warnings.append(
            "Figures of runs (request weight, delays, the warehouse's time) are missing: the command does "
            "not read Dagster. The next run of the report's asset adds these."
        )
    if all(each.empty is not None for each in sections):
        warnings.append("Nothing is stored of this span, so the report has no figures.")
    if readers.account is not None:
        warnings += ledger_warnings(readers.store, readers.account, edition.days())
    return DailyReport(edition, tuple(sections), made_at, tuple(warnings))


def keep_report(store: ObjectStore, report: DailyReport, dagster_url: str | None) -> StoredEdition:
    """Draw a report and make the lake hold it. May be repeated.

    A report with the same figures as the stored one changes nothing: the stored one keeps its time of
    making. The summary is written last, so that a reader who finds one finds the page and the PDF too.

    Args:
        store: the lake.
        report: the report.
        dagster_url: where a reader reaches Dagster's pages; None if unknown.

    Raises:
        NewerVersionError: a newer release wrote the report.
        ObjectStoreError: the store does not answer.
    """
    content = content_of(report, dagster_url)
    digest = _digest(content)
    edition = report.edition
    page, pdf = report_key(edition, "html"), report_key(edition, "pdf")
    standing = read_summary(store, edition)
    if (
        standing is not None
        and standing.content == digest
        and _is_whole(store, page)
        and _is_whole(store, pdf)
    ):
        return StoredEdition(standing, page, pdf, content.cover(), changed=False)
    _replace(store, page, page_of(content).encode())
    _replace(store, pdf, pdf_of(content))
    summary = ReportSummary.of(report, digest)
    update_document(store, report_key(edition, "json"), DOCUMENT, lambda _: summary)
    return StoredEdition(summary, page, pdf, content.cover(), changed=True)


def _digest(content: Content) -> str:
    """Return the digest of all that a report shows but the time of making."""
    return hashlib.sha256(page_of(replace(content, made_at="")).encode()).hexdigest()


def _is_whole(store: ObjectStore, key: str) -> bool:
    """Return whether an object is stored, with the bytes that were written."""
    found = store.find(key)
    return found is not None and found.intact


def _replace(store: ObjectStore, key: str, body: bytes) -> None:
    """Make an object hold these bytes, by a write that meets no other writer's.

    Raises:
        ObjectStoreError: the store does not answer, or other writers replace the object all the time.
    """
    for _ in range(_ATTEMPTS):
        found = store.find(key)
        if found is not None and found.intact and found.body == body:
            return
        try:
            store.put_if(key, body, None if found is None else found.etag)
        except PreconditionFailedError:
            continue
        return
    raise ObjectStoreError(
        f"{store.address(key)} was replaced by others {_ATTEMPTS} times. Run one report of a span at a time."
    )
