"""The exchange's clock, estimated from the round trips of requests for its time, with the error of the
estimate. Sending those requests does not belong here.
"""

import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from pipeline_assets.market.intervals import to_milliseconds

MINUTE_MS = 60_000

# How long a sample is kept; after that a worse one replaces it.
_KEPT_SECONDS = 300.0
# How often the time is asked for again, and how soon where the best sample is poor.
_AGAIN_SECONDS, _SOON_SECONDS = 60.0, 5.0
_POOR_MS = 500.0
# A quartz clock is off by 20 to 50 millionths, a virtual machine's by up to 100.
_DRIFT_MS_A_SECOND = 0.1
# The exchange gives its time in whole milliseconds.
_RESOLUTION_MS = 1.0
# With a larger one no moment of a minute would be certain, and nothing would ever be sent.
_LARGEST_ERROR_MS = 20_000.0


class _Sample(NamedTuple):
    offset_ms: float
    error_ms: float
    taken: float

    def error_at(self, moment: float) -> float:
        return self.error_ms + _DRIFT_MS_A_SECOND * (moment - self.taken)


class ExchangeClock:
    """The exchange's clock, by the sample with the shortest round trip of the last minutes.

    The exchange read its clock at some moment between sending and receiving, so the middle is wrong
    by half the round trip at most. A slow reply therefore never replaces a quick one.

    Before the first measurement this is the machine's wall clock. Between measurements it runs with
    the monotonic clock, so that a correction of the local clock does not move weight into another
    minute.

    Invariant: while the two clocks drift apart by less than 100 millionths, the exchange's time is
    within `error_ms()` of `now_ms()`.

    Attributes:
        monotonic: that clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic
        self._wall_offset_ms = 1000 * (time.time() - monotonic())
        self._samples: deque[_Sample] = deque()
        self._best: _Sample | None = None
        self._due_at = 0.0

    @property
    def measured(self) -> bool:
        """Whether the exchange's time was ever taken."""
        return self._best is not None

    @property
    def due(self) -> bool:
        """Whether the time should be asked for now."""
        return self.monotonic() >= self._due_at

    def postpone(self) -> None:
        """Note that the time is being requested, so that no other task requests it too."""
        self._due_at = self.monotonic() + _SOON_SECONDS

    def now_ms(self) -> int:
        """Return the exchange's time now, in milliseconds since the epoch."""
        return int(self._now_ms())

    def minute(self) -> int:
        """Return the exchange's minute now, since the epoch."""
        return self.now_ms() // MINUTE_MS

    def error_ms(self) -> float:
        """Return how far `now_ms` may be from the exchange's time; 0 before the first measurement."""
        if self._best is None:
            return 0.0
        return min(self._best.error_at(self.monotonic()), _LARGEST_ERROR_MS)

    def latest_minute(self) -> int:
        """Return the latest minute that the exchange may be in now."""
        return int(self._now_ms() + self.error_ms()) // MINUTE_MS

    def until_certain_ms(self) -> float:
        """Return how long to wait until the exchange is in one minute for certain; 0 if it is now."""
        now, error = self._now_ms(), self.error_ms()
        turn = (now + error) // MINUTE_MS * MINUTE_MS
        return max(turn - (now - error), 0.0)

    def sample(self, server_time: Callable[[], datetime]) -> None:
        """Ask for the exchange's time, and take the answer as a sample.

        Args:
            server_time: asks the exchange; returns UTC.
        """
        sent = self.monotonic()
        said = server_time()
        self.measure(to_milliseconds(said), sent, self.monotonic())

    def measure(
        self, server_ms: float, sent: float, received: float, resolution_ms: float = _RESOLUTION_MS
    ) -> None:
        """Take a sample of the exchange's time.

        Args:
            server_ms: what the exchange said, in milliseconds since the epoch.
            sent: when the request was sent, by the monotonic clock.
            received: when the reply was there.
            resolution_ms: how much later than `server_ms` the exchange's clock may have been.
        """
        half_ms = 1000 * (received - sent) / 2 + resolution_ms / 2
        offset = server_ms + resolution_ms / 2 - 1000 * (sent + received) / 2
        sample = _Sample(offset, half_ms, received)
        best = self._best
        # Both cannot be true: one of the clocks was set, and the newer sample knows of it.
        if best is not None and abs(offset - best.offset_ms) > half_ms + best.error_at(received):
            self._samples.clear()
        while self._samples and self._samples[0].taken < received - _KEPT_SECONDS:
            self._samples.popleft()
        self._samples.append(sample)
        self._best = min(self._samples, key=lambda each: each.error_at(received))
        poor = self._best.error_at(received) > _POOR_MS
        self._due_at = received + (_SOON_SECONDS if poor else _AGAIN_SECONDS)

    def _now_ms(self) -> float:
        offset = self._wall_offset_ms if self._best is None else self._best.offset_ms
        return 1000 * self.monotonic() + offset
