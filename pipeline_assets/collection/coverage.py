"""Coverage: for symbols, an interval and a span, which candles are missing, why, and which of them a fetch
may bring. Checks, commands, the ledger, repair and `status` all ask here, so that no two disagree.

What is stored is set against what should be, and the evidence of each gap is gathered from where it is
kept. The judgement itself is market/gap_causes.py's; keeping the ledger day by day is gap_ledger_days.py's.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from pipeline_assets.collection.listings import Listed, between_listings
from pipeline_assets.errors import InternalError
from pipeline_assets.market.gap_causes import Cause, Evidence, gap_causes, span_frame
from pipeline_assets.market.gaps import expected_frame, expected_open_times, gaps
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import (
    Window,
    common,
    day_window,
    days_of,
    hull,
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
from pipeline_assets.resources.finalized_days import Absence, SealedDay, read_sealed, sealed_days
from pipeline_assets.resources.listing_history import read_identities
from pipeline_assets.resources.object_store import ObjectStore, StoredObject
from pipeline_assets.resources.s3_errors import DamagedObjectError, ObjectStoreError
from pipeline_assets.resources.tick_state import read_tick_state
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    import polars as pl

# What a backfill may bring, of symbols that the exchange still names. An outage has no candles, nor has a
# row that the exchange gives the same each time, and the open candle is the next tick's.
FILLABLE = (Cause.NOT_FETCHED, Cause.SET_ASIDE, Cause.ARCHIVE_HOLE)
_ATTEMPTS = 3
_LOG = logging.getLogger(__name__)


@dataclass
class _Looked:
    """What was found of one symbol: what it lacks, and what is known about that."""

    missing: list[Window] = field(default_factory=list)
    fetched: list[Window] = field(default_factory=list)
    confirmed: list[Window] = field(default_factory=list)
    set_aside: list[Window] = field(default_factory=list)
    invalid: list[Window] = field(default_factory=list)


@dataclass(frozen=True)
class Known:
    """What the lake's documents say of all symbols of an interval.

    Attributes:
        sealed: the marks of finished days, by day and symbol.
        ticked: by symbol the part of the open day that ticks have fetched.
        pauses: by symbol that was listed anew where it did not trade in between.
    """

    sealed: Mapping[date, Mapping[str, SealedDay]] = field(default_factory=dict)
    ticked: Mapping[str, Window] = field(default_factory=dict)
    pauses: Mapping[str, Sequence[Window]] = field(default_factory=dict)


# The missing spans of a day's due part, and whether the day's mark still speaks for it.
_Day = tuple[list[Window], bool]


class _ChangedMeanwhileError(InternalError):
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
        ObjectStoreError: the lake does not answer. A damaged object counts as not stored, with a warning.
    """
    newest = newest_closed(interval, server_time, settings.binance.settle)
    known = read_known(store, interval, window, newest, server_time)
    symbols = sorted(lifetimes)
    looks = store.each(
        lambda symbol: _look(store, interval, symbol, window, lifetimes[symbol], newest, known),
        symbols,
    )
    return _judged(
        dict(zip(symbols, looks, strict=True)),
        interval,
        window,
        lifetimes,
        newest,
        known,
        _unfilled_holes(store, interval, window),
    )


def coverage_of(
    stored: "pl.DataFrame",
    interval: Interval,
    window: Window,
    lifetimes: Mapping[str, tuple[datetime, datetime | None]],
    newest: datetime,
    known: Known,
    *,
    witnesses: bool = True,
) -> "pl.DataFrame":
    """Judge as `gap_ledger` does, for a caller who has read the open times of the window already.

    Args:
        stored: `symbol` and `open_time` of all that is stored in the window, in any order.
        interval: of the candles.
        window: on the interval's grid.
        lifetimes: as of `gap_ledger`.
        newest: the open time of the newest closed candle.
        known: what the lake's documents say of the window.
        witnesses: whether `lifetimes` has all symbols that are collected: of fewer it cannot be told
            that what they all lack is an outage.

    Returns:
        A frame as of `gap_ledger`.
    """
    looked = {}
    absent = missing_candles(stored, interval, dict.fromkeys(lifetimes, window))
    for symbol, lifetime in lifetimes.items():
        closed = _closed(interval, window, lifetime, newest, known.pauses.get(symbol, ()))
        gaps_of_symbol = absent.get(symbol, ())

        def judge(
            due: Window, mark: SealedDay | None, own: Sequence[Window] = gaps_of_symbol
        ) -> _Day:
            missing = common(due, own)
            named = [span for span, _ in mark.missing] if mark else []
            # What the mark does not name was removed, or is of a longer life than it judged.
            return missing, not any(without(gap, named) for gap in missing)

        found = _looked(symbol, closed, known, judge)
        if not witnesses:
            found.fetched = []
        found.missing = joined([*found.missing, *without(window, closed)])
        looked[symbol] = found
    return _judged(looked, interval, window, lifetimes, newest, known, {})


def fetchable(ledger: "pl.DataFrame") -> "pl.DataFrame":
    """The gaps of a ledger that a fetch may fill, of symbols that the exchange still names."""
    import polars as pl

    return ledger.filter(pl.col("cause").is_in([str(cause) for cause in FILLABLE]))


def missing_candles(
    stored: "pl.DataFrame", interval: Interval, windows: Mapping[str, Window]
) -> dict[str, list[Window]]:
    """Return by symbol the spans of its window without a candle; a symbol that has all is left out.

    All code above `resources` that needs to know which candles are missing calls this function.

    Args:
        stored: `symbol` and `open_time` of the candles, in any order. Other symbols, repetitions and open
            times off the grid or outside the window do no harm.
        interval: of the candles.
        windows: by symbol the span asked about.
    """
    expected = {
        symbol: expected_open_times(interval, window, None, None, None)
        for symbol, window in windows.items()
    }
    found: dict[str, list[Window]] = {}
    for symbol, start, end, _ in gaps(stored, interval, expected_frame(expected)).rows():
        found.setdefault(symbol, []).append(Window(start, end))
    return found


