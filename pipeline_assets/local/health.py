"""Ask for the services' health: a thread per service, so that a service that hangs delays no other. The
questions are in probes.py; the supervisor decides what to do about the answers.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pipeline_assets.local.errors import StackError, UnhealthyError, UnknownHealthError

READY_PERIOD = 0.1


@dataclass(frozen=True)
class HealthCheck:
    """A question that only a working service answers, and when silence is too long.

    With the defaults, a service that hangs is restarted after 3 × (10 + 10) s at most.

    Attributes:
        ask: returns if the service works; raises UnhealthyError or OSError if not.
        period: seconds between two questions.
        timeout: seconds after which a question counts as failed; `ask` should give up by itself.
        failures: how many failed questions in a row restart the service.
        through: services that must work for the answer to count, such as a web server that is asked
            about another process.
    """

    ask: Callable[[], None]
    period: float = 10.0
    timeout: float = 10.0
    failures: int = 3
    through: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The answer to one health check: `problem` is None if the service works."""

    problem: str | None
    known: bool = True


class Prober:
    """Asks one process of a service: first whether it is ready, then again and again if it works."""

    def __init__(
        self, name: str, ready: Callable[[], bool], check: HealthCheck | None, *, is_ready: bool
    ) -> None:
        """Start asking.

        Args:
            name: of the service, for the thread's name.
            ready: asked until it says True.
            check: asked from then on; None asks nothing more.
            is_ready: whether the process was ready before.
        """
        self.ready = is_ready
        self.fatal: Exception | None = None
        self.not_ready: str | None = None
        self._ready_question = ready
        self._check = check
        self._answers: deque[Answer] = deque()
        self._asking_since: float | None = None
        self._retired = threading.Event()
        # A daemon: a question that never ends must not keep `up` from ending.
        threading.Thread(target=self._run, name=f"health of {name}", daemon=True).start()

    def retire(self) -> None:
        """Ask no more; a question under way is left to end by itself."""
        self._retired.set()

    def answers(self) -> list[Answer]:
        """Return the answers that came since the last call."""
        found = []
        while self._answers:
            found.append(self._answers.popleft())
        return found

    def is_overdue(self, now: float) -> bool:
        """Return whether a health question has been under way for longer than its time-out."""
        since = self._asking_since
        return (
            since is not None and self._check is not None and now - since > self._check.timeout + 1
        )

    def _run(self) -> None:
        while not self.ready:
            if self._ask_ready():
                self.ready = True
            elif self.fatal is not None or self._retired.wait(READY_PERIOD):
                return
        if self._check is None:
            return
        while not self._retired.wait(self._check.period):
            self._asking_since = time.monotonic()
            answer = self._ask(self._check)
            self._asking_since = None
            self._answers.append(answer)

    def _ask_ready(self) -> bool:
        try:
            return self._ready_question()
        except StackError as error:
            self.fatal = error
        except Exception as error:  # noqa: BLE001 - shown, and asked again until the time is over
            self.not_ready = f"{type(error).__name__}: {error}"
        return False

    def _ask(self, check: HealthCheck) -> Answer:
        try:
            check.ask()
        except UnknownHealthError as error:
            return Answer(str(error), known=False)
        except UnhealthyError as error:
            return Answer(str(error))
        except Exception as error:  # noqa: BLE001 - any failure to answer is one; it is shown
            return Answer(f"{type(error).__name__}: {error}"[:300])
        return Answer(None)
