"""The ledger of what is missing, and why: what is stored set against what should be, and the evidence
of each gap gathered from where it is kept. The judgement is market/gap_causes.py's; keeping the ledger
day by day is in assets/gaps.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from pipeline_assets.collection.listings import Listed, between_listings
from pipeline_assets.market.gap_causes import Cause, Evidence, gap_causes, span_frame
from pipeline_assets.market.gaps import expected_frame, expected_open_times, gaps
from pipeline_assets.market.interval import Interval
from pipeline_assets.market.windows import (
    Window,
    common,
    day_window,
    days_of,
    joined,
    newest_closed,
    without,
)
from pipeline_assets.resources.candle_objects import by_day, list_objects
from pipeline_assets.resources.lake_state import (
    UNFILLED_HOLE,
    Absence,
    SealedDay,
    disagreement_days,
    read_disagreements,
    read_identities,
    read_sealed,
    read_tick_state,
    sealed_days,
)
from pipeline_assets.resources.object_store import ObjectStore, ObjectStoreError, StoredObject
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl

# What a backfill may bring, of symbols that the exchange still names. An outage has no candles, and
# the open candle is the next tick's.
FILLABLE = (Cause.NOT_FETCHED, Cause.SET_ASIDE, Cause.ARCHIVE_HOLE)
_ATTEMPTS = 3


@dataclass
class _Looked:
    """What was found of one symbol: what it lacks, and what is known about that."""

    missing: list[Window] = field(default_factory=list)
    fetched: list[Window] = field(default_factory=list)
    confirmed: list[Window] = field(default_factory=list)
    set_aside: list[Window] = field(default_factory=list)


@dataclass(frozen=True)
class _Known:
    """What the lake's documents say of all symbols of an interval.

    Attributes:
        sealed: the marks of finished days, by day and symbol.
        ticked: by symbol the part of the open day that ticks have fetched.
        pauses: by symbol that was listed anew where it did not trade in between.
    """

    sealed: Mapping[date, Mapping[str, SealedDay]]
    ticked: Mapping[str, Window]
    pauses: Mapping[str, Sequence[Window]]


class _ChangedMeanwhileError(Exception):
    """An object was removed between the listing and the reading."""


def gap_ledger(
    store: ObjectStore,
    settings: Settings,
    interval: Interval,
    window: Window,
    lifetimes: Mapping[str, tuple[datetime, datetime | None]],
    server_time: datetime,
) -> "pl.DataFrame":
    """Every candle of a window that is not stored, with its cause, as runs of one cause each.

    Each symbol's objects are listed once. A day whose object is still the one that was judged when
    it was sealed is not read: its mark says what it lacks. Of any other stored day the open times
    are read. So years of sealed days of hundreds of symbols are judged without reading a row.

    Args:
        store: the lake.
        settings: say how long after its end a candle counts as closed.
        interval: of the candles.
        window: the span asked about, UTC, on the interval's grid; days of it need not be whole.
        lifetimes: by symbol when it began to trade and, if it has, ended; UTC. All that are
            collected: what they all lack is an outage, of which a few symbols alone cannot tell.
        server_time: the exchange's time, UTC.

    Returns:
        `symbol` String, `interval` String, `first` and `last` open time Datetime(us, UTC), `count`
        Int64, `cause` String (of `market.gap_causes.Cause`); sorted by symbol and first.

    Raises:
        ObjectStoreError: the lake does not answer, or an object is damaged.
    """
    newest = newest_closed(interval, server_time, settings.binance.settle)
    pauses = between_listings(read_identities(store), interval, window, server_time)
    known = _known(store, interval, window, newest, pauses)
    symbols = sorted(lifetimes)
    looks = store.each(
        lambda symbol: _look(store, interval, symbol, window, lifetimes[symbol], newest, known),
        symbols,
    )
    looked = dict(zip(symbols, looks, strict=True))
    return gap_causes(
        span_frame({symbol: each.missing for symbol, each in looked.items()}),
        interval,
        window,
        lifetimes,
        newest,
        Evidence(
            fetched=span_frame({symbol: each.fetched for symbol, each in looked.items()}),
            confirmed_empty=span_frame({s: each.confirmed for s, each in looked.items()}),
            archive_holes=span_frame(_unfilled_holes(store, interval, window)),
            set_aside=span_frame({s: each.set_aside for s, each in looked.items()}),
            between_listings=span_frame(pauses),
        ),
    )


def _known(
    store: ObjectStore,
    interval: Interval,
    window: Window,
    newest: datetime,
    pauses: Mapping[str, Sequence[Window]],
) -> _Known:
    today = day_window(newest.date())
    kept = set(sealed_days(store, interval))
    # What is sealed of the open day, if anything, was sealed by a clock that ran ahead.
    days = [day for day in days_of(window) if day in kept and day < newest.date()]
    sealed = store.each(lambda day: read_sealed(store, interval, day), days)
    stored = read_tick_state(store, interval, (), newest.date()).newest
    # A tick reads the open day from its newest stored candle on, the first one from midnight.
    ticked = {
        symbol: Window(today.start, at + interval.span)
        for symbol, at in stored.items()
        if today.start <= at < today.end
    }
    return _Known(dict(zip(days, sealed, strict=True)), ticked, pauses)


def _look(
    store: ObjectStore,
    interval: Interval,
    symbol: str,
    window: Window,
    lifetime: tuple[datetime, datetime | None],
    newest: datetime,
    known: _Known,
) -> _Looked:
    traded = Listed(*lifetime).clip(interval, window)
    end = newest + interval.span
    if traded is None or traded.start >= end:
        return _Looked([window])
    closed = without(Window(traded.start, min(traded.end, end)), known.pauses.get(symbol, ()))
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
    store: ObjectStore, interval: Interval, symbol: str, closed: Sequence[Window], known: _Known
) -> _Looked:
    """What is missing of closed candles within the symbol's lives."""
    looked = _Looked()
    for life in closed:
        listing = by_day(list_objects(store, interval, symbol, life.start, life.end))
        # A symbol is no witness of what the exchange had before or after it traded: it lacks that
        # anyway.
        if symbol in known.ticked:
            looked.fetched += common(life, [known.ticked[symbol]])
        for day in days_of(life):
            stored, mark = listing.get(day, []), known.sealed.get(day, {}).get(symbol)
            [due] = common(day_window(day), [life])
            unchanged = mark is not None and [each.etag for each in stored] == mark.etags
            if mark is not None and unchanged:
                looked.fetched += common(due, [mark.judged]) if mark.judged else [due]
            if mark is not None and mark.missing:
                _note(looked, mark)
            if mark is not None and unchanged and mark.covers(due):
                looked.missing += common(due, [span for span, _ in mark.missing])
            else:
                looked.missing += _absent(store, interval, symbol, due, stored)
    looked.fetched = joined(looked.fetched)
    return looked


