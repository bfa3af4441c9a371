"""Coverage: for symbols, an interval and a span, which candles are missing, why, and which of them a fetch
may bring. Checks, commands, the ledger, repair and `status` all ask here, so that no two disagree.

The lake is read in lake_coverage.py, a cause is decided in market/gap_causes.py, and the ledger is kept day
by day in gap_ledger_days.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from pipeline_assets.collection.listings import Listed
from pipeline_assets.market.gap_causes import Cause, Evidence, gap_causes, span_frame
from pipeline_assets.market.gaps import expected_frame, expected_open_times, gaps
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window, common, day_window, days_of, joined, without
from pipeline_assets.resources.finalized_days import Absence, FinalizedDay

if TYPE_CHECKING:
    import polars as pl

# A backfill may bring these, of symbols that the exchange still names. An outage has no candles, nor has a
# row that the exchange gives the same each time, and the open candle is the next tick's.
FILLABLE = (Cause.NOT_FETCHED, Cause.REJECTED, Cause.ARCHIVE_HOLE)


@dataclass
class SymbolEvidence:
    """The missing spans of one symbol, and the spans about which something is known."""

    missing: list[Window] = field(default_factory=list)
    fetched: list[Window] = field(default_factory=list)
    confirmed: list[Window] = field(default_factory=list)
    rejected: list[Window] = field(default_factory=list)
    invalid: list[Window] = field(default_factory=list)


@dataclass(frozen=True)
class Known:
    """The lake's documents about all symbols of an interval, read once.

    Attributes:
        finalized: the marks of finalized days, by day and symbol.
        ingested: by symbol the part of the open day that ticks have fetched.
        pauses: by symbol that was listed anew where it did not trade in between.
    """

    finalized: Mapping[date, Mapping[str, FinalizedDay]] = field(default_factory=dict)
    ingested: Mapping[str, Window] = field(default_factory=dict)
    pauses: Mapping[str, Sequence[Window]] = field(default_factory=dict)


# The missing spans of a day's due part, and whether the day's mark still speaks for it.
DayGaps = tuple[list[Window], bool]


def coverage_of(
    stored: "pl.DataFrame",
    interval: Interval,
    window: Window,
    lifetimes: Mapping[str, tuple[datetime, datetime | None]],
    newest: datetime,
    known: Known,
    *,
    witnesses: bool = True,
    absences: Mapping[str, Sequence[Window]] | None = None,
) -> "pl.DataFrame":
    """Judge as `lake_coverage.gap_ledger`, for a caller who has read the open times of the window.

    Args:
        stored: `symbol` and `open_time` of all that is stored in the window, in any order.
        interval: of the candles.
        window: on the interval's grid.
        lifetimes: as of `gap_ledger`.
        newest: the open time of the newest candle that should be stored (`due_uploads.newest_due`).
        known: what the lake's documents say of the window.
        witnesses: whether `lifetimes` has all symbols that are collected: candles missing from all of
            them are an outage, which fewer symbols cannot prove.
        absences: the missing spans of symbols whose rows are not in `stored`, where they are known.

    Returns:
        A frame as of `gap_ledger`.
    """
    looked = {}
    reported = absences or {}
    unknown = [symbol for symbol in lifetimes if symbol not in reported]
    absent: Mapping[str, Sequence[Window]] = reported
    if unknown:
        absent = {**reported, **missing_candles(stored, interval, dict.fromkeys(unknown, window))}
    for symbol, lifetime in lifetimes.items():
        closed = closed_spans(interval, window, lifetime, newest, known.pauses.get(symbol, ()))
        gaps_of_symbol = absent.get(symbol, ())

        def judge(
            due: Window, mark: FinalizedDay | None, own: Sequence[Window] = gaps_of_symbol
        ) -> DayGaps:
            missing = common(due, own)
            named = [span for span, _ in mark.missing] if mark else []
            # A gap that the mark does not name was removed later, or lies outside the life that it judged.
            return missing, not any(without(gap, named) for gap in missing)

        found = gather_evidence(symbol, closed, known, judge)
        if not witnesses:
            found.fetched = []
        found.missing = joined([*found.missing, *without(window, closed)])
        looked[symbol] = found
    return judge_gaps(looked, interval, window, lifetimes, newest, known, {})


def fetchable(ledger: "pl.DataFrame") -> "pl.DataFrame":
    """Return the gaps of a ledger that a fetch may fill, of symbols that the exchange still names."""
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


def closed_spans(
    interval: Interval,
    window: Window,
    lifetime: tuple[datetime, datetime | None],
    newest: datetime,
    pauses: Sequence[Window],
) -> list[Window]:
    """Return the parts of a window in which a symbol traded, as far as candles have closed."""
    traded = Listed(*lifetime).clip(interval, window)
    end = newest + interval.span
    if traded is None or traded.start >= end:
        return []
    return without(Window(traded.start, min(traded.end, end)), pauses)


def judge_gaps(
    looked: Mapping[str, SymbolEvidence],
    interval: Interval,
    window: Window,
    lifetimes: Mapping[str, tuple[datetime, datetime | None]],
    newest: datetime,
    known: Known,
    archive_holes: Mapping[str, Sequence[Window]],
) -> "pl.DataFrame":
    """Return the ledger of what was found."""
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
            rejected=span_frame({s: each.rejected for s, each in looked.items()}),
            between_listings=span_frame(known.pauses),
            invalid=span_frame({s: each.invalid for s, each in looked.items()}),
        ),
    )


def gather_evidence(
    symbol: str,
    closed: Sequence[Window],
    known: Known,
    judge: Callable[[Window, FinalizedDay | None], DayGaps],
) -> SymbolEvidence:
    """Gather what is known of a symbol's lives, day by day.

    Args:
        symbol: the symbol.
        closed: the spans in which it traded and candles have closed.
        known: what the lake's documents say.
        judge: given the due part of a day and the day's mark, tells what is not stored of it.
    """
    looked = SymbolEvidence()
    for life in closed:
        # Before and after it traded, a symbol has no candles anyway. It proves nothing about the
        # exchange at that time.
        if symbol in known.ingested:
            looked.fetched += common(life, [known.ingested[symbol]])
        for day in days_of(life):
            mark = known.finalized.get(day, {}).get(symbol)
            [due] = common(day_window(day), [life])
            missing, stands = judge(due, mark)
            looked.missing += missing
            if mark is not None:
                _note(looked, mark, due if stands else None)
    looked.fetched = joined(looked.fetched)
    return looked


def _note(looked: SymbolEvidence, mark: FinalizedDay, judged: Window | None) -> None:
    """Record what a mark says; `judged` is the part of the day for which it is still valid."""
    if judged is not None:
        looked.fetched += common(judged, [mark.judged]) if mark.judged else [judged]
    # A hole that the exchange confirmed stays confirmed, even if the day's object was removed since.
    for span, absence in mark.missing:
        if absence is Absence.CONFIRMED:
            looked.confirmed.append(span)
        elif absence is Absence.INVALID:
            looked.invalid.append(span)
        elif absence is Absence.REJECTED:
            looked.rejected.append(span)
