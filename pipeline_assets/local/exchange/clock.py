"""The exchange's clock: real, shifted, or moved by hand. The data that depends on it is elsewhere."""

import time
from dataclasses import dataclass

from pipeline_assets.local.exchange.moments import parse_moment

FORMS = "real, offset:SECONDS, start:ISO or stepped:ISO, e.g. stepped:2026-11-20T12:00:00Z"


@dataclass
class ExchangeClock:
    """The exchange's time, in ms since the epoch, UTC.

    `stepped_ms` is the time itself where the clock moves only by hand; otherwise the time is the
    machine's plus `offset_ms`.
    """

    kind: str = "real"
    offset_ms: int = 0
    stepped_ms: int | None = None

    @classmethod
    def parse(cls, text: str) -> "ExchangeClock":
        """Return the clock that a command line names.

        Args:
            text: `real`, `offset:SECONDS`, `start:ISO` (runs on from there) or `stepped:ISO`
                (stands until /control/clock moves it).

        Raises:
            ValueError: none of these.
        """
        kind, _, value = text.partition(":")
        if kind == "real" and not value:
            return cls()
        try:
            if kind == "offset":
                return cls("offset", offset_ms=round(float(value) * 1000))
            if kind == "start":
                return cls("offset", offset_ms=parse_moment(value) - machine_ms())
            if kind == "stepped":
                return cls("stepped", stepped_ms=parse_moment(value))
        except ValueError as error:
            raise ValueError(f"The clock {text!r} cannot be read ({error}): use {FORMS}") from error
        raise ValueError(f"There is no clock {text!r}: use {FORMS}")

    def now_ms(self) -> int:
        """Return the exchange's time now, ms since the epoch."""
        return machine_ms() + self.offset_ms if self.stepped_ms is None else self.stepped_ms

    def set_ms(self, value: int) -> None:
        """Move the clock to `value`, ms since the epoch; an offset clock runs on from there.

        Raises:
            ValueError: this is the real clock, which only the machine moves.
        """
        if self.kind == "real":
            raise ValueError(
                f"The real clock cannot be moved: start the exchange with --clock {FORMS}"
            )
        if self.stepped_ms is None:
            self.offset_ms = value - machine_ms()
        else:
            self.stepped_ms = value


def machine_ms() -> int:
    """Return the machine's time, ms since the epoch."""
    return time.time_ns() // 1_000_000
