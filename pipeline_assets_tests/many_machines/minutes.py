"""The view of a trading program: when each minute's candles came to the slots."""

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

import redis

from pipeline_assets.settings import Settings


@dataclass
class Minutes:
    """The times when minutes were first seen in the slots of all symbols: UNIX seconds, by open time.

    Only the clock of this program is asked, so a wait is from the close of the minute by the right clock.
    """

    settings: Settings
    seen: dict[int, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Read twice a second until stopped; while Redis does not answer, nothing counts as seen."""
        password = self.settings.redis.password
        with redis.Redis.from_url(
            self.settings.redis.url,
            password=password.get_secret_value() if password else None,
            socket_timeout=1,
            socket_connect_timeout=1,
        ) as client:
            while not self._stop.wait(0.5):
                with suppress(redis.RedisError):
                    self._note(client)

    def newest(self) -> int:
        """Return the newest minute that every symbol has; 0 before the first."""
        return max(self.seen, default=0)

    def longest_delay(self, since: float, until: float) -> float:
        """Return the longest time from a minute's close to its slots, of minutes closed in this span."""
        closed = range(int(since) // 60 * 60 + 60, int(until), 60)
        delays = [self._first_seen_from(close - 60, until) - close for close in closed]
        return max(delays, default=0.0)

    def stop(self) -> None:
        """End `watch`."""
        self._stop.set()

    def _first_seen_from(self, minute: int, until: float) -> float:
        """Return when this minute or a later one was seen: a later run brings the earlier minutes too."""
        moments = [moment for each, moment in self.seen.items() if each >= minute]
        return min([*moments, until])

    def _note(self, client: "redis.Redis") -> None:
        newest = [
            max((json.loads(value)["open_time"] for value in held.values()), default=0)
            for held in (client.hgetall(f"ohlcv:1m:{{{each}}}") for each in self.settings.symbols)
        ]
        if all(newest):
            self.seen.setdefault(min(newest) // 1000, time.time())
