"""The one place that chooses where a journal is kept, by the settings: a file, or a table in PostgreSQL. The
two are in journal.py and journal_postgres.py.
"""

from pathlib import Path
from typing import Literal

from pipeline_assets.resources.journal import Journal, SqliteJournal
from pipeline_assets.settings import TradingSettings

# The gateway's own, and the paper venue's.
Owner = Literal["gateway", "paper"]


def journal_file(settings: TradingSettings, data_dir: Path, owner: Owner) -> Path:
    """Return the file of an account's journal; the paper venue's is beside the gateway's."""
    return beside(settings.journal or data_dir / "trading" / f"{settings.account}.sqlite", owner)


def lease_file(settings: TradingSettings, data_dir: Path) -> Path:
    """Return the file by which a gateway of this host names its lease; also for journals in PostgreSQL."""
    return journal_file(settings, data_dir, "gateway").with_suffix(".lease")


def beside(path: Path, owner: Owner) -> Path:
    """Return the file of an owner's journal, or of its copy, by the gateway's."""
    return path if owner == "gateway" else path.with_suffix(f".{owner}{path.suffix}")


def open_journal(settings: TradingSettings, data_dir: Path, owner: Owner) -> Journal:
    """Open an account's journal, or make it.

    Raises:
        SettingsError: the address of the database cannot be read.
        JournalError: the journal cannot be opened.
        JournalDamagedError: something else is in its place.
    """
    if settings.journal_url is None:
        return SqliteJournal(journal_file(settings, data_dir, owner))
    from pipeline_assets.resources.journal_postgres import PostgresJournal

    return PostgresJournal(settings.journal_url, f"{owner}_journal_{settings.account}")
