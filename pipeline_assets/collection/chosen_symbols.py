"""The choice of a run's symbols, with the reason for each that cannot be fetched. When each trades is in
listings.py; what is fetched of it in planning.py.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from pipeline_assets.collection.fetch_plan import RunKind, SymbolError
from pipeline_assets.collection.listing_look import learn_first_candles, look
from pipeline_assets.collection.listings import (
    TRADING,
    Listed,
    between_listings,
    collected_identities,
    collected_now,
    left_out,
    lifetimes,
    listed_symbols,
)
from pipeline_assets.collection.symbol_names import meant_symbol
from pipeline_assets.market.intervals import Interval, from_milliseconds
from pipeline_assets.market.partition_keys import partition_days
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.listing_history import read_universe

if TYPE_CHECKING:
    from pipeline_assets.resources.exchange import ExchangeClient
    from pipeline_assets.resources.object_store import ObjectStore

# exchangeInfo is a megabyte; a listing seen five minutes late heals by itself, since a symbol that
# has nothing stored is read from the start of the open day.
_UNIVERSE_AGE = timedelta(minutes=5)


@dataclass(frozen=True)
class Request:
    """The request that launched a run.

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


@dataclass
class Chosen:
    """The symbols that a run is for: when they trade, and when not in between; and those of which
    nothing can be had, why.
    """

    listed: dict[str, Listed] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    pauses: dict[str, list[Window]] = field(default_factory=dict)


def choose(
    client: "ExchangeClient", store: "ObjectStore", server_time: datetime, request: Request
) -> Chosen:
    """Choose the symbols of a run, by what the exchange lists.

    Raises:
        SymbolError: a symbol that was asked for by name is not on the exchange, or no symbol of the
            settings is.
    """
    chosen = (
        _for_ingest_run(_universe(client, store, server_time), request)
        if request.kind is RunKind.INGEST
        else _for_days(client, store, server_time, request)
    )
    asked = request.asked is not None
    # A configured symbol that is gone is only reported; a run that was asked for it alone has nothing to do.
    hopeless = chosen.failures | (chosen.gone if asked and not chosen.listed else {})
    if hopeless and (asked or not chosen.listed):
        raise SymbolError(
            f"{' '.join(hopeless.values())} Nothing was fetched. Correct the symbols and run again."
        )
    return chosen


def _for_ingest_run(universe: Mapping[str, Any], request: Request) -> Chosen:
    """The symbols of a tick: those that trade now."""
    asked, configured = request.asked, request.configured
    if asked is None and configured == "all":
        return Chosen(_all_collected(universe))
    listed = listed_symbols(universe, from_milliseconds(universe["seen_ms"]))
    chosen = Chosen()
    for symbol in asked if asked is not None else configured:
        if symbol not in listed:
            chosen.failures[symbol] = _unknown(symbol, listed, left_out(universe))
        elif (status := listed[symbol][1]) != TRADING:
            chosen.failures[symbol] = (
                f"{symbol} does not trade now (status {status}): take it out of "
                "PIPELINE_SYMBOLS for as long. Its stored candles stay."
            )
        else:
            chosen.listed[symbol] = listed[symbol][0]
    return chosen


def _for_days(
    client: "ExchangeClient", store: "ObjectStore", server_time: datetime, request: Request
) -> Chosen:
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
    chosen = Chosen(pauses=between_listings(identities, request.interval, window, server_time))
    for symbol in wanted:
        if symbol not in ever:
            chosen.failures[symbol] = _unknown(symbol, named, left_out(universe))
        elif symbol in lives and symbol in named:
            chosen.listed[symbol] = Listed(*lives[symbol])
        elif symbol in lives:
            until = lives[symbol][1]
            chosen.gone[symbol] = (
                f"{symbol} traded until {until:%Y-%m-%d %H:%M} UTC, and the exchange does not name it "
                "any more: nothing of it can be fetched. Its stored candles stay."
            )
    return chosen


def _all_collected(universe: Mapping[str, Any]) -> dict[str, Listed]:
    """The symbols that `all` means now.

    Raises:
        SymbolError: there are none. An empty list would wrongly mean that there is nothing to do: the
            exchange's list may be incomplete for a time.
    """
    found = collected_now(universe, "all")
    if not found:
        raise SymbolError(
            f"PIPELINE_SYMBOLS is `all`, and of the {len(universe['symbols'])} symbols that the exchange "
            f"lists none is a USDT perpetual on a coin that trades ({len(left_out(universe))} entries "
            "could not be read). Nothing was fetched. Repeat the run once the exchange lists them again."
        )
    return found


def _unknown(symbol: str, known: Collection[str], odd: Mapping[str, str]) -> str:
    if symbol in odd:
        return f"The exchange's entry of {symbol} cannot be read: {odd[symbol]}."
    meant = meant_symbol(symbol, known)
    return f"{symbol} is not on the exchange" + (f"; did you mean {meant}?" if meant else ".")


def _universe(
    client: "ExchangeClient", store: "ObjectStore", server_time: datetime
) -> dict[str, Any]:
    """The universe as ticks take it: as last seen, if that is not long ago."""
    held = read_universe(store)
    age = server_time - from_milliseconds(held["seen_ms"]) if held else _UNIVERSE_AGE
    if held is None or not timedelta(0) <= age < _UNIVERSE_AGE:
        held, _ = look(client, store, server_time)
    return held
