"""Asking several systems at once, each with a deadline. The caller chooses the questions and shows the
answers.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event, Thread
from typing import Generic, NoReturn, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The answer to a question: a value, or an error that says why there is none."""

    value: T | None
    error: str | None = None

    def answer(self) -> "Answer[T]":
        """Return itself: what was not asked is answered like a question."""
        return self


class Question(Generic[T]):
    """A question under way in a thread of its own.

    The deadline counts from the last progress: work that advances reports it. So a slow, long answer is
    awaited, and a system that hangs is not.
    """

    def __init__(
        self,
        ask: Callable[[Callable[[], None]], T],
        seconds: float,
        errors: tuple[type[Exception], ...],
    ) -> None:
        """Start asking.

        Args:
            ask: does the work; it is given a function to call at each progress.
            seconds: how long to wait for the answer or the next progress.
            errors: those that become the answer's error; any other is raised by `answer`.
        """
        self._ask, self._seconds, self._errors = ask, seconds, errors
        self._over = Event()
        self._value: T | None = None
        self._failure: BaseException | None = None
        self._progress()
        # A daemon: what hangs must not keep the command from ending.
        Thread(target=self._run, daemon=True).start()

    @property
    def over(self) -> bool:
        """Whether the work has ended, well or not."""
        return self._over.is_set()

    def within(self, seconds: float) -> bool:
        """Wait for so long at most; whether the work has ended."""
        return self._over.wait(seconds)

    def answer(self) -> Answer[T]:
        """Wait for the answer, until the deadline at most."""
        while not self._over.wait(max(0.0, self.deadline - time.monotonic())):
            if time.monotonic() >= self.deadline:
                return Answer(None, f"no answer within {self._seconds:g} s")
        if self._failure is None:
            return Answer(self._value)
        if isinstance(self._failure, self._errors):
            return Answer(None, str(self._failure))
        raise self._failure

    def _progress(self) -> None:
        self.deadline = time.monotonic() + self._seconds

    def _run(self) -> None:
        try:
            self._value = self._ask(self._progress)
        except BaseException as error:  # noqa: BLE001 - raised again, or printed, in the caller's thread
            self._failure = error
        finally:
            self._over.set()


def leave(status: int) -> NoReturn:
    """End the process at once although threads hang: threads of client libraries are not daemon threads."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
