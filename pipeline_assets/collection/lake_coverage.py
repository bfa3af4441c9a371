"""Reads from the lake, symbol by symbol, what coverage is judged by: objects, and the documents of days and
symbols. The judgement is coverage.py's.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from pipeline_assets.collection.coverage import (
    DayGaps,
    Known,
    SymbolEvidence,
    closed_spans,
    gather_evidence,
    judge_gaps,
    missing_candles,
)
from pipeline_assets.collection.due_uploads import newest_due
from pipeline_assets.collection.listings import between_listings
from pipeline_assets.errors import InternalError
from pipeline_assets.market.completeness import split_by_day
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import (
    Window,
    bounding_window,
    common,
    day_window,
    days_of,
    joined,
    newest_closed,
    without,
)
from pipeline_assets.resources.candle_objects import by_day, foreign_contents, list_objects
from pipeline_assets.resources.day_findings import (
    UNFILLED_HOLE,
    disagreement_days,
    read_disagreements,
)
from pipeline_assets.resources.document_versions import NewerVersionError
from pipeline_assets.resources.finalized_days import FinalizedDay, finalized_days, read_finalized
from pipeline_assets.resources.ingest_state import read_ingest_state
from pipeline_assets.resources.listing_history import read_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.s3_errors import DamagedObjectError, ObjectStoreError
from pipeline_assets.resources.stored_objects import StoredObject
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl

# Days that are not judged, each with the reason.
UnreadDays = dict[date, str]
_ATTEMPTS = 3
_LOG = logging.getLogger(__name__)


class _ChangedMeanwhileError(InternalError):
    """An object was removed between the listing and the reading."""


def gap_ledger(
    store: ObjectStore,
    settings: Settings,
    interval: Interval,
    window: Window,
    lifetimes: Mapping[str, tuple[datetime, datetime | None]],
    server_time: datetime,
    unread: UnreadDays | None = None,
) -> "pl.DataFrame":
    """Return every candle of a window that is not stored, with its cause, as runs of one cause each.

    Each symbol's objects are listed once. A finalized day whose object is unchanged is not read: its
    mark says which candles are missing. For any other stored day the open times are read. So years of
    finalized days of hundreds of symbols are judged without reading a row.

    Args:
        store: the lake.
        settings: say how long after its end a candle counts as closed.
        interval: of the candles.
        window: the span asked about, UTC, on the interval's grid; days of it need not be whole.
        lifetimes: by symbol when it began to trade and, if it has, ended; UTC. Pass all symbols that
            are collected: candles missing from all are an outage, which a few symbols cannot prove.
        server_time: the exchange's time, UTC.
        unread: takes the days whose marks a newer release wrote; these are not judged. Without it, such a
            day raises.

    Returns:
        `symbol` String, `interval` String, `first` and `last` open time Datetime(us, UTC), `count`
        Int64, `cause` String (of `market.gap_causes.Cause`); sorted by symbol and first.

    Raises:
        ObjectStoreError: the lake does not answer. A damaged object counts as not stored, with a warning.
        NewerVersionError: a newer release wrote a document.
    """
    newest = newest_closed(interval, server_time, settings.binance.settle)
    known = read_known(store, interval, window, newest, server_time, unread)
    # Minutes that wait for their upload are not missing. The stored candles may already reach further.
    newest = newest_due(interval, newest, settings.ingest.upload_minutes)
    symbols = sorted(lifetimes)
    looks = store.each(
        lambda symbol: _look(store, interval, symbol, window, lifetimes[symbol], newest, known),
        symbols,
    )
    ledger = judge_gaps(
        dict(zip(symbols, looks, strict=True)),
        interval,
        window,
        lifetimes,
        newest,
        known,
        _unfilled_holes(store, interval, window),
    )
    return without_days(ledger, interval, unread)


def without_days(
    ledger: "pl.DataFrame", interval: Interval, days: UnreadDays | None
) -> "pl.DataFrame":
    """Return the gaps of one interval that are not of these days."""
    import polars as pl

    if not days:
        return ledger
    cut = split_by_day(ledger, interval)
    return cut.filter(~pl.col("day").is_in(list(days))).drop("day")


def unread_lines(interval: Interval, days: UnreadDays) -> list[str]:
    """Return what to tell about the days that are not judged, in their order."""
    return [f"{interval} of {day} is not judged: {why}" for day, why in sorted(days.items())]


def read_known(
    store: ObjectStore,
    interval: Interval,
    window: Window,
    newest: datetime,
    server_time: datetime,
    unread: UnreadDays | None = None,
) -> Known:
    """Read what the lake's documents say of a window.

    Args:
        store: the lake.
        interval: of the candles.
        window: UTC.
        newest: the open time of the newest closed candle.
        server_time: the exchange's time when the documents are read, UTC.
        unread: takes the days whose marks a newer release wrote, each with the error; without it, such a day
            raises.

    Raises:
        ObjectStoreError: the lake does not answer.
        NewerVersionError: a newer release wrote a document.
    """

    def marks(day: date) -> dict[str, FinalizedDay]:
        try:
            return read_finalized(store, interval, day)
        except NewerVersionError as error:
            if unread is None:
                raise
            unread[day] = str(error)
            return {}

    pauses = between_listings(read_identities(store), interval, window, server_time)
    today = day_window(newest.date())
    kept = set(finalized_days(store, interval))
    # If the open day is finalized at all, a clock that ran ahead did it: its mark is ignored.
    days = [day for day in days_of(window) if day in kept and day < newest.date()]
    finalized = store.each(marks, days)
    stored = read_ingest_state(store, interval, (), server_time).newest
    # An ingest run reads the open day from its newest stored candle on, the first one from midnight.
    ingested = {
        symbol: Window(today.start, at + interval.span)
        for symbol, at in stored.items()
        if today.start <= at < today.end
    }
    return Known(dict(zip(days, finalized, strict=True)), ingested, pauses)


def _look(
    store: ObjectStore,
    interval: Interval,
    symbol: str,
    window: Window,
    lifetime: tuple[datetime, datetime | None],
    newest: datetime,
    known: Known,
) -> SymbolEvidence:
    closed = closed_spans(interval, window, lifetime, newest, known.pauses.get(symbol, ()))
    if not closed:
        return SymbolEvidence([window])
    changed: _ChangedMeanwhileError | None = None
    for _ in range(_ATTEMPTS):
        try:
            looked = _look_closed(store, interval, symbol, closed, known)
        except _ChangedMeanwhileError as error:
            changed = error
        else:
            looked.missing += without(window, closed)
            looked.missing = joined(looked.missing)
            return looked
    raise ObjectStoreError(
        f"The {interval} objects of {symbol} were removed {_ATTEMPTS} times between listing and reading "
        "them. Find out which runs write this symbol (Dagster's Runs page), then ask again."
    ) from changed


def _look_closed(
    store: ObjectStore, interval: Interval, symbol: str, closed: Sequence[Window], known: Known
) -> SymbolEvidence:
    """Return what is missing of closed candles within the symbol's lives."""
    span = bounding_window(closed)
    listing = by_day(list_objects(store, interval, symbol, span.start, span.end))

    def judge(due: Window, mark: FinalizedDay | None) -> DayGaps:
        stored = listing.get(due.start.date(), [])
        stands = mark is not None and [each.etag for each in stored] == mark.etags
        if mark is not None and stands and mark.covers(due):
            return common(due, [span for span, _ in mark.missing]), True
        return _absent(store, interval, symbol, due, stored), stands

    return gather_evidence(symbol, closed, known, judge)


