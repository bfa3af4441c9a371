"""Wait for another thread in such a way that a signal ends the wait. The callers decide which work to wait
for and how to react to a signal.

Polars installs a handler of its own for Ctrl-C, under which the kernel restarts an interrupted wait
for a lock: a wait without a limit would see the signal only at its end.
"""

from concurrent.futures import Future, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")
_POLL_SECONDS = 0.5


def result_of(future: "Future[T]") -> T:
    """Wait for the future and return its result.

    Raises:
        BaseException: the future's exception, or a signal handler's.
    """
    while not future.done():
        wait([future], timeout=_POLL_SECONDS)
    return future.result()


def next_item(queue: "SimpleQueue[T]") -> T:
    """Wait for the queue's next item and return it.

    Raises:
        BaseException: a signal handler's exception.
    """
    while True:
        with suppress(Empty):
            return queue.get(timeout=_POLL_SECONDS)
