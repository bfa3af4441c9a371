"""The plan of a fetch: the run's kind, its symbols, their windows, and the reasons. The steps after the fetch
read the plan with the rows. Fetching itself is in fetch.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter

from pipeline_assets.collection.listings import Listed
from pipeline_assets.errors import InputError
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import (
    Window,
    bounding_window,
    common,
    day_window,
    days_of,
    ingest_window,
    without,
)

if TYPE_CHECKING:
    from pipeline_assets.resources.exchange_pages import Fetched


def _times(held: Any) -> Any:
    """Return the times that a plan's document holds as text; any other value is returned unchanged."""
    if isinstance(held, list):
        return [datetime.fromisoformat(each) if each else None for each in held]
    return datetime.fromisoformat(held) if isinstance(held, str) else held


def _made(kind: Callable[..., Any]) -> BeforeValidator:
    return BeforeValidator(lambda held: kind(*_times(held)) if isinstance(held, list) else held)


def _texts(*moments: datetime | None) -> list[str | None]:
    return [each.isoformat() if each else None for each in moments]


# As the document of a plan holds them: two times each.
_Span = Annotated[Window, _made(Window), PlainSerializer(lambda each: _texts(each.start, each.end))]
_Listed = Annotated[
    Listed,
    _made(Listed),
    PlainSerializer(lambda each: _texts(each.listed_at, each.delisted_at)),
]
_Moment = Annotated[datetime, BeforeValidator(_times), PlainSerializer(datetime.isoformat)]
_Seconds = Annotated[timedelta, PlainSerializer(timedelta.total_seconds)]

# Runs carry their kind in this tag; a run without it is a backfill or a person's own.
KIND_TAG = "pipeline/kind"
# Ingest runs carry the interval whose open day they write; dagster.yaml admits one run for each value.
OPEN_DAY_TAG = "pipeline/open_day"


class RunKind(StrEnum):
    """Why a run was launched."""

    INGEST = "tick"
    FINALIZE = "seal"
    BACKFILL = "backfill"

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> "RunKind":
        """Return the kind of a run by its tags."""
        return cls(tags.get(KIND_TAG, cls.BACKFILL))


class SymbolError(InputError):
    """Symbols cannot be collected. The message names them and what to do."""


@dataclass
class FetchPlan:
    """One run's plan to fetch one interval.

    `windows` end after the newest closed candle at the latest: an unclosed candle is never asked
    for. `failures` are the symbols that could not be planned or fetched, with the reason; the
    other symbols go on. `gone` are those that traded in these days and that the exchange no longer
    names, which is no failure, because it is permanent. `complete` are the finished days
    within a symbol's window that the lake holds already, which are not fetched (`spans` is the
    rest); a symbol of which nothing has to be fetched has no window. `confirmed` are spans of which
    the exchange said repeatedly that it has no candle. `pauses` are the spans between two listings
    of a symbol: no candle is due there, though `listed` and `windows` reach over them. `witnessed`
    are the finished days of which the exchange is believed to have no more than what came (see
    empty_days.py).
    """

    interval: Interval
    kind: RunKind
    days: list[date]
    newest: _Moment
    clock_offset: _Seconds
    listed: dict[str, _Listed]
    windows: dict[str, _Span]
    failures: dict[str, str] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    weight: int = 0
    # Whether the run's own configuration names the symbols, and not the settings.
    asked: bool = False
    complete: dict[str, list[date]] = field(default_factory=dict)
    confirmed: dict[str, list[_Span]] = field(default_factory=dict)
    pauses: dict[str, list[_Span]] = field(default_factory=dict)
    witnessed: list[date] = field(default_factory=list)

    def spans(self, symbol: str) -> list[Window]:
        """Return what of a symbol has to be fetched, in order of time."""
        complete = map(day_window, self.complete.get(symbol, ()))
        return without(self.windows[symbol], [*complete, *self.pauses.get(symbol, ())])

    def due_days(self, symbol: str) -> set[date]:
        """Return the days of which something of a symbol has to be fetched."""
        return {day for span in self.spans(symbol) for day in days_of(span)}

    def due(self, symbol: str) -> int:
        """Return how many candles of a symbol have to be fetched."""
        return sum(span.candles(self.interval) for span in self.spans(symbol))

    def leave_out(self, complete: Mapping[str, Sequence[date]]) -> None:
        """Do not fetch these finished days of these symbols."""
        self.complete = {symbol: list(days) for symbol, days in complete.items() if days}
        for symbol in self.complete.keys() & self.windows.keys():
            left = self.spans(symbol)
            if left:
                self.windows[symbol] = bounding_window(left)
            else:
                del self.windows[symbol]

    def of_days(self, days: Sequence[date]) -> "FetchPlan":
        """Return the part of the plan that lies in these of its days; an ingest run's plan has no parts."""
        if self.is_ingest_run or list(days) == self.days:
            return self
        span = Window(day_window(days[0]).start, day_window(days[-1]).end)
        parts = {symbol: common(window, [span]) for symbol, window in self.windows.items()}
        confirmed = {
            symbol: [part for window in windows for part in common(window, [span])]
            for symbol, windows in self.confirmed.items()
        }
        part = replace(
            self,
            days=list(days),
            windows={symbol: found[0] for symbol, found in parts.items() if found},
            confirmed={symbol: found for symbol, found in confirmed.items() if found},
            witnessed=[day for day in self.witnessed if day in days],
        )
        part.leave_out(
            {s: [day for day in held if day in days] for s, held in self.complete.items()}
        )
        return part

    def note(self, fetched: "Fetched") -> None:
        """Record the outcome of fetching a symbol, without its rows."""
        if fetched.error is not None:
            self.failures[fetched.symbol] = str(fetched.error)
        if fetched.confirmed:
            self.confirmed.setdefault(fetched.symbol, []).extend(fetched.confirmed)

    @property
    def is_ingest_run(self) -> bool:
        """Whether this run does what is due now, and not whole days."""
        return self.kind is RunKind.INGEST

    def finished(self, day: date) -> bool:
        """Return whether no candle of this day is still to come."""
        return day < self.newest.date()

    def now(self) -> datetime:
        """Return the exchange's time, from this machine's clock and the offset measured at the fetch."""
        return datetime.now(UTC) + self.clock_offset

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-serialisable values."""
        return dict(_codec().dump_python(self, mode="json"))

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "FetchPlan":
        """Return the plan that `to_dict` described; `pauses` and `witnessed` may be absent (older plans)."""
        return _codec().validate_python(facts)


@cache
def _codec() -> TypeAdapter[FetchPlan]:
    return TypeAdapter(FetchPlan)


def ingest_windows(
    interval: Interval,
    newest: datetime,
    listed: Mapping[str, Listed],
    stored: Mapping[str, datetime],
) -> dict[str, Window]:
    """Return the windows that an ingest run fetches, by symbol; market.windows.ingest_window has the rule."""
    windows = {
        symbol: each.clip(interval, ingest_window(interval, newest, stored.get(symbol)))
        for symbol, each in listed.items()
    }
    return {symbol: window for symbol, window in windows.items() if window is not None}


def day_windows(
    interval: Interval, newest: datetime, listed: Mapping[str, Listed], days: Sequence[date]
) -> dict[str, Window]:
    """Return what a run over days fetches: per symbol from the first day to the last or the newest candle."""
    start = day_window(days[0]).start
    end = min(day_window(days[-1]).end, newest + interval.span)
    if end <= start:
        return {}
    windows = {symbol: each.clip(interval, Window(start, end)) for symbol, each in listed.items()}
    return {symbol: window for symbol, window in windows.items() if window is not None}
