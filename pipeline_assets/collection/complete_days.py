"""The finished days of a plan that the lake holds complete, so that they are not fetched again."""

import logging
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from pipeline_assets.collection.coverage import missing_candles
from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.market.windows import Window, bounding_window, common, day_window
from pipeline_assets.resources.candle_objects import object_key, objects_by_day, read_object
from pipeline_assets.resources.finalized_days import FinalizedDay, mark_finalized, read_finalized
from pipeline_assets.resources.s3_errors import DamagedObjectError

if TYPE_CHECKING:
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.stored_objects import StoredObject

_LOG = logging.getLogger(__name__)


def complete_days(store: "ObjectStore", plan: FetchPlan) -> dict[str, list[date]]:
    """Return the finished days of a plan that the lake holds complete, by symbol.

    A day is complete if two conditions hold. All candles that the plan would fetch were stored when the
    day was finalized, or are holes that the exchange confirmed. And the day's only object is unchanged
    since: its ETag is the one that was judged. Bytes that change on the store's disk keep the ETag:
    lake_sweep.py finds these, and removes the mark. So a removed or overwritten object makes a day
    incomplete, and so does a symbol that turned out to have traded longer.

    A run that was killed while it uploaded left whole days without a mark. Days that the lake alone
    holds, such as those of 1m, are judged by their rows, and marked. The others are fetched again: they
    may not be in every sink.
    """
    days = [day for day in plan.days if plan.finished(day)]
    if not days:
        return {}
    marks = dict(
        zip(
            days,
            store.each(lambda day: read_finalized(store, plan.interval, day), days),
            strict=True,
        )
    )
    span = Window(day_window(days[0]).start, day_window(days[-1]).end)
    listings = objects_by_day(store, plan.interval, list(plan.windows), span)
    complete, unmarked = _judged(plan, marks, listings)
    if not plan.interval.lasting_sinks:
        found = store.each(lambda each: _whole(store, plan, *each), unmarked)
        whole: dict[date, dict[str, FinalizedDay]] = {}
        for (symbol, day, _), mark in zip(unmarked, found, strict=True):
            if mark is not None:
                whole.setdefault(day, {})[symbol] = mark
                complete[symbol] = sorted([*complete[symbol], day])
        store.each(lambda each: mark_finalized(store, plan.interval, *each), whole.items())
    return complete


def _judged(
    plan: FetchPlan,
    marks: Mapping[date, Mapping[str, FinalizedDay]],
    listings: "Mapping[str, Mapping[date, Sequence[StoredObject]]]",
) -> "tuple[dict[str, list[date]], list[tuple[str, date, StoredObject]]]":
    """Return by symbol the days that their marks call complete; and the days of one object without a mark."""
    complete: dict[str, list[date]] = {symbol: [] for symbol in listings}
    unmarked: list[tuple[str, date, StoredObject]] = []
    for symbol, listing in listings.items():
        for day, finalized in marks.items():
            mark, stored, window = finalized.get(symbol), listing.get(day, []), day_window(day)
            if mark is not None and [each.etag for each in stored] == mark.etags:
                due = common(window, plan.spans(symbol))
                if mark.complete and all(map(mark.covers, due)):
                    complete[symbol].append(day)
            elif [each.key for each in stored] == [object_key(plan.interval, symbol, window.start)]:
                unmarked.append((symbol, day, stored[0]))
    return complete, unmarked


def _whole(
    store: "ObjectStore", plan: FetchPlan, symbol: str, day: date, stored: "StoredObject"
) -> FinalizedDay | None:
    """Return the mark of a day whose one object holds every candle that the plan would fetch, or None."""
    window = day_window(day)
    due = common(window, plan.spans(symbol))
    try:
        found = read_object(store, stored.key) if due else None
    except DamagedObjectError as error:
        # Then the day is fetched again, which replaces the object.
        _LOG.warning("%s The day counts as not stored.", error)
        return None
    if found is None or found[1] != stored.etag:
        return None
    if any(missing_candles(found[0], plan.interval, {symbol: part}) for part in due):
        return None
    return FinalizedDay(stored.etag, judged=None if due == [window] else bounding_window(due))
