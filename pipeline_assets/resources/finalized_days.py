"""The marks of finalized days: by symbol the ETag of the day's object, and the candles missing from it.

Other findings about a finished day are in day_findings.py; documents are read and checked in
lake_documents.py.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
)

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, day_window, without
from pipeline_assets.resources.lake_documents import (
    DEFERRED,
    Span,
    Symbol,
    documented_days,
    left_out_alone,
    read_document,
    require,
    update_document,
    utc_time,
    written_times,
)
from pipeline_assets.resources.object_store import ObjectStore


class Absence(StrEnum):
    """The reason why candles are missing from a finalized day.

    CONFIRMED: the exchange said, asked for them alone, that it has none.
    REJECTED: a row came for each that cannot be a candle.
    INVALID: the exchange gave the same such row again when another run asked: it has no better one.
    UNCONFIRMED: they did not come, and nothing more is known.
    """

    CONFIRMED = "confirmed"
    REJECTED = "set_aside"
    INVALID = "invalid"
    UNCONFIRMED = "unconfirmed"


# Absences that no fetch can fill.
_SETTLED = (Absence.CONFIRMED, Absence.INVALID)
# The same answer to another run, so much later, is what the exchange has; the third repair comes after two
# hours.
STABLE_AFTER = timedelta(hours=2)


@dataclass(frozen=True)
class Rejected:
    """Rows that came in the place of candles and cannot be any.

    Attributes:
        window: the candles.
        reason: why the first of the rows was rejected.
        digest: of the rows as received: the same rows have the same one.
        run: the run that received the rows first.
        at: when that was, by the exchange's time, UTC.
    """

    window: Window
    reason: str
    digest: str
    run: str
    at: datetime


def _missing_of(row: Sequence[Any]) -> tuple[Window, Absence]:
    start, end, reported = row
    if isinstance(reported, bool):
        # Earlier versions only kept whether the exchange confirmed that there is nothing.
        reported = Absence.CONFIRMED if reported else Absence.UNCONFIRMED
    return Window(utc_time(start), utc_time(end)), Absence(reported)


def _missing_row(missing: tuple[Window, Absence]) -> list[str]:
    window, absence = missing
    return [window.start.isoformat(), window.end.isoformat(), absence.value]


def _rejected_of(row: Sequence[Any]) -> Rejected:
    start, end, *texts, at = row
    reason, digest, run = (require(text, str) for text in texts)
    return Rejected(Window(utc_time(start), utc_time(end)), reason, digest, run, utc_time(at))


def _rejected_row(each: Rejected) -> list[str]:
    start, end = each.window.start.isoformat(), each.window.end.isoformat()
    return [start, end, each.reason, each.digest, each.run, each.at.isoformat()]


# Each is a list in a document, without names: a day may have hundreds for each of hundreds of symbols.
_MissingSpan = Annotated[
    tuple[Window, Absence], PlainValidator(_missing_of), PlainSerializer(_missing_row)
]
_RejectedRows = Annotated[Rejected, PlainValidator(_rejected_of), PlainSerializer(_rejected_row)]
# Earlier versions kept neither: their marks are of the whole day.
_LEFT_OUT_IF_EMPTY = Field(exclude_if=lambda value: not value)


@dataclass(frozen=True)
class FinalizedDay:
    """The state of one symbol's finished day when it was finalized.

    Attributes:
        etag: of the day's object; None where there is no candle to store.
        missing: the spans of candles that should exist and do not, in order of time, with what is
            known of each.
        judged: the part of the day in which the symbol traded, as was known then; None: all of it.
            An onboard date may move to an earlier time, and a delivery be postponed.
        rejected: the rows that came in the place of candles that are missing.
    """

    etag: str | None
    missing: tuple[_MissingSpan, ...] = ()
    judged: Annotated[Span | None, _LEFT_OUT_IF_EMPTY] = None
    rejected: Annotated[tuple[_RejectedRows, ...], _LEFT_OUT_IF_EMPTY] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing can be missing that the exchange has."""
        return not self.to_fetch

    @property
    def to_fetch(self) -> list[Window]:
        """The spans that a fetch may bring: what is confirmed not to exist is not missing."""
        return [span for span, absence in self.missing if absence not in _SETTLED]

    def covers(self, due: Window) -> bool:
        """Return whether all of this part of the day was judged."""
        return self.judged is None or not without(due, [self.judged])

    @property
    def etags(self) -> list[str]:
        """Return the ETags that the day's objects have if they are unchanged since the day was finalized."""
        return [] if self.etag is None else [self.etag]

    def to_dict(self) -> dict[str, Any]:
        """Return the mark as JSON-serialisable values."""
        held: dict[str, Any] = _MARK.dump_python(self)
        return held

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> "FinalizedDay":
        """Return the mark of which `to_dict` made these."""
        return _MARK.validate_python(held)