def _absent(
    store: ObjectStore, interval: Interval, symbol: str, due: Window, stored: Sequence[StoredObject]
) -> list[Window]:
    """Return what of a span within one day no object holds, by the objects' own rows."""
    import polars as pl

    if not stored:
        return [due]
    times = pl.concat([_open_times(store, each.key) for each in stored])
    rows = pl.DataFrame({"open_time": times}).with_columns(symbol=pl.lit(symbol))
    return missing_candles(rows, interval, {symbol: due}).get(symbol, [])


def _open_times(store: ObjectStore, key: str) -> "pl.Series":
    import polars as pl

    from pipeline_assets.market.encoding import MalformedObjectError, decode_open_times

    try:
        body = store.get(key)
        if body is None:
            raise _ChangedMeanwhileError
        foreign = foreign_contents(key, body)
        if foreign:
            raise store.damaged(key, foreign)
        return decode_open_times(body)
    except (MalformedObjectError, DamagedObjectError) as error:
        # An unreadable object counts as not stored: the ledger names it, and a repair fetches it again.
        _LOG.warning("The candles of %s count as not stored: %s", store.address(key), error)
        return pl.Series("open_time", [], dtype=pl.Datetime("us", "UTC"))


def _unfilled_holes(
    store: ObjectStore, interval: Interval, window: Window
) -> dict[str, list[Window]]:
    """Return by symbol the holes in archive files that the exchange could not be asked about."""
    wanted = set(days_of(window))
    days = [day for day in disagreement_days(store, interval) if day in wanted]
    found: dict[str, list[Window]] = {}
    for held in store.each(lambda day: read_disagreements(store, interval, day), days):
        for symbol, records in held.items():
            spans = [
                Window(
                    datetime.fromisoformat(each["first"]),
                    datetime.fromisoformat(each["last"]) + interval.span,
                )
                for each in records
                if each["kind"] == UNFILLED_HOLE
            ]
            if spans:
                found.setdefault(symbol, []).extend(spans)
    return found
