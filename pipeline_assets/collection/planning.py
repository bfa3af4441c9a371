"""Deciding what a run fetches: asks the exchange's clock, the universe and the lake's state, and makes
the plan. The plan's own logic is in fetch_plan.py.
"""

import difflib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from pipeline_assets.collection.fetch_plan import (
    FetchPlan,
    RunKind,
    SymbolError,
    day_windows,
    tick_windows,
)
from pipeline_assets.collection.listings import (
    TRADING,
    Listed,
    between_listings,
    collected_identities,
    collected_now,
    learn_first_candles,
    left_out,
    lifetimes,
    listed_symbols,
    look,
)
from pipeline_assets.market.intervals import Interval, from_milliseconds
from pipeline_assets.market.partition_keys import partition_days
from pipeline_assets.market.windows import (
    Window,
    common,
    day_window,
    hull,
    newest_closed,
)
from pipeline_assets.resources.candle_objects import (
    by_day,
    list_objects,
    object_key,
    read_object,
)
from pipeline_assets.resources.finalized_days import SealedDay, mark_sealed, read_sealed
from pipeline_assets.resources.listing_history import read_universe
from pipeline_assets.resources.tick_state import read_tick_state

if TYPE_CHECKING:
    from pipeline_assets.resources.exchange import ExchangeClient
    from pipeline_assets.resources.object_store import ObjectStore, StoredObject

# exchangeInfo is a megabyte; a listing seen five minutes late heals by itself, since a symbol that
# has nothing stored is read from the start of the open day.
_UNIVERSE_AGE = timedelta(minutes=5)


@dataclass(frozen=True)
class Request:
    """What a run was launched for.

    Attributes:
        interval: the candles' interval.
        kind: why the run was launched.
        keys: the run's partition keys.
        configured: the symbols in the settings.
        asked: the symbols in the run's own configuration, or None.
        refresh: whether a backfill fetches days too that are stored and complete.
    """

    interval: Interval
    kind: RunKind
    keys: Sequence[str]
    configured: Sequence[str] | Literal["all"]
    asked: Sequence[str] | None
    refresh: bool = False


def make_plan(
    client: "ExchangeClient", store: "ObjectStore", request: Request, settle: timedelta
) -> FetchPlan:
    """What a run fetches, by the exchange's clock and what the lake holds.

    Raises:
        PartitionError: a partition is no day, or lies in the future by the exchange's clock.
        SymbolError: a symbol that was asked for by name is not on the exchange, or no symbol of
            the settings is.
    """
    interval, kind = request.interval, request.kind
    server_time = _settled_time(client, interval, settle)
    newest = newest_closed(interval, server_time, settle)
    # Just after midnight a day has begun, and can be asked for, that has no closed candle yet.
    days = partition_days(request.keys, server_time.date())
    chosen = _chosen(client, store, server_time, request)
    plan = FetchPlan(
        interval=interval,
        kind=kind,
        days=days,
        newest=newest,
        clock_offset=server_time - datetime.now(UTC),
        listed=chosen.listed,
        windows={},
        failures=chosen.failures,
        gone=chosen.gone,
        asked=request.asked is not None,
        pauses=chosen.pauses,
    )
    if plan.ticks:
        # Also where the partition is a day that has ended, because the run was late: whole days are the
        # finalize run's and the repairs', and the live minute must not wait for one.
        state = read_tick_state(store, interval, plan.listed, newest)
        plan.windows = tick_windows(interval, newest, plan.listed, state.newest)
    else:
        plan.windows = day_windows(interval, newest, plan.listed, days)
    # The daily sealing fetches whatever is there: it is what makes a day's marks.
    if plan.kind is RunKind.BACKFILL and not request.refresh:
        plan.leave_out(complete_days(store, plan))
    return plan


