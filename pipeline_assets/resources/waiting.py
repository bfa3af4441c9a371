"""Wait for another thread in such a way that a signal ends the wait. The callers decide which work to wait
for and how to react to a signal.

Polars installs a handler of its own for Ctrl-C, under which the kernel takes a wait for a lock up again
as if nothing had come: a wait without an end would see the signal only once it is over.
"""

from concurrent.futures import Future, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")
_SECONDS_A_SIGNAL_WAITS = 0.5


def result_of(future: "Future[T]") -> T:
    """Return what came of it, once it is done.

    Raises:
        BaseException: what it raised, or what a signal's handler raises meanwhile.
    """
    while not future.done():
        wait([future], timeout=_SECONDS_A_SIGNAL_WAITS)
    return future.result()


def taken_from(queue: "SimpleQueue[T]") -> T:
    """Return the queue's next item, once there is one.

    Raises:
        BaseException: what a signal's handler raises meanwhile.
    """
    while True:
        with suppress(Empty):
            return queue.get(timeout=_SECONDS_A_SIGNAL_WAITS)
