"""Which ingest runs are requested after a time in which nothing ran. Which runs are under way, and the
request itself, belong to sensors/overdue_ingest.py.
"""

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pipeline_assets.collection.due_uploads import newest_due
from pipeline_assets.collection.freshness import GRACE
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import newest_closed
from pipeline_assets.resources.document_versions import cursor_content

# The platform was off, or slept, if the sensor did not run for this long.
AWAY = timedelta(minutes=2)
_FIRST_WAIT, _LONGEST_WAIT = timedelta(minutes=2), timedelta(minutes=15)


def overdue_candle(
    interval: Interval,
    newest_stored: datetime | None,
    server_time: datetime,
    upload_minutes: int,
) -> datetime | None:
    """Return the open time of the newest candle that should be stored by now, or None if it is.

    Args:
        interval: of the candles.
        newest_stored: the open time of the newest candle of any symbol, or None without one.
        server_time: the exchange's time, UTC.
        upload_minutes: as in the settings.
    """
    due = newest_due(interval, newest_closed(interval, server_time, GRACE), upload_minutes)
    return None if newest_stored is not None and newest_stored >= due else due


@dataclass(frozen=True)
class Request:
    """How often an interval was requested since the platform came back, and when it may be again, UTC."""

    count: int = 0
    next_at: datetime | None = None

    def due(self, now: datetime) -> bool:
        """Return whether the interval may be requested now."""
        return self.next_at is None or self.next_at <= now

    def repeated(self, now: datetime) -> "Request":
        """Return the request with one more counted; waits double up to a quarter of an hour."""
        wait = min(_FIRST_WAIT * 2**self.count, _LONGEST_WAIT)
        return Request(self.count + 1, now + wait)


@dataclass(frozen=True)
class Return:
    """The ingest runs that are still due since the platform came back.

    Regular ingest runs are the scheduler's. Only what is overdue at the return is requested, so that a
    schedule or DAG that somebody paused later stays paused.

    Attributes:
        looked_at: when the sensor looked last, UTC.
        pending: the intervals that were not seen up to date since the return.
        process: names the process that looked last. Another process means a start.
        since: when the platform came back, UTC.
    """

    looked_at: datetime | None = None
    pending: Mapping[Interval, Request] = field(default_factory=dict)
    process: str = ""
    since: datetime | None = None

    def seen(self, now: datetime, process: str = "") -> "Return":
        """Return the state after a check by a process.

        Every interval is pending after a start, however short the stop was, and if the last check is
        long ago.
        """
        away = self.looked_at is None or now - self.looked_at > AWAY or process != self.process
        if not away:
            return replace(self, looked_at=now)
        return Return(now, dict.fromkeys(Interval, Request()), process, now)

    def next_requests(
        self,
        newest: Mapping[Interval, datetime | None],
        under_way: Container[Interval],
        now: datetime,
        upload_minutes: int,
    ) -> "tuple[dict[Interval, Request], Return]":
        """Return the requests to make now, and the state after them.

        An interval is pending until the candle is stored that had closed at the return. It is requested
        once that candle, or a later one, is overdue.

        Args:
            newest: the open time of the newest stored candle of each pending interval, if any.
            under_way: the intervals with an ingest run that is queued or running.
            now: the exchange's time, UTC.
            upload_minutes: as in the settings.
        """
        since = self.since or now
        pending = {}
        for interval, each in self.pending.items():
            closed = newest_due(
                interval, newest_closed(interval, since, timedelta(0)), upload_minutes
            )
            stored = newest[interval]
            if stored is None or stored < closed:
                pending[interval] = each
        due = {
            interval: each
            for interval, each in pending.items()
            if overdue_candle(interval, newest[interval], now, upload_minutes) is not None
            and interval not in under_way
            and each.due(now)
        }
        repeated = {interval: each.repeated(now) for interval, each in due.items()}
        return due, replace(self, pending={**pending, **repeated})

    def to_text(self) -> str:
        """Return the state as JSON."""
        pending = {
            interval.value: [each.count, each.next_at.isoformat() if each.next_at else None]
            for interval, each in self.pending.items()
        }
        looked_at = self.looked_at.isoformat() if self.looked_at else None
        since = self.since.isoformat() if self.since else None
        return json.dumps(
            {"looked_at": looked_at, "pending": pending, "process": self.process, "since": since}
        )

    @classmethod
    def from_text(cls, text: str | None) -> "Return":
        """Return the state that `to_text` wrote; without one, that of a first start."""
        if not text:
            return cls()
        held = cursor_content(text, "overdue_ingest")
        since = held.get("since")
        return cls(
            datetime.fromisoformat(held["looked_at"]) if held["looked_at"] else None,
            {
                Interval(name): Request(count, datetime.fromisoformat(at) if at else None)
                for name, (count, at) in held["pending"].items()
            },
            held.get("process", ""),
            datetime.fromisoformat(since) if since else None,
        )