def complete_days(store: "ObjectStore", plan: FetchPlan) -> dict[str, list[date]]:
    """The finished days of a plan that the lake holds complete, by symbol.

    A day is complete if all that the plan would fetch of it was sealed whole, or with holes that the
    exchange confirmed, and the object stands there unchanged since, alone: its ETag is the one that
    was judged. So neither an object that somebody removed nor one that was written over passes for
    complete, nor a day of which the symbol turned out to have traded longer.

    A run that was killed while it uploaded left whole days without a mark. Those of an interval without
    a table, such as 1m, are judged by their rows, and marked. The others are fetched again: they may not
    be in the table.
    """
    days = [day for day in plan.days if plan.finished(day)]
    if not days:
        return {}
    marks = store.each(lambda day: read_sealed(store, plan.interval, day), days)
    sealed = dict(zip(days, marks, strict=True))
    span = Window(day_window(days[0]).start, day_window(days[-1]).end)
    whole: dict[date, dict[str, SealedDay]] = {day: {} for day in days}

    def standing(symbol: str) -> list[date]:
        listing = by_day(list_objects(store, plan.interval, symbol, span.start, span.end))
        found = []
        for day in days:
            mark, stored = sealed[day].get(symbol), listing.get(day, [])
            judged = mark is not None and [each.etag for each in stored] == mark.etags
            due = common(day_window(day), plan.spans(symbol))
            if mark is not None and judged:
                if mark.complete and all(map(mark.covers, due)):
                    found.append(day)
            elif not plan.interval.has_table and _is_whole(store, plan, symbol, day, stored):
                part = None if due == [day_window(day)] else hull(due)
                whole[day][symbol] = SealedDay(stored[0].etag, judged=part)
                found.append(day)
        return found

    symbols = list(plan.windows)
    complete = dict(zip(symbols, store.each(standing, symbols), strict=True))
    store.each(
        lambda each: mark_sealed(store, plan.interval, *each),
        [(day, found) for day, found in whole.items() if found],
    )
    return complete


def _is_whole(
    store: "ObjectStore",
    plan: FetchPlan,
    symbol: str,
    day: date,
    stored: "Sequence[StoredObject]",
) -> bool:
    """Whether a day's one object holds every candle that the plan would fetch of the day."""
    window = day_window(day)
    due = common(window, plan.spans(symbol))
    if [each.key for each in stored] != [
        object_key(plan.interval, symbol, window.start)
    ] or not due:
        return False
    found = read_object(store, stored[0].key)
    if found is None:
        return False
    candles, etag = found
    times = candles["open_time"]
    # An object that another program wrote may repeat an open time: distinct ones are counted.
    return etag == stored[0].etag and all(
        times.filter(times.is_between(part.start, part.end, closed="left")).n_unique()
        == part.candles(plan.interval)
        for part in due
    )


def _settled_time(client: "ExchangeClient", interval: Interval, settle: timedelta) -> datetime:
    """The exchange's time; within the settling time after a candle's end, that end plus it.

    A tick launched on the minute would otherwise be a whole candle late. With a stepped clock the
    wait does not help, and what is closed is taken.
    """
    server_time = client.server_time()
    settled = interval.floor(server_time) + settle
    if server_time < settled:
        time.sleep((settled - server_time).total_seconds())
        server_time = client.server_time()
    return server_time


@dataclass
class _Chosen:
    """The symbols that a run is for: when they trade, and when not in between; and those of which
    nothing can be had, why.
    """

    listed: dict[str, Listed] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    pauses: dict[str, list[Window]] = field(default_factory=dict)


def _chosen(
    client: "ExchangeClient", store: "ObjectStore", server_time: datetime, request: Request
) -> _Chosen:
    chosen = (
        _for_tick(_universe(client, store, server_time), request)
        if request.kind is RunKind.TICK
        else _for_days(client, store, server_time, request)
    )
    asked = request.asked is not None
    # Of the settings' symbols, one that is gone is told; a run that was asked for it has nothing else.
    hopeless = chosen.failures | (chosen.gone if asked and not chosen.listed else {})
    if hopeless and (asked or not chosen.listed):
        raise SymbolError(
            f"{' '.join(hopeless.values())} Nothing was fetched. Correct the symbols and run again."
        )
    return chosen


