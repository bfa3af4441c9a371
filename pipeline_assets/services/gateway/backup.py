"""Copies of an account's journal files, all of one moment. When that moment is, service.py decides."""

from contextlib import ExitStack
from pathlib import Path
from typing import get_args

from pipeline_assets.errors import PipelineError
from pipeline_assets.resources.journal import SqliteJournal
from pipeline_assets.resources.journals import Owner, beside, journal_file
from pipeline_assets.services.gateway.service import CallRefusedError, Kind
from pipeline_assets.settings import Settings


class JournalBackup:
    """The gateway's journal and the paper venue's as they were when this object was made.

    Make it while the gateway stores nothing. The venue may go on: it never has an order that the gateway did
    not store before, nor does the gateway have a fill that the venue did not store before.
    """

    def __init__(self, settings: Settings) -> None:
        """Hold the files' state, over connections beside the gateway's.

        Raises:
            CallRefusedError: the journals are in PostgreSQL.
            JournalError: a file cannot be read.
        """
        trading = settings.trading
        if trading.journal_url is not None:
            raise CallRefusedError(
                Kind.NOT_NOW,
                "backup",
                "The journals are in PostgreSQL, so its own tools back both up at one moment: pg_dump "
                f"--table='*_journal_{trading.account}' (docs/backup.md).",
            )
        self._open = ExitStack()
        self._journals: dict[Owner, SqliteJournal] = {}
        try:
            for owner in get_args(Owner):
                file = journal_file(trading, settings.data_dir, owner)
                # Other venues keep no journal here.
                if owner == "gateway" or file.exists():
                    journal = self._journals[owner] = SqliteJournal(file)
                    self._open.callback(journal.close)
                    journal.pin()
        except PipelineError:
            self._open.close()
            raise

    def write(self, target: Path) -> None:
        """Write the copies to new files and close the journals; the venue's is `beside` the target.

        Raises:
            JournalError: a copy cannot be written, or exists.
        """
        with self._open:
            for owner, journal in self._journals.items():
                journal.backup(beside(target, owner))
