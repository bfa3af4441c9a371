"""Launching once, and waiting while Dagster is away. How Dagster is asked is in dagster_api.py."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from dagster_api import DagsterSilentError, DagsterUnavailableError

Found = TypeVar("Found")
_SECONDS_BETWEEN_ATTEMPTS = 2.0
# A launch without an answer may still make its run; until then a second one would be a second run.
_SECONDS_OF_DOUBT = 10.0


@dataclass
class Patience:
    """How long Dagster may be away before that is an error: a deploy restarts its code server.

    Attributes:
        limit: how long it may be away at a stretch.
        interrupted: asked between attempts; whatever it raises ends the waiting.
    """

    limit: timedelta
    interrupted: Callable[[], None]
    _away_since: float | None = None

    def bear(self, error: DagsterUnavailableError) -> None:
        """Wait a little after an error, or raise it if Dagster has been away for too long."""
        now = time.monotonic()
        self._away_since = now if self._away_since is None else self._away_since
        if now - self._away_since > self.limit.total_seconds():
            raise error
        self.pause(_SECONDS_BETWEEN_ATTEMPTS)

    def answered(self) -> None:
        """Dagster is there."""
        self._away_since = None

    def pause(self, seconds: float) -> None:
        """Wait between two looks."""
        self.interrupted()
        time.sleep(seconds)
        self.interrupted()


def find_or_launch(
    find: Callable[[], Sequence[Found]], launch: Callable[[], str], patience: Patience
) -> Found:
    """Return the newest run that `find` returns; launch one if it returns none.

    A call after a lost answer, a killed process or a retry joins the run that was launched before.
    """
    doubtful_until = 0.0
    while True:
        try:
            if found := find():
                patience.answered()
                return found[0]
            if time.monotonic() >= doubtful_until:
                launch()
                doubtful_until = time.monotonic() + _SECONDS_OF_DOUBT
        except DagsterSilentError as error:
            doubtful_until = time.monotonic() + _SECONDS_OF_DOUBT
            patience.bear(error)
        except DagsterUnavailableError as error:
            patience.bear(error)
        else:
            patience.pause(0.1)