def _by_symbol(held: Any) -> Any:
    """Return marks by symbol; a list of symbols, of the first version, says nothing of an object."""
    if isinstance(held, list):
        return {require(symbol, str): {"etag": "", "missing": []} for symbol in held}
    return held


def _of_its_day(mark: FinalizedDay, info: Any) -> FinalizedDay:
    """Refuse a mark that covers other days: a span over all time would settle days never fetched."""
    interval, day = info.context["about"]
    window = day_window(day)
    spans = [span for span, _ in mark.missing] + [each.window for each in mark.rejected]
    for span in [*spans, *([mark.judged] if mark.judged else [])]:
        if span.start < window.start or window.end < span.end:
            raise ValueError(f"{span.start} to {span.end} is not within {day}")
        if interval.floor(span.start) != span.start or interval.floor(span.end) != span.end:
            raise ValueError(f"{span.start} to {span.end} is not on the grid of {interval}")
    return mark


_MARK = TypeAdapter(FinalizedDay)
_Marks = dict[Symbol, Annotated[FinalizedDay, AfterValidator(_of_its_day)]]
_MARKS: TypeAdapter[dict[str, FinalizedDay]] = TypeAdapter(
    Annotated[_Marks, left_out_alone(), BeforeValidator(_by_symbol)], config=DEFERRED
)


def _finalized_prefix(interval: Interval) -> str:
    return f"state/sealed/{interval}/"


def _finalized_key(interval: Interval, day: date) -> str:
    return f"{_finalized_prefix(interval)}{day:%Y%m%d}.json"


def read_finalized(store: ObjectStore, interval: Interval, day: date) -> dict[str, FinalizedDay]:
    """Return the finished day's marks by symbol; empty if no symbol is finalized or the document is damaged.

    A day without a mark is judged by its objects' rows, and a backfill fetches and marks it again.
    """
    return read_document(store, _finalized_key(interval, day), _MARKS, (interval, day)) or {}


def finalized_symbols(store: ObjectStore, interval: Interval, day: date) -> frozenset[str]:
    """Return the symbols whose finished day is finalized."""
    return frozenset(read_finalized(store, interval, day))


def mark_finalized(
    store: ObjectStore, interval: Interval, day: date, finalized: Mapping[str, FinalizedDay]
) -> None:
    """Mark a finished day of some symbols as finalized; call this after writing the day's objects.

    Idempotent, and safe beside other runs that finalize other symbols of the day: new marks replace
    those of the same symbols in the document that was read. If two runs finalize the same symbol, the
    later mark stays; if its ETag is not the object's, the day counts as incomplete. Without marks
    nothing is written, because a day that has a document counts as finalized.
    """
    if not finalized:
        return
    update_document(
        store,
        _finalized_key(interval, day),
        _MARKS,
        lambda held: dict(sorted({**(held or {}), **finalized}.items())),
        (interval, day),
    )


def withdraw_marks(
    store: ObjectStore, interval: Interval, day: date, symbols: Collection[str]
) -> None:
    """Remove the marks of symbols whose objects of a finished day are damaged. May be repeated.

    The day keeps its document, so that it still counts as part of the history.
    """

    def change(held: dict[str, FinalizedDay] | None) -> dict[str, FinalizedDay]:
        return {symbol: mark for symbol, mark in (held or {}).items() if symbol not in symbols}

    update_document(store, _finalized_key(interval, day), _MARKS, change, (interval, day))


def finalized_days(store: ObjectStore, interval: Interval) -> list[date]:
    """Return the days that are finalized for some symbol, ascending."""
    return documented_days(store, _finalized_prefix(interval))


def finalized_times(store: ObjectStore, interval: Interval) -> dict[date, datetime]:
    """Return when the marks of each finalized day changed last, by the store's clock, UTC."""
    return written_times(store, _finalized_prefix(interval))