def _closed(
    interval: Interval,
    window: Window,
    lifetime: tuple[datetime, datetime | None],
    newest: datetime,
    pauses: Sequence[Window],
) -> list[Window]:
    """The parts of a window in which a symbol traded, as far as candles have closed."""
    traded = Listed(*lifetime).clip(interval, window)
    end = newest + interval.span
    if traded is None or traded.start >= end:
        return []
    return without(Window(traded.start, min(traded.end, end)), pauses)


def _judged(
    looked: Mapping[str, _Looked],
    interval: Interval,
    window: Window,
    lifetimes: Mapping[str, tuple[datetime, datetime | None]],
    newest: datetime,
    known: Known,
    archive_holes: Mapping[str, Sequence[Window]],
) -> "pl.DataFrame":
    """The ledger of what was found."""
    return gap_causes(
        span_frame({symbol: each.missing for symbol, each in looked.items()}),
        interval,
        window,
        lifetimes,
        newest,
        Evidence(
            fetched=span_frame({symbol: each.fetched for symbol, each in looked.items()}),
            confirmed_empty=span_frame({s: each.confirmed for s, each in looked.items()}),
            archive_holes=span_frame(archive_holes),
            set_aside=span_frame({s: each.set_aside for s, each in looked.items()}),
            between_listings=span_frame(known.pauses),
            invalid=span_frame({s: each.invalid for s, each in looked.items()}),
        ),
    )


def read_known(
    store: ObjectStore,
    interval: Interval,
    window: Window,
    newest: datetime,
    server_time: datetime,
) -> Known:
    """Read what the lake's documents say of a window.

    Args:
        store: the lake.
        interval: of the candles.
        window: UTC.
        newest: the open time of the newest closed candle.
        server_time: the exchange's time, UTC.
    """
    pauses = between_listings(read_identities(store), interval, window, server_time)
    today = day_window(newest.date())
    kept = set(sealed_days(store, interval))
    # What is sealed of the open day, if anything, was sealed by a clock that ran ahead.
    days = [day for day in days_of(window) if day in kept and day < newest.date()]
    sealed = store.each(lambda day: read_sealed(store, interval, day), days)
    stored = read_tick_state(store, interval, (), newest).newest
    # A tick reads the open day from its newest stored candle on, the first one from midnight.
    ticked = {
        symbol: Window(today.start, at + interval.span)
        for symbol, at in stored.items()
        if today.start <= at < today.end
    }
    return Known(dict(zip(days, sealed, strict=True)), ticked, pauses)


def _look(
    store: ObjectStore,
    interval: Interval,
    symbol: str,
    window: Window,
    lifetime: tuple[datetime, datetime | None],
    newest: datetime,
    known: Known,
) -> _Looked:
    closed = _closed(interval, window, lifetime, newest, known.pauses.get(symbol, ()))
    if not closed:
        return _Looked([window])
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
) -> _Looked:
    """Return what is missing of closed candles within the symbol's lives."""
    span = hull(closed)
    listing = by_day(list_objects(store, interval, symbol, span.start, span.end))

    def judge(due: Window, mark: SealedDay | None) -> _Day:
        stored = listing.get(due.start.date(), [])
        stands = mark is not None and [each.etag for each in stored] == mark.etags
        if mark is not None and stands and mark.covers(due):
            return common(due, [span for span, _ in mark.missing]), True
        return _absent(store, interval, symbol, due, stored), stands

    return _looked(symbol, closed, known, judge)


def _looked(
    symbol: str,
    closed: Sequence[Window],
    known: Known,
    judge: Callable[[Window, SealedDay | None], _Day],
) -> _Looked:
    """Gather what is known of a symbol's lives, day by day.

    Args:
        symbol: the symbol.
        closed: the spans in which it traded and candles have closed.
        known: what the lake's documents say.
        judge: given the due part of a day and the day's mark, tells what is not stored of it.
    """
    looked = _Looked()
    for life in closed:
        # A symbol is no witness of what the exchange had before or after it traded: it lacks that
        # anyway.
        if symbol in known.ticked:
            looked.fetched += common(life, [known.ticked[symbol]])
        for day in days_of(life):
            mark = known.sealed.get(day, {}).get(symbol)
            [due] = common(day_window(day), [life])
            missing, stands = judge(due, mark)
            looked.missing += missing
            if mark is not None:
                _note(looked, mark, due if stands else None)
    looked.fetched = joined(looked.fetched)
    return looked


def _note(looked: _Looked, mark: SealedDay, judged: Window | None) -> None:
    """Take down what a mark says; `judged` is the part of the day that it still speaks for."""
    if judged is not None:
        looked.fetched += common(judged, [mark.judged]) if mark.judged else [judged]
    # What the exchange confirmed stays so, also where the day's object was removed since.
    for span, absence in mark.missing:
        if absence is Absence.CONFIRMED:
            looked.confirmed.append(span)
        elif absence is Absence.INVALID:
            looked.invalid.append(span)
        elif absence is Absence.SET_ASIDE:
            looked.set_aside.append(span)


def _absent(
    store: ObjectStore,
    interval: Interval,
    symbol: str,
    due: Window,
    stored: Sequence[StoredObject],
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
        # What cannot be read is not stored: the ledger names it, and a repair fetches it again.
        _LOG.warning("The candles of %s count as not stored: %s", store.address(key), error)
        return pl.Series("open_time", [], dtype=pl.Datetime("us", "UTC"))


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
