"""A thread that repeats a piece of work of a long-running program, such as a refresh of data in memory."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.stop_flag import StopFlag

_logger = logging.getLogger(__name__)


class Repeated:
    """Runs a piece of work again and again.

    A system that does not answer is logged when it begins and when it ends. Any other error stops the
    repetitions, and is raised at the next `check`.
    """

    def __init__(self, name: str, work: Callable[[], object], seconds: float) -> None:
        """Do the work at once, and then again so many seconds after its end."""
        self._name, self._work, self._seconds = name, work, seconds
        self._stop = StopFlag()
        self._failed = False
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, name=name, daemon=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Repeat the work within the block. A request that is under way at its end is not waited for."""
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()

    def check(self) -> None:
        """Raise the error that ended the repetitions, if any."""
        if self._error is not None:
            raise self._error

    def once(self) -> None:
        """Do the work once."""
        try:
            self._work()
        except OutsideSystemError as error:
            if not self._failed:
                _logger.warning("%s stay as they are: %s", self._name.capitalize(), error)
            self._failed = True
        else:
            if self._failed:
                _logger.info("%s are refreshed again.", self._name.capitalize())
            self._failed = False

    def _run(self) -> None:
        try:
            self.once()
            while not self._stop.wait(self._seconds):
                self.once()
        except Exception as error:  # noqa: BLE001 - raised again by `check` in the program's own thread
            self._error = error
