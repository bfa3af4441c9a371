"""All sections of a report, in the order of reading. Each has a module of its own."""

from collections.abc import Callable
from dataclasses import replace

from pipeline_assets.research.daily_report.candidates import candidates_section
from pipeline_assets.research.daily_report.data_quality import data_section
from pipeline_assets.research.daily_report.decisions import decisions_section
from pipeline_assets.research.daily_report.drift import drift_section
from pipeline_assets.research.daily_report.market import market_section
from pipeline_assets.research.daily_report.parts import Edition, Section
from pipeline_assets.research.daily_report.readers import Readers
from pipeline_assets.research.daily_report.trading import trading_section

SECTIONS = (
    *(market_section, data_section, candidates_section),
    *(decisions_section, trading_section, drift_section),
)


def make_sections(
    readers: Readers,
    edition: Edition,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[Section, ...]:
    """Return the sections of an edition, in the order of reading; all read in one session.

    Args:
        readers: what is read.
        edition: the span.
        progress: takes how many sections are made, of how many.

    Raises:
        WarehouseError: unreachable, or refused; see its message.
        ObjectStoreError: the lake does not answer, or an object is damaged.
        NewerVersionError: a newer release wrote a document.
    """
    sections = []
    with readers.queries.in_one_session() as queries:
        for done, section in enumerate(SECTIONS):
            progress(done, len(SECTIONS))
            sections.append(section(replace(readers, queries=queries), edition))
    progress(len(SECTIONS), len(SECTIONS))
    return tuple(sections)
