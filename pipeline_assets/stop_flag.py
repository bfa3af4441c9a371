"""The flag with which a signal ends a long-running program.

`threading.Event` is not made for signal handlers: a handler that calls `set` while its own thread is inside
`wait`, or inside another handler's `set`, waits for a lock that this thread holds. `up` hung this way, and
took no further signal.
"""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue


class StopFlag:
    """Set once, by a signal handler or any thread. `SimpleQueue.put` is reentrant; `Event.set` is not."""

    def __init__(self) -> None:
        """Begin unset."""
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._set = False

    def set(self) -> None:
        """Set the flag, and wake every thread that waits."""
        self._set = True
        self._tokens.put(None)

    def is_set(self) -> bool:
        """Return whether the flag is set."""
        return self._set

    def wait(self, timeout: float) -> bool:
        """Wait until the flag is set, at most `timeout` seconds; return whether it is."""
        if not self._set:
            try:
                self._tokens.get(timeout=timeout)
            except Empty:
                return self._set
            # For the next thread that waits.
            self._tokens.put(None)
        return True


@contextmanager
def set_by_signals(flag: StopFlag, numbers: Iterable[signal.Signals]) -> Iterator[None]:
    """Set the flag upon these signals within the block, which the main thread must enter."""
    before = {number: signal.signal(number, lambda *_: flag.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
