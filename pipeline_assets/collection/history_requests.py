"""Requests of history: what one run covers, how many runs are requested at once, and when a request is
repeated. Which history is missing is decided in repairs.py and new_symbols.py.
"""

import hashlib
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import NamedTuple, Self

from pipeline_assets.market.intervals import DAY, Interval

# The number of runs requested at once, and none while earlier ones are unfinished: live minutes share the
# exchange's limit, and `all` in place of ten symbols makes hundreds of new ones.
MOST_RUNS = 4
# How long after each request the same may be requested again, the last for all later ones.
WAITS = (timedelta(minutes=15), timedelta(hours=2))
# A new symbol's run that fails, or stores only a part, is requested so often: over 16 hours, after which it
# needs a person.
ATTEMPTS = 10


def next_at(now: datetime, requests: int) -> datetime:
    """Return when the same may be requested again, given how often it was requested by now."""
    return now + WAITS[min(requests, len(WAITS)) - 1]


def digest(parts: Iterable[str]) -> str:
    """Return a short name of exactly these parts."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class History(NamedTuple):
    """Days of some symbols of an interval, `last` included: one run, or what is left to request."""

    interval: Interval
    first: date
    last: date
    symbols: tuple[str, ...]

    @property
    def days(self) -> int:
        """The number of days."""
        return (self.last - self.first).days + 1


class Asked(NamedTuple):
    """A requested run of a new symbol's history whose days are not all finalized yet.

    Attributes:
        interval: of the run, as are `first`, `last` and `symbols`.
        times: how often the run was requested.
        due: when it may be requested again, UTC.
    """

    interval: Interval
    first: date
    last: date
    symbols: tuple[str, ...]
    times: int
    due: datetime

    @property
    def run(self) -> History:
        """The run that was requested."""
        return History(*self[:4])

    @property
    def run_key(self) -> str:
        """The request's own key: Dagster launches one run a key, even if that run fails."""
        again = f" attempt {self.times}" if self.times > 1 else ""
        return f"{self.interval} {self.first} {self.last} {' '.join(self.symbols)}{again}"

    @property
    def given_up(self) -> bool:
        """Whether the run is not requested again."""
        return self.times >= ATTEMPTS

    @classmethod
    def at(cls, run: History, now: datetime, times: int = 1) -> Self:
        """Return a run as requested now."""
        return cls(*run, times, next_at(now, times))


class LedgerRequest(NamedTuple):
    """The request of a ledger over days that have none, `last` included.

    Attributes:
        due: when the same days may be requested again, UTC.
        requests: how often the same days were requested.
    """

    first: date
    last: date
    due: datetime
    requests: int = 1

    def run_key(self, before: "LedgerRequest | None") -> str:
        """Return the request's own key, the same if a look is repeated after a crash."""
        after = before.due.isoformat() if before else "none"
        return f"ledger {self.first} {self.last} after {after}"

    @classmethod
    def of(
        cls, days: tuple[date, date], known: "LedgerRequest | None", now: datetime
    ) -> "LedgerRequest | None":
        """Return the request of these days that is to be made now, or None while it has to wait."""
        made = known.requests if known and (known.first, known.last) == days else 0
        if made and known and known.due > now:
            return None
        return cls(*days, next_at(now, made + 1), made + 1)


def remedy(run: History) -> str:
    """Return the command by which a person fetches a run's days."""
    return (
        f"`pipeline-assets backfill --interval {run.interval} --symbols {','.join(run.symbols)} "
        f"--start {run.first} --end {run.last + DAY}`"
    )
