"""Report how far long work is. The work itself does not belong here."""

import time
from collections.abc import Callable
from typing import Protocol

_EVERY_SECONDS = 10.0


class Progress(Protocol):
    """The receiver of a fetch's progress.

    `later` is the upper limit of the rows of the fetches that follow this one: a long range is many
    runs, and a person who waits for it wants to know when the last one ends.
    """

    later: int

    def start(self, label: str, rows: int) -> None:
        """A fetch begins that expects this many rows at most."""

    def advance(self, rows: int, planned: int) -> None:
        """This many more rows have come, and so many planned candles need no more work.

        The two differ where the exchange has a hole, a symbol failed, or it is listed since recently.
        """

    def weight(self, used: int, allowed: int) -> None:
        """How the exchange's current minute stands: weight used by this address, and allowed."""

    def finish(self) -> None:
        """The fetch ended."""


class LogProgress:
    """Progress as plain lines, one every ten seconds at most: short work stays silent."""

    def __init__(
        self, log: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._clock = clock
        self.later = 0

    def start(self, label: str, rows: int) -> None:
        """See Progress."""
        self._label, self._expected, self._rows, self._done = label, rows, 0, 0
        self._started = self._reported = self._clock()
        self._weight = ""

    def advance(self, rows: int, planned: int) -> None:
        """See Progress."""
        self._rows += rows
        self._done += planned
        now = self._clock()
        if now - self._reported >= _EVERY_SECONDS:
            self._reported = now
            seconds = now - self._started
            rate = self._rows / seconds
            # A step may settle nothing: then the time left is unknown.
            left = max(self._expected + self.later - self._done, 0) * seconds
            until_end = f"{left / self._done:,.0f} s left" if self._done else "time left unknown"
            self._log(
                f"{self._label}: {self._done:,} of {self._expected:,} planned, {self._rows:,} rows "
                f"fetched, {rate:,.0f} rows/s, {self._weight}{until_end}"
            )

    def weight(self, used: int, allowed: int) -> None:
        """See Progress."""
        self._weight = f"weight {used:,} of {allowed:,} this minute, "

    def finish(self) -> None:
        """See Progress."""
