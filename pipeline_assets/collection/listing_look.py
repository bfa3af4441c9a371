"""Ask the exchange what it lists, and since when a symbol has candles; keep the answers on the lake. The
conclusions from a listing are in listings.py.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline_assets.collection.listings import TRADING
from pipeline_assets.market.intervals import EPOCH, Interval, to_milliseconds
from pipeline_assets.resources.identity import Identity
from pipeline_assets.resources.listing_history import (
    note_first_candles,
    note_identities,
    write_universe,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.trading_documents import note_trading_rules
from pipeline_assets.resources.universe import trading_symbols

if TYPE_CHECKING:
    from pipeline_assets.resources.exchange import ExchangeClient
    from pipeline_assets.resources.universe import Listing, Listings

_MINUTE = Interval.ONE_MINUTE.span
# A delivered contract may be shown as trading for some minutes.
_STATUS_LAG = timedelta(hours=1)
# The end date that the exchange gives for a perpetual whose end is not announced.
_NO_END = datetime(2100, 12, 25, 8, tzinfo=UTC)


def look(
    client: "ExchangeClient", store: ObjectStore, server_time: datetime
) -> tuple[dict[str, Any], list[Identity]]:
    """Ask the exchange what it lists, and keep it: as last seen, in the memory of all listings, and the
    filters of orders at each change.

    May be repeated, and beside other observers. An entry that cannot be read is left out and named; a
    symbol that is already known keeps its stored entry.

    Returns:
        The document that `read_universe` reads, and every identity that is remembered now.

    Raises:
        ExchangeError: the exchange lists nothing that can be read.
        ExchangeUnreachableError: no answer within the deadline.
        ObjectStoreError: the lake does not answer.
    """
    listings = client.universe()
    listings = replace(
        listings, valid=[_without_wrong_end(each, server_time) for each in listings.valid]
    )
    # The memory first: what the last look shows is in it, whenever a run is killed.
    identities = note_identities(store, listings.valid, server_time, listings.left_out)
    note_trading_rules(store, listings.rules, server_time)
    universe = _universe(listings, identities, server_time)
    write_universe(store, universe)
    return universe, identities


def _without_wrong_end(listing: "Listing", server_time: datetime) -> "Listing":
    """Return the listing without a delivery date that its status contradicts: what trades has not ended."""
    wrong = listing.status == TRADING and listing.delivery_date < server_time - _STATUS_LAG
    return replace(listing, delivery_date=_NO_END) if wrong else listing


def _universe(
    listings: "Listings", identities: Iterable[Identity], server_time: datetime
) -> dict[str, Any]:
    """Return the document of what the exchange lists now."""
    collected = set(trading_symbols(listings.valid))
    # In the order of time: of a symbol that was listed anew the last one counts.
    lives = {each.symbol: each for each in identities}
    now_ms = to_milliseconds(server_time)
    symbols = {
        each.symbol: [
            # A symbol that trades now has begun, whatever date the exchange gives.
            min(to_milliseconds(lives[each.symbol].listed_at), now_ms)
            if each.status == TRADING
            else to_milliseconds(lives[each.symbol].listed_at),
            to_milliseconds(each.delivery_date),
            each.status,
            each.symbol in collected,
        ]
        for each in listings.valid
    }
    for symbol in lives.keys() & listings.left_out.keys() - symbols.keys():
        each = lives[symbol]
        if each.delisted_at(server_time) is None:
            ends = to_milliseconds(each.delivery_date)
            held = [to_milliseconds(each.listed_at), ends, TRADING, each.collected_by_all]
            symbols[symbol] = held
    return {"seen_ms": now_ms, "symbols": symbols, "left_out": listings.left_out}


def learn_first_candles(
    client: "ExchangeClient",
    store: ObjectStore,
    identities: Sequence[Identity],
    symbols: Container[str],
    server_time: datetime,
    *,
    again: bool = False,
) -> list[Identity]:
    """Ask for the first candle of each listing of which it is not known, and remember it.

    One request of weight 1 a listing, once, and again if the exchange moves the onboard date: from time
    0, or from the end of the symbol's earlier listing on. A symbol that fails, or has no candle yet,
    keeps the onboard date and is asked for by the next run.

    Args:
        client: of the exchange.
        store: the lake.
        identities: all that are remembered.
        symbols: of these only, as far as the exchange names them still.
        server_time: the exchange's time, UTC.
        again: ask for those too that are known.

    Returns:
        All identities as they are remembered then.

    Raises:
        ExchangeUnreachableError, ExchangeBannedError: as `ExchangeClient.klines`.
        ObjectStoreError: the lake does not answer.
    """
    lives: dict[str, list[Identity]] = {}
    for each in identities:
        lives.setdefault(each.symbol, []).append(each)
    asked: dict[tuple[str, datetime], datetime] = {}
    for symbol, own in lives.items():
        if symbol not in symbols or own[-1].gone is not None:
            continue
        start = EPOCH
        for each in own:
            if again or each.to_ask:
                asked[symbol, each.onboard_date] = start
            start = each.delisted_at(server_time) or server_time
    if not asked:
        return list(identities)
    answers = client.first_candles([(symbol, start) for (symbol, _), start in asked.items()])
    found = {
        key: first
        for (key, start), first in zip(asked.items(), answers, strict=True)
        if first is not None and start - _MINUTE <= first <= server_time
    }
    return note_first_candles(store, found) if found else list(identities)
