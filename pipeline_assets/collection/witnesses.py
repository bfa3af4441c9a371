"""The finished days that the exchange still serves, asked where a run brought no row at all: an exchange that
lost a day says, of every symbol, that it has nothing. What is believed then is decided in finalize.py.
"""

from collections.abc import Container, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING

from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.market.intervals import Interval, from_milliseconds
from pipeline_assets.market.replies import raw_candles as rows_of
from pipeline_assets.market.windows import Window, common, day_window, days_of, without
from pipeline_assets.resources.lake_state import SealedDay, read_sealed, read_universe

if TYPE_CHECKING:
    from pipeline_assets.resources.exchange import ExchangeClient
    from pipeline_assets.resources.object_store import ObjectStore


def witnessed_days(client: "ExchangeClient", store: "ObjectStore", plan: FetchPlan) -> list[date]:
    """The finished days of which something shows that the exchange serves them, asked now.

    For a run that brought no row at all, though the exchange confirmed that it has none: if it lost
    these days, of all symbols, it would say so too. A witness is a candle that the lake holds of the
    day, of another symbol or interval, and that the exchange still serves; where the lake holds none, the
    exchange's own next candle after the day. A request of weight 1 a day, at most.

    Raises:
        ExchangeUnreachableError, ExchangeBannedError: as `ExchangeClient.klines`.
        ObjectStoreError: the lake does not answer.
    """
    empty = {day for held in plan.confirmed.values() for each in held for day in days_of(each)}
    days = sorted(day for day in empty.intersection(plan.days) if plan.finished(day))
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
                read_sealed(store, interval, day),
                interval,
                day,
                listed if interval is not plan.interval else listed - plan.windows.keys(),
            )
            if held is not None:
                found.setdefault(interval, {}).setdefault(held[0], []).append(held[1])
                break
    return found


def _held_candle(
    marks: Mapping[str, SealedDay], interval: Interval, day: date, symbols: Container[str]
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
