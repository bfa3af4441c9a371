"""Time and chance of the simulation: a clock that only the next event moves, and one seeded random source."""

import heapq
from collections.abc import Callable
from random import Random

# 2026-03-01 00:00 UTC, in milliseconds.
BEGIN = 1_772_323_200_000


class VirtualWorld:
    """Runs what was scheduled, in the order of time; what falls together, in the order of scheduling."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = BEGIN
        self.faulty = True
        self._scheduled: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, milliseconds: int, action: Callable[[], None]) -> None:
        """Schedule an action."""
        self._count += 1
        heapq.heappush(self._scheduled, (self.now + milliseconds, self._count, action))

    def run_until(self, end: int) -> None:
        """Run what is scheduled until a time."""
        while self._scheduled and self._scheduled[0][0] <= end:
            self.now, _, action = heapq.heappop(self._scheduled)
            action()
        self.now = end

    def chance(self, probability: float) -> bool:
        """Return true with a probability while faults are on; false afterwards."""
        return self.faulty and self.random.random() < probability

    def between(self, low: int, high: int) -> int:
        """Return a random whole number, both ends included."""
        return low + int(self.random.random() * (high - low + 1))
