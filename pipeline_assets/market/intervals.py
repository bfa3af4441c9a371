"""The registry of candle intervals: one entry holds everything that differs between intervals.

Assets, jobs, schedules, checks, tables and Airflow's DAGs follow from an entry; docs/architecture.md, "Where
to add things", says how one is added. Windows are in windows.py. Code for one interval only, such as
finding candidates in minutes, is not here but in the module that does the work.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


# The sinks that hold the newest candles only: a finished day does not wait for these.
NEWEST_ONLY = frozenset({"slots"})


@dataclass(frozen=True)
class Definition:
    """The properties of one interval.

    Attributes:
        span: the time between two open times; divides a UTC day.
        cron: when candles are ingested, UTC: once a span.
        sinks: where candles go besides the lake, by their names in assets/sinks.py.
        open_object: the span of an object while its day is open; divides a UTC day. An ingest run fetches
            this span again for each symbol; with more than 99 candles, each request costs double weight.
        archive: whether a backfill takes finished days from the exchange's archive, checked against the
            exchange's 1h candles. The span has to divide an hour.
    """

    span: timedelta
    cron: str
    sinks: tuple[str, ...]
    open_object: timedelta = DAY
    archive: bool = False

    def __post_init__(self) -> None:
        """Refuse an entry that the grid, the objects or the archive cannot hold."""
        if DAY % self.span or DAY % self.open_object or self.open_object % self.span:
            raise ValueError(
                f"A span of {self.span}, stored in objects of {self.open_object}, does not divide a UTC day."
            )
        if self.archive and HOUR % self.span:
            raise ValueError(
                f"Candles of {self.span} cannot be checked against hours: archive must be False."
            )


class Interval(StrEnum):
    """A candle interval, by the exchange's own name for it.

    Each divides a UTC day, so a day holds whole candles only and the grid starts at the epoch.
    """

    _value_: str
    definition: Definition

    # The order is that of their importance: the first is fetched first, and repaired first.
    ONE_MINUTE = (
        "1m",
        Definition(timedelta(minutes=1), "* * * * *", ("slots",), open_object=HOUR, archive=True),
    )
    FIFTEEN_MINUTES = (
        "15m",
        Definition(timedelta(minutes=15), "*/15 * * * *", ("table",), archive=True),
    )
    ONE_HOUR = "1h", Definition(timedelta(hours=1), "0 * * * *", ("table",))

    def __new__(cls, name: str, definition: Definition | None = None) -> Self:
        """Make the member of a registry entry.

        The default is for type checkers, which take the look-up `Interval("1m")` for this call.
        """
        if definition is None:
            raise TypeError(f"The registry's entry {name} has no Definition.")
        member = str.__new__(cls, name)
        member._value_ = name
        member.definition = definition
        return member

    @property
    def span(self) -> timedelta:
        """The time between two open times."""
        return self.definition.span

    @property
    def has_slots(self) -> bool:
        """Whether the newest candles are in Redis."""
        return "slots" in self.definition.sinks

    @property
    def has_table(self) -> bool:
        """Whether the candles are in the warehouse."""
        return "table" in self.definition.sinks

    @property
    def lasting_sinks(self) -> tuple[str, ...]:
        """The sinks that hold finished days too."""
        return tuple(name for name in self.definition.sinks if name not in NEWEST_ONLY)

    @property
    def milliseconds(self) -> int:
        """The time between two open times, in milliseconds."""
        return self.span // timedelta(milliseconds=1)

    @property
    def per_day(self) -> int:
        """How many candles a whole UTC day holds."""
        return DAY // self.span

    def floor(self, moment: datetime) -> datetime:
        """Return the open time of the candle that `moment` (UTC) falls into."""
        return moment - (moment - EPOCH) % self.span


def to_milliseconds(moment: datetime) -> int:
    """Milliseconds since the epoch of an aware datetime, rounded down."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_milliseconds(value: int) -> datetime:
    """Return the UTC datetime of milliseconds since the epoch, exact."""
    return EPOCH + timedelta(milliseconds=value)
