"""Marks of finished days: the candles that each day holds, the ones missing from it, and the reasons. The
upload writes the day's object itself; the content of a mark is defined in resources/finalized_days.py.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.market.cleaning import CUT_SHORT
from pipeline_assets.market.gap_causes import spans
from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.market.windows import (
    Window,
    bounding_window,
    common,
    day_window,
    days_of,
    joined,
    without,
)
from pipeline_assets.resources.candle_objects import WrittenObject, object_key
from pipeline_assets.resources.finalized_days import (
    STABLE_AFTER,
    Absence,
    FinalizedDay,
    Rejected,
    read_finalized,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import Staged, read_frames


@dataclass(frozen=True)
class Evidence:
    """Evidence about the finished days that a run fetched.

    Attributes:
        written: the objects that it stored, by key.
        newest: the day of the newest candle that the exchange gave of any symbol; None without one.
        rejected: by symbol the rows that came in the place of candles.
        before: the marks that the days of such rows have, by day and symbol.
    """

    written: Mapping[str, WrittenObject]
    newest: date | None
    rejected: Mapping[str, Sequence[Rejected]]
    before: Mapping[date, Mapping[str, FinalizedDay]]


def finalized_days(
    store: ObjectStore,
    plan: FetchPlan,
    source: Staged,
    written: Iterable[WrittenObject],
    newest: date | None,
) -> dict[date, dict[str, FinalizedDay]]:
    """The marks of the finished days that a run fetched, by day and symbol.

    Args:
        store: the lake.
        plan: of the run's fetch.
        source: where the formatted candles and the rejected rows lie.
        written: the objects that the run stored.
        newest: the day of the newest candle that the exchange gave of any symbol; None without one.
    """
    rejected = _rejected(store, plan, source)
    odd_days = {day for rows in rejected.values() for each in rows for day in days_of(each.window)}
    finished = {day for day in plan.days if plan.finished(day)}
    before = {day: read_finalized(store, plan.interval, day) for day in sorted(odd_days & finished)}
    return marks_of(plan, Evidence({each.key: each for each in written}, newest, rejected, before))


def marks_of(plan: FetchPlan, evidence: Evidence) -> dict[date, dict[str, FinalizedDay]]:
    """Judge the finished days of a plan by what is known of them."""
    marks: dict[date, dict[str, FinalizedDay]] = {
        day: {} for day in plan.days if plan.finished(day)
    }
    # An exchange that has nothing of any symbol is not believed to have nothing, unless a later candle or
    # something else shows that it has not lost the day.
    believed = [
        day
        for day in marks
        if day in plan.witnessed or (evidence.newest is not None and day <= evidence.newest)
    ]
    for symbol in plan.windows.keys() - plan.failures.keys():
        fetched = plan.spans(symbol)
        for day in believed:
            due = common(day_window(day), fetched)
            if due:
                marks[day][symbol] = _mark_of(plan, symbol, day, due, evidence)
    return marks


def _mark_of(
    plan: FetchPlan, symbol: str, day: date, due: Sequence[Window], evidence: Evidence
) -> FinalizedDay:
    window = day_window(day)
    written = evidence.written.get(object_key(plan.interval, symbol, window.start))
    absent = (window,) if written is None else written.missing
    missing = [part for gap in absent for part in common(gap, due)]
    # A rejected row is not noted where the candle is stored all the same, such as one that came twice.
    rows = [
        each
        for each in evidence.rejected.get(symbol, ())
        if any(common(gap, [each.window]) for gap in missing)
    ]
    odd = since(rows, evidence.before.get(day, {}).get(symbol))
    return FinalizedDay(
        written.etag if written else None,
        absences(missing, plan.confirmed.get(symbol, ()), odd),
        None if due == [window] else bounding_window(due),
        tuple(each.rows for each in odd),
    )


def _rejected(store: ObjectStore, plan: FetchPlan, source: Staged) -> dict[str, list[Rejected]]:
    """By symbol the candles in whose place came a row that is none, as far as it says when."""
    import polars as pl

    key = source.rejected
    if not plan.windows or not store.holds(key):
        return {}
    asked = bounding_window(list(plan.windows.values()))
    # A row may be there because its time is nonsense, which no timestamp could hold.
    within = pl.col("open_time").is_between(
        to_milliseconds(asked.start), to_milliseconds(asked.end), closed="left"
    )
    time = pl.col("open_time").mul(1000).cast(pl.Datetime("us", "UTC"))
    found: dict[str, list[Rejected]] = {}
    with read_frames(store, key) as frames:
        for frame in frames:
            rows = frame.filter(within).with_columns(opens=time)
            times = rows.select("symbol", open_time="opens")
            for symbol, start, end in spans(times, plan.interval).rows():
                own = rows.filter(
                    pl.col("symbol") == symbol, pl.col("opens") >= start, pl.col("opens") < end
                ).drop("opens")
                digest = hashlib.sha256("\n".join(sorted(map(repr, own.rows()))).encode())
                found.setdefault(symbol, []).append(
                    Rejected(
                        Window(start, end),
                        str(own["reason"][0]),
                        digest.hexdigest()[:16],
                        source.run,
                        plan.now(),
                    )
                )
    return found


@dataclass(frozen=True)
class Odd:
    """Rejected rows as they came first, and whether another run received the same ones since."""

    rows: Rejected
    stable: bool


def since(rows: Sequence[Rejected], before: FinalizedDay | None) -> list[Odd]:
    """Set rejected rows against those of the day's earlier mark.

    A fault on the way damages other rows, or otherwise, the next time. A candle that the exchange cut
    short is stable once another run receives it again; any other row only hours later, since what the
    exchange stores may still be put right.
    """
    known = {(each.window, each.digest): each for each in (before.rejected if before else ())}
    found = []
    for each in rows:
        first = known.get((each.window, each.digest), each)
        again = first.run != each.run
        waited = each.at - first.at >= STABLE_AFTER or each.reason == CUT_SHORT
        found.append(Odd(first, again and waited))
    return found


def absences(
    missing: Sequence[Window], confirmed: Sequence[Window], rejected: Sequence[Odd]
) -> tuple[tuple[Window, Absence], ...]:
    """Return what is missing, and what is known of each part."""
    windows = [each.rows.window for each in rejected]
    # The exchange will not serve a confirmed hole better later, even if an invalid row came before.
    odd = {
        stable: [
            part
            for each in joined(each.rows.window for each in rejected if each.stable is stable)
            for part in without(each, confirmed)
        ]
        for stable in (True, False)
    }
    parts = [
        (part, absence)
        for gap in missing
        for absence, found in (
            (Absence.CONFIRMED, common(gap, confirmed)),
            (Absence.INVALID, common(gap, odd[True])),
            (Absence.REJECTED, common(gap, odd[False])),
            (Absence.UNCONFIRMED, without(gap, [*confirmed, *windows])),
        )
        for part in found
    ]
    return tuple(sorted(parts))