def _for_tick(universe: Mapping[str, Any], request: Request) -> _Chosen:
    """The symbols of a tick: those that trade now."""
    asked, configured = request.asked, request.configured
    if asked is None and configured == "all":
        return _Chosen(_all_collected(universe))
    listed = listed_symbols(universe, from_milliseconds(universe["seen_ms"]))
    chosen = _Chosen()
    for symbol in asked if asked is not None else configured:
        if symbol not in listed:
            chosen.failures[symbol] = _unknown(symbol, listed, left_out(universe))
        elif (status := listed[symbol][1]) != TRADING:
            chosen.failures[symbol] = (
                f"{symbol} does not trade now (status {status}): take it out of "
                "PIPELINE_SYMBOLS for as long. What is stored of it stays."
            )
        else:
            chosen.listed[symbol] = listed[symbol][0]
    return chosen


def _for_days(
    client: "ExchangeClient", store: "ObjectStore", server_time: datetime, request: Request
) -> _Chosen:
    """The symbols of a run over days: those that traded then, as far as the exchange has them still."""
    days = partition_days(request.keys, server_time.date())
    window = Window(day_window(days[0]).start, day_window(days[-1]).end)
    universe, identities = look(client, store, server_time)
    wanted: Collection[str]
    if request.asked is not None:
        wanted = request.asked
    elif request.configured == "all":
        _all_collected(universe)
        wanted = {each.symbol for each in collected_identities(identities, "all")}
    else:
        wanted = request.configured
    ever, named = {each.symbol for each in identities}, universe["symbols"]
    # A run that was asked for a symbol that does not exist fails and must not spend any weight.
    if request.asked is None or ever.issuperset(wanted):
        # Before it is judged who traded then: the onboard date is a hint, wrong by years.
        identities = learn_first_candles(
            client, store, identities, set(wanted), server_time, again=request.refresh
        )
    lives = lifetimes(identities, window, server_time)
    if request.asked is None and request.configured == "all":
        wanted = lifetimes(collected_identities(identities, "all"), window, server_time)
    chosen = _Chosen(pauses=between_listings(identities, request.interval, window, server_time))
    for symbol in wanted:
        if symbol not in ever:
            chosen.failures[symbol] = _unknown(symbol, named, left_out(universe))
        elif symbol in lives and symbol in named:
            chosen.listed[symbol] = Listed(*lives[symbol])
        elif symbol in lives:
            until = lives[symbol][1]
            chosen.gone[symbol] = (
                f"{symbol} traded until {until:%Y-%m-%d %H:%M} UTC, and the exchange does not name it "
                "any more: nothing of it can be fetched. What is stored of it stays."
            )
    return chosen


def _all_collected(universe: Mapping[str, Any]) -> dict[str, Listed]:
    """The symbols that `all` means now.

    Raises:
        SymbolError: there are none. That there is nothing to do would be wrong: what the exchange lists
            may be incomplete for a time.
    """
    found = collected_now(universe, "all")
    if not found:
        raise SymbolError(
            f"PIPELINE_SYMBOLS is `all`, and of the {len(universe['symbols'])} symbols that the exchange "
            f"lists none is a USDT perpetual on a coin that trades ({len(left_out(universe))} entries "
            "could not be read). Nothing was fetched. Repeat the run once the exchange lists them again."
        )
    return found


def _unknown(symbol: str, known: Iterable[str], odd: Mapping[str, str]) -> str:
    if symbol in odd:
        return f"The exchange's entry of {symbol} cannot be read: {odd[symbol]}."
    near = difflib.get_close_matches(symbol.upper(), list(known), n=1)
    return f"{symbol} is not on the exchange" + (f"; did you mean {near[0]}?" if near else ".")


def _universe(
    client: "ExchangeClient", store: "ObjectStore", server_time: datetime
) -> dict[str, Any]:
    """The universe as ticks take it: as last seen, if that is not long ago."""
    held = read_universe(store)
    age = server_time - from_milliseconds(held["seen_ms"]) if held else _UNIVERSE_AGE
    if held is None or not timedelta(0) <= age < _UNIVERSE_AGE:
        held, _ = look(client, store, server_time)
    return held
