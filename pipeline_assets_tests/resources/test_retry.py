"""The retry policy, on a clock that only its own waits move."""

import asyncio
from collections.abc import Callable

import pytest

from pipeline_assets.resources.retry import Failure, RetryPolicy


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["run", "run_async"])
def repeat(request, clock) -> Callable[..., str]:
    """The same policy for functions and for coroutines."""

    def run(policy: RetryPolicy, operation: Callable[[], str], on_failure=None) -> str:
        def may_pass(error: BaseException) -> bool:
            return isinstance(error, OSError)

        if request.param == "run":
            return policy.run(
                operation,
                may_pass,
                on_failure=on_failure,
                sleep=clock.sleep,
                monotonic=lambda: clock.now,
            )

        async def attempt() -> str:
            return operation()

        async def judge(failure: Failure) -> None:
            if on_failure is not None:
                on_failure(failure)

        return asyncio.run(
            policy.run_async(
                attempt,
                may_pass,
                on_failure=judge,
                sleep=clock.sleep_async,
                monotonic=lambda: clock.now,
            )
        )

    return run


def failing(times: int, clock: Clock | None = None, seconds: float = 0.0) -> Callable[[], str]:
    """Fails so often, each attempt taking so long, and then succeeds."""
    left = [times]

    def operation() -> str:
        if clock is not None:
            clock.now += seconds
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(f"{left[0]} left")
        return "done"

    return operation


def test_waits_double_up_to_the_longest(repeat, clock):
    policy = RetryPolicy(first_wait=0.5, longest_wait=3.0)
    assert repeat(policy, failing(5)) == "done"
    assert clock.waits == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_last_error_is_raised(repeat, clock):
    """The last error is raised after the last attempt."""
    with pytest.raises(OSError, match="0 left"):
        repeat(RetryPolicy(attempts=3, first_wait=1.0, longest_wait=1.0), failing(3))
    assert clock.waits == [1.0, 1.0]


def test_no_attempt_begins_after_the_deadline(repeat, clock):
    with pytest.raises(OSError, match="left"):
        repeat(RetryPolicy(deadline=10.0, first_wait=4.0, longest_wait=4.0), failing(99))
    assert clock.waits == [4.0, 4.0]


def test_least_attempts_follow_the_deadline(repeat, clock):
    """The minimum number of attempts is made even after the deadline."""
    policy = RetryPolicy(deadline=10.0, least=2)
    assert repeat(policy, failing(1, clock, 60.0)) == "done"
    with pytest.raises(OSError, match="left"):
        repeat(policy, failing(2, clock, 60.0))


def test_deadline_counts_from_first_failure(repeat, clock):
    """The deadline may count from the first failure.

    A first attempt that waited in a queue does not use up the time.
    """
    policy = RetryPolicy(deadline=10.0, from_failure=True)
    assert repeat(policy, failing(1, clock, 60.0)) == "done"


def test_permanent_error_is_not_retried(repeat, clock):
    """A permanent error is not retried."""

    def operation() -> str:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        repeat(RetryPolicy(attempts=9), operation)
    assert clock.waits == []


def test_failures_are_reported_between_attempts(repeat):
    """Each failure is reported, and the report may end the retries."""
    reported: list[tuple[int, bool]] = []

    def judge(failure: Failure) -> None:
        reported.append((failure.attempts, failure.last))
        if failure.attempts == 2:
            raise RuntimeError("enough") from failure.error

    with pytest.raises(RuntimeError, match="enough"):
        repeat(RetryPolicy(attempts=9), failing(9), judge)
    assert reported == [(1, False), (2, False)]
    reported.clear()
    with pytest.raises(OSError, match="left"):
        repeat(RetryPolicy(attempts=1), failing(9), judge)
    assert reported == [(1, True)]


def test_jitter_varies_each_wait(clock):
    policy = RetryPolicy(first_wait=1.0, longest_wait=1.0, jitter=0.5)
    policy.run(failing(50), lambda _: True, sleep=clock.sleep)
    assert all(0.5 <= wait <= 1.5 for wait in clock.waits)
    assert len(set(clock.waits)) > 1


def test_interrupt_is_not_retried(repeat, clock):
    """Ctrl-C and Dagster's interrupts do not derive from `Exception`."""

    def operation() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repeat(RetryPolicy(attempts=9), operation)
    assert clock.waits == []
