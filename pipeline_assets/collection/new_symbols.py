"""The history of new symbols, listed since or new in the settings: which days of it runs are to fetch. Gaps
within a history that was fetched are repairs.py's.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Literal

from pipeline_assets.collection.history_requests import MOST_RUNS, History
from pipeline_assets.collection.listings import collected_identities
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.market.partition_keys import DAYS_PER_RUN, FIRST_DAY
from pipeline_assets.resources.finalized_days import finalized_days, finalized_symbols
from pipeline_assets.resources.identity import Identity
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

# A month of minutes of so many symbols is a million rows: two minutes at the exchange's limit.
_SYMBOLS_A_RUN = 20
_SMALLEST = timedelta(microseconds=1)


def name_of(identity: Identity) -> str:
    """Return the cursor's name of an identity."""
    return f"{identity.symbol} {identity.onboard_date:%Y-%m-%dT%H:%M}"


def new_identities(
    identities: Sequence[Identity],
    symbols: Container[str] | Literal["all"],
    known: frozenset[str] | None,
) -> list[Identity]:
    """Return the collected identities that are not known; without `known`, those listed after the first look.

    Symbols of the first look are not new: a person who starts with five hundred symbols chooses by a
    backfill how far back their history goes.
    """
    collected = collected_identities(identities, symbols)
    if known is None:
        first_look = min((each.first_seen for each in identities), default=None)
        return [each for each in collected if each.first_seen != first_look]
    return [each for each in collected if name_of(each) not in known]


def histories(
    new: Iterable[Identity], since: Mapping[Interval, date], server_time: datetime
) -> list[History]:
    """Return the finished days of new symbols, from listing to delisting, but not before `since`.

    Minutes come first, since 15m and 1h are compared with them. A symbol that the exchange does not name
    any more has no history to fetch, nor has an interval without `since`.
    """
    spans: dict[tuple[Interval, date, date], list[str]] = {}
    yesterday = server_time.date() - DAY
    there = sorted((each for each in new if each.gone is None), key=lambda each: each.symbol)
    for interval in (each for each in Interval if each in since):
        for identity in there:
            first = max(identity.listed_at.date(), since[interval], FIRST_DAY)
            ended = identity.delisted_at(server_time)
            last = min(yesterday, (ended - _SMALLEST).date()) if ended else yesterday
            if first <= last:
                spans.setdefault((interval, first, last), []).append(identity.symbol)
    return [
        History(*span, tuple(symbols[place : place + _SYMBOLS_A_RUN]))
        for span, symbols in spans.items()
        for place in range(0, len(symbols), _SYMBOLS_A_RUN)
    ]


def next_runs(
    left: Sequence[History], most: int = MOST_RUNS
) -> tuple[list[History], tuple[History, ...]]:
    """Return the next runs, of at most a month's days each, and what is left after these."""
    runs: list[History] = []
    rest = list(left)
    while rest and len(runs) < most:
        each = rest.pop(0)
        last = min(each.last, each.first + (DAYS_PER_RUN - 1) * DAY)
        runs.append(each._replace(last=last))
        if last < each.last:
            rest.insert(0, each._replace(first=last + DAY))
    return runs, tuple(rest)


def history_to_request(
    store: ObjectStore,
    settings: Settings,
    identities: Sequence[Identity],
    known: frozenset[str] | None,
    unsealed: Mapping[Interval, frozenset[str]],
    now: datetime,
) -> tuple[list[History], dict[Interval, frozenset[str]]]:
    """Return the history that was not known, and by interval who waits for its first finalized day."""
    new = new_identities(identities, settings.symbols, known)
    if not new and not unsealed:
        return [], {}
    since = history_since(store, settings)
    found: list[History] = []
    waiting = {}
    collected = collected_identities(identities, settings.symbols)
    for interval in Interval:
        waited = unsealed.get(interval, frozenset())
        own = [each for each in collected if each in new or name_of(each) in waited]
        if interval in since:
            found += histories(own, {interval: since[interval]}, now)
        elif own:
            waiting[interval] = frozenset(map(name_of, own))
    return found, waiting


def is_finalized(store: ObjectStore, run: History, named: frozenset[str]) -> bool:
    """Return whether a run's days are finalized, by that run or another, such as a person's backfill.

    `named` are the symbols that the exchange still names; it serves candles of no other.
    """
    days = [run.first + number * DAY for number in range(run.days)]
    held = store.each(lambda day: finalized_symbols(store, run.interval, day), days)
    return all(symbols.issuperset(named.intersection(run.symbols)) for symbols in held)


def history_since(store: ObjectStore, settings: Settings) -> dict[Interval, date]:
    """Return the first day of history by interval; an interval without a finalized day is left out."""
    if settings.repair.since is not None:
        return dict.fromkeys(Interval, settings.repair.since)
    finalized = {interval: finalized_days(store, interval) for interval in Interval}
    return {interval: days[0] for interval, days in finalized.items() if days}
