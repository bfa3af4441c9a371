"""The problems that have been alerted, so that each is reported once, and its end once. watchdog.py decides
what a problem is; this module does no I/O and asks no clock.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True)
class Problem:
    """A problem that exists now.

    Attributes:
        kind: for programs, such as `asset_stale`.
        text: for people.
        settle: seconds without the problem after which it is over; a service that fails again
            within them is the same incident.
        details: further keys of the alert.
    """

    kind: str
    text: str
    settle: float = 0.0
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Incident:
    """A problem from its first sight until its end was alerted. Times are UTC, ISO 8601."""

    key: str
    kind: str
    text: str
    settle: float
    details: dict[str, str]
    opened_at: str
    told: bool = False
    cleared_at: str | None = None
    over: bool = False


class Incidents:
    """The incidents that last, or whose end has not been alerted yet."""

    def __init__(self, held: Iterable[Mapping[str, Any]] = ()) -> None:
        """Go on with what `to_list` returned before."""
        self._held = {entry["key"]: Incident(**entry) for entry in held}

    def to_list(self) -> list[dict[str, Any]]:
        """Return the incidents as JSON can hold them."""
        return [asdict(each) for each in self._held.values()]

    def observe(self, problems: Mapping[str, Problem], now: datetime) -> None:
        """Update the incidents with the problems at `now`; a problem that is not listed is over."""
        for key, problem in problems.items():
            held = self._held.get(key)
            if held is None:
                self._held[key] = Incident(
                    key,
                    problem.kind,
                    problem.text,
                    problem.settle,
                    dict(problem.details),
                    now.isoformat(),
                )
            else:
                # A problem that ended while the webhook was down, and returns before its end was
                # alerted, is the same incident: the receiver sees one begin and one end.
                held.cleared_at, held.over = None, False
        for key, each in self._held.items():
            if key in problems or each.over:
                continue
            each.cleared_at = each.cleared_at or now.isoformat()
            calm = now - datetime.fromisoformat(each.cleared_at)
            each.over = calm >= timedelta(seconds=each.settle)

    def due(self) -> list[tuple[str, dict[str, str]]]:
        """Return the alerts to send now, by key: the problem, or its end if the problem was alerted."""
        found = []
        for key, each in self._held.items():
            if not each.told:
                found.append((key, self._alert(each)))
            elif each.over:
                found.append((key, self._recovered(each)))
        return found

    def sent(self, key: str) -> None:
        """Note that the alert that was due of this incident has been taken."""
        if self._held[key].told:
            del self._held[key]
        else:
            self._held[key].told = True

    def _alert(self, each: Incident) -> dict[str, str]:
        return {"text": each.text, "alert": each.kind, "since": each.opened_at, **each.details}

    def _recovered(self, each: Incident) -> dict[str, str]:
        lasted = ""
        if each.cleared_at:
            seconds = datetime.fromisoformat(each.cleared_at) - datetime.fromisoformat(
                each.opened_at
            )
            lasted = f" after {seconds.total_seconds():.0f} s"
        return {
            "text": f"Recovered{lasted}. The problem was: {each.text}",
            "alert": "recovered",
            "incident": each.kind,
            "since": each.opened_at,
            "until": each.cleared_at or "",
            **each.details,
        }
