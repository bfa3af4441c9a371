"""The retry policy: how often, how long and how far apart an operation on an outside system is repeated.

The loop is tenacity's. Each client decides which errors may pass and words the last one. Polls, leases,
waits that the other side orders (HTTP 429) and conditional writes upon a newer ETag do not belong here.
"""

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")
MayPass = Callable[[BaseException], bool]


@dataclass(frozen=True)
class Failure:
    """An attempt that failed for a reason that may pass.

    Attributes:
        error: what it raised.
        attempts: how many attempts have failed.
        seconds: the time that counts against the policy's deadline.
        last: whether the policy allows no further attempt.
    """

    error: BaseException
    attempts: int
    seconds: float
    last: bool


@dataclass(frozen=True)
class RetryPolicy:
    """When a failed operation is repeated. All times are in seconds.

    Attributes:
        attempts: the most attempts; None for no limit.
        deadline: no attempt begins later than this after the first one began; None for no limit.
        first_wait: the wait before the second attempt; it doubles with each further one.
        longest_wait: the longest wait.
        jitter: the share by which a wait varies at random: 0.5 makes it half to one and a half.
        least: attempts made whatever the deadline, for a process that was paused beyond it.
        from_failure: whether the deadline counts from the first failure, for an attempt that may
            wait in a queue before it is sent.
    """

    attempts: int | None = None
    deadline: float | None = None
    first_wait: float = 0.0
    longest_wait: float = 0.0
    jitter: float = 0.0
    least: int = 1
    from_failure: bool = False

    def run(
        self,
        operation: Callable[[], T],
        may_pass: MayPass,
        *,
        on_failure: Callable[[Failure], None] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> T:
        """Call the operation until it succeeds or the policy ends.

        Args:
            operation: must bear a repeat after any error that may pass.
            may_pass: whether the operation is repeated after this error.
            on_failure: gets each failure that may pass; ends the repeating by raising.
            sleep: how to wait.
            monotonic: a clock that only goes forward.

        Raises:
            BaseException: the first error that does not pass, or the last one of those that may.
        """
        judge = self._judge(monotonic)
        # Outside tenacity, which takes longer than most operations do.
        try:
            return operation()
        except Exception as error:
            if not may_pass(error):
                raise
            failed: list[Exception] = [error]

        from tenacity import Retrying, retry_if_exception

        def stop(state: "RetryCallState") -> bool:
            failure = judge(state)
            if on_failure is not None:
                on_failure(failure)
            return failure.last

        def attempt() -> T:
            if failed:
                raise failed.pop()
            return operation()

        retrying = Retrying(
            sleep=sleep, stop=stop, wait=self.wait, retry=retry_if_exception(may_pass), reraise=True
        )
        return retrying(attempt)

    async def run_async(
        self,
        operation: Callable[[], Awaitable[T]],
        may_pass: MayPass,
        *,
        on_failure: Callable[[Failure], Awaitable[None]] | None = None,
        sleep: Callable[[float], Awaitable[None]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> T:
        """Run a coroutine function as `run` runs a function."""
        judge = self._judge(monotonic)
        try:
            return await operation()
        except Exception as error:
            if not may_pass(error):
                raise
            failed: list[Exception] = [error]

        from tenacity import AsyncRetrying, retry_if_exception

        async def stop(state: "RetryCallState") -> bool:
            failure = judge(state)
            if on_failure is not None:
                await on_failure(failure)
            return failure.last

        # tenacity awaits only what it can tell to be a coroutine function.
        async def attempt() -> T:
            if failed:
                raise failed.pop()
            return await operation()

        retrying = AsyncRetrying(
            sleep=sleep,
            stop=stop,  # type: ignore[arg-type] # tenacity awaits it, and its type does not say so
            wait=self.wait,
            retry=retry_if_exception(may_pass),
            reraise=True,
        )
        return await retrying(attempt)

    def wait(self, state: "RetryCallState") -> float:
        """Return how long to wait after the attempt that failed."""
        from tenacity import wait_exponential

        wait = wait_exponential(self.first_wait, max=self.longest_wait)(state)
        return wait * random.uniform(1 - self.jitter, 1 + self.jitter)  # noqa: S311 - no secret

    def _judge(self, monotonic: Callable[[], float]) -> "Callable[[RetryCallState], Failure]":
        begun = None if self.from_failure else monotonic()

        def judge(state: "RetryCallState") -> Failure:
            nonlocal begun
            now = monotonic()
            begun = now if begun is None else begun
            outcome, made = state.outcome, state.attempt_number
            error = outcome.exception() if outcome else None
            if error is None:
                raise TypeError("tenacity asked about an attempt that did not fail")
            seconds = now - begun
            late = self.deadline is not None and seconds + state.upcoming_sleep > self.deadline
            last = (late and made >= self.least) or made == self.attempts
            return Failure(error, made, seconds, last)

        return judge
