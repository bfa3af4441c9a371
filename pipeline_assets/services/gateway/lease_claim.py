"""The claim of a gateway's process on its lease: a locked file on this host that names the lease. The lease
itself is in lease.py.

The system frees the lock when the process ends, however it ends. A process that gets the lock so knows that
the process which wrote the file is dead, and may release the lease that the file names without waiting for
its end. The file says nothing about leases of other hosts: their tokens are in no file here.
"""

import fcntl
import logging
import os
from pathlib import Path

_logger = logging.getLogger(__name__)
_LONGEST_TOKEN = 1_000


class LeaseClaim:
    """A lock on a file, held until closed or until the process ends.

    A file that cannot be opened or locked costs the next gateway the wait for the lease, and nothing else.
    """

    def __init__(self, path: Path) -> None:
        """Take no lock yet."""
        self._path = path
        self._file: int | None = None

    def close(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def dead_token(self) -> str:
        """Return the token that a process which has ended wrote; empty without the lock or a token."""
        opened = self._locked()
        return (
            "" if opened is None else os.pread(opened, _LONGEST_TOKEN, 0).decode(errors="replace")
        )

    def write(self, token: str) -> None:
        """Note the token of this process's lease, if the process has the lock."""
        opened = self._locked()
        if opened is not None:
            # A torn write names no lease, and the next gateway waits.
            os.ftruncate(opened, 0)
            os.pwrite(opened, token.encode(), 0)

    def _locked(self) -> int | None:
        """Return the open file, locked now if its lock is free; None if another process has the lock."""
        if self._file is not None:
            return self._file
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Not inherited by programs that this process starts: these would hold the lock on.
            opened = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._warn(error)
            return None
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(opened)
            if not isinstance(error, BlockingIOError):
                self._warn(error)
            return None
        self._file = opened
        return opened

    def _warn(self, error: OSError) -> None:
        _logger.warning(
            "%s cannot be locked (%s): a restart waits for the lease.", self._path, error
        )
