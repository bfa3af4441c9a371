"""All sections of a report, in the order of reading. Each has a module of its own."""

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


def make_sections(readers: Readers, edition: Edition) -> tuple[Section, ...]:
    """Return the sections of an edition, in the order of reading.

    Raises:
        WarehouseError: unreachable, or refused; see its message.
        ObjectStoreError: the lake does not answer, or an object is damaged.
        NewerVersionError: a newer release wrote a document.
    """
    return tuple(section(readers, edition) for section in SECTIONS)