def _note(looked: _Looked, mark: SealedDay) -> None:
    # What the exchange confirmed stays so, also where the day's object was removed since.
    for span, absence in mark.missing:
        if absence is Absence.CONFIRMED:
            looked.confirmed.append(span)
        elif absence is Absence.SET_ASIDE:
            looked.set_aside.append(span)


def _absent(
    store: ObjectStore,
    interval: Interval,
    symbol: str,
    due: Window,
    stored: Sequence[StoredObject],
) -> list[Window]:
    """What of a span within one day no object holds, by the objects' own rows."""
    import polars as pl

    if not stored:
        return [due]
    times = pl.concat([_open_times(store, each.key) for each in stored])
    within = times.filter(times.is_between(due.start, due.end, closed="left"))
    if within.n_unique() == due.candles(interval):
        return []
    expected = expected_open_times(interval, due, None, None, None)
    rows = pl.DataFrame({"open_time": within}).with_columns(symbol=pl.lit(symbol))
    found = gaps(rows, interval, expected_frame({symbol: expected}))
    return [Window(start, end) for _, start, end, _ in found.rows()]


def _open_times(store: ObjectStore, key: str) -> "pl.Series":
    from pipeline_assets.market.encoding import MalformedObjectError, decode_open_times

    body = store.get(key)
    if body is None:
        raise _ChangedMeanwhileError
    try:
        return decode_open_times(body)
    except MalformedObjectError as error:
        raise ObjectStoreError(f"{store.address(key)} is damaged: {error}") from error


def _unfilled_holes(
    store: ObjectStore, interval: Interval, window: Window
) -> dict[str, list[Window]]:
    """By symbol what a file of the archive lacked while the exchange could not be asked for it."""
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
