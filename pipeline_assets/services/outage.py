"""The log of a program that waits for another system: the whole error once, then ever fewer short lines.

A trader without its gateway logged the same 400 characters every five seconds, which buried all else.
"""

import logging
import time
from collections.abc import Callable

from pipeline_assets.errors import OutsideSystemError

_FIRST_LINE_SECONDS, _LONGEST_SECONDS = 10.0, 300.0
_SHORT = 100
_logger = logging.getLogger(__name__)


class Outage:
    """One wait at a time, from its first failure to `over`.

    Failures are of one state if they have one type and, of calls to the gateway, one status; texts differ by
    the moment at which the connection broke.
    """

    def __init__(self, program: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Wait for nothing yet.

        Args:
            program: begins each line, such as `The trader`.
            monotonic: a clock in seconds that only goes forward.
        """
        self._program, self._monotonic = program, monotonic
        self._state: tuple[str, str] | None = None
        self._begun = self._due = self._pause = 0.0

    def failed(self, error: OutsideSystemError) -> None:
        """Log a failure: wholly if its state is new, else shortly and at most at a doubling interval."""
        now, state = self._monotonic(), (type(error).__name__, str(getattr(error, "status", "")))
        if self._state is None:
            self._begun = now
        if state != self._state:
            self._state, self._pause = state, _FIRST_LINE_SECONDS
            self._due = now + self._pause
            _logger.warning("%s begins again at its checkpoint: %s", self._program, error)
        elif now >= self._due:
            self._pause = min(2 * self._pause, _LONGEST_SECONDS)
            self._due = now + self._pause
            short = str(error).partition(" (")[0][:_SHORT]
            _logger.warning("%s waits, %.0f s by now: %s", self._program, now - self._begun, short)

    def over(self) -> None:
        """Log the end of a wait, if there was one."""
        if self._state is not None:
            self._state = None
            waited = self._monotonic() - self._begun
            _logger.warning("%s goes on after a wait of %.0f s.", self._program, waited)
