"""Whether the exchange is believed when it has no candle of a finished day, of any symbol: it would say so
too if it had lost the day for a time. Which days a run marks, and how, is in finalize.py.
"""

from collections.abc import Container, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.market.intervals import Interval, from_milliseconds
from pipeline_assets.market.replies import raw_candles as rows_of
from pipeline_assets.market.windows import (
    Window,
    bounding_window,
    common,
    day_window,
    days_of,
    without,
)
from pipeline_assets.resources.candle_objects import list_objects
from pipeline_assets.resources.empty_answers import (
    EmptyAnswer,
    forget_empty_answers,
    note_empty_answers,
)
from pipeline_assets.resources.finalized_days import FinalizedDay, read_finalized
from pipeline_assets.resources.listing_history import read_universe

if TYPE_CHECKING:
    from pipeline_assets.resources.exchange import ExchangeClient
    from pipeline_assets.resources.object_store import ObjectStore


def believed_empty_days(
    client: "ExchangeClient",
    store: "ObjectStore",
    plan: FetchPlan,
    newest: datetime | None,
    run: str,
) -> list[date]:
    """Return the finished days of which it is believed that the exchange has no more than what came.

    A day up to the newest candle that came needs no witness, because the exchange serves that candle.
    For a later day the witness is a stored candle, the exchange's next candle, or the same answer to an
    earlier run.

    Args:
        client: asked for the witnesses: a request of weight 1 a day, at most.
        store: the lake, which remembers the answers of runs.
        plan: with what the exchange confirmed to have no candle of.
        newest: the open time of the newest candle that the run received; None: it received none.
        run: the run, whose own answer is no second one when it is executed again.

    Raises:
        ExchangeUnreachableError, ExchangeBannedError: as `ExchangeClient.klines`.
        ObjectStoreError: the lake does not answer.
    """
    days = [day for day in plan.days if plan.finished(day)]
    served = [day for day in days if newest is not None and day <= newest.date()]
    forget_empty_answers(store, plan.interval, served)
    confirmed = {day for held in plan.confirmed.values() for each in held for day in days_of(each)}
    empty = sorted(confirmed.intersection(days).difference(served))
    witnessed = _witnessed_days(client, store, plan, empty)
    left = [day for day in empty if day not in witnessed]
    return sorted([*served, *witnessed, *_repeatedly_empty(store, plan, left, run)])


def _repeatedly_empty(
    store: "ObjectStore", plan: FetchPlan, days: Sequence[date], run: str
) -> list[date]:
    """Remember that days came empty, and return those that did so hours ago, too, of every symbol.

    A day of which the lake holds a candle is not among them: the exchange had it, and has lost it.
    """
    now = plan.now()
    found = []
    for day in days:
        answers = _empty_answers(plan, day, run, now)
        if not answers or _holds_any(store, plan, day):
            continue
        first = note_empty_answers(store, plan.interval, day, answers)
        if all(first[symbol].repeated_by(answer) for symbol, answer in answers.items()):
            found.append(day)
    return found


def _empty_answers(plan: FetchPlan, day: date, run: str, now: datetime) -> dict[str, EmptyAnswer]:
    """Return the run's answers by symbol; none unless the whole day is confirmed empty for every symbol."""
    answers = {}
    for symbol in plan.windows:
        due = common(day_window(day), plan.spans(symbol))
        if not due:
            continue
        confirmed = plan.confirmed.get(symbol, ())
        if symbol in plan.failures or any(without(part, confirmed) for part in due):
            return {}
        answers[symbol] = EmptyAnswer(bounding_window(due), run, now)
    return answers


def _holds_any(store: "ObjectStore", plan: FetchPlan, day: date) -> bool:
    """Whether the lake holds a candle of the day: by the marks of each interval, or by the run's objects."""
    marks = store.each(lambda interval: read_finalized(store, interval, day), list(Interval))
    if any(mark.etag is not None for held in marks for mark in held.values()):
        return True
    window = day_window(day)
    listings = store.each(
        lambda symbol: list_objects(store, plan.interval, symbol, window.start, window.end),
        list(plan.listed),
    )
    return any(listings)


def _witnessed_days(
    client: "ExchangeClient", store: "ObjectStore", plan: FetchPlan, days: Sequence[date]
) -> list[date]:
    """The days of which something shows that the exchange serves them, asked now.

    A witness is a candle that the lake holds of the day, of another symbol or interval, and that the
    exchange still serves; where the lake holds none, the exchange's own next candle after the day.
    """
    served: set[date] = set()
    held = _held_candles(store, plan, days)
    for interval, asked in held.items():
        replies = [
            (fetched.symbol, body)
            for fetched in client.klines(interval, asked)
            for body in fetched.replies
        ]
        times = rows_of(replies)["open_time"]
        served |= {from_milliseconds(each).date() for each in times}
    # An exchange that does not serve what the lake holds of a day has lost the day: then its next candle
    # says nothing.
    known = {each.start.date() for asked in held.values() for own in asked.values() for each in own}
    left = [day for day in days if day not in known]
    return sorted(served.intersection(days).union(_days_before_a_candle(client, plan, left)))


def _held_candles(
    store: "ObjectStore", plan: FetchPlan, days: Sequence[date]
) -> dict[Interval, dict[str, list[Window]]]:
    """By interval and symbol one stored candle of each day, of what the run did not fetch."""
    listed = (read_universe(store) or {"symbols": {}})["symbols"].keys()
    found: dict[Interval, dict[str, list[Window]]] = {}
    for day in days:
        for interval in Interval:
            held = _held_candle(
                read_finalized(store, interval, day),
                interval,
                day,
                listed if interval is not plan.interval else listed - plan.windows.keys(),
            )
            if held is not None:
                found.setdefault(interval, {}).setdefault(held[0], []).append(held[1])
                break
    return found


def _held_candle(
    marks: Mapping[str, FinalizedDay], interval: Interval, day: date, symbols: Container[str]
) -> tuple[str, Window] | None:
    """A candle of the day that the lake holds, as its marks say: symbol and window."""
    for symbol, mark in marks.items():
        absent = [span for span, _ in mark.missing]
        stored = without(mark.judged or day_window(day), absent) if mark.etag else []
        if symbol in symbols and stored:
            return symbol, Window(stored[0].start, stored[0].start + interval.span)
    return None


def _days_before_a_candle(
    client: "ExchangeClient", plan: FetchPlan, days: Sequence[date]
) -> list[date]:
    """The days of which the exchange, asked for the next candle of a symbol, serves a later one.

    So it knows the symbol and has candles after the day, and none in it.
    """
    asked: dict[date, tuple[str, Window]] = {}
    for day in days:
        window = day_window(day)
        for symbol, spans in sorted(plan.confirmed.items()):
            confirmed = common(window, spans)
            if confirmed and symbol not in plan.failures:
                asked[day] = symbol, confirmed[-1]
                break
    answers = client.first_candles([(symbol, span.start) for symbol, span in asked.values()])
    return [
        day
        for (day, (_, span)), first in zip(asked.items(), answers, strict=True)
        if first is not None and first >= span.end
    ]
