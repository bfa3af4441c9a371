"""What the exchange lists, which of it is collected, now and at other times, and when each symbol trades.

The exchange's onboard date is a hint; the first candle decides, once it is known (`learn_first_candles`).
What a run fetches of a symbol is decided in collection/planning.py, what is missing of it in coverage.py.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from pipeline_assets.errors import DataError
from pipeline_assets.market.intervals import EPOCH, Interval, from_milliseconds, to_milliseconds
from pipeline_assets.market.windows import Window, hull, without
from pipeline_assets.resources.listing_history import (
    Identity,
    note_first_candles,
    note_identities,
    read_identities,
    write_universe,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.universe import trading_symbols
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from pipeline_assets.resources.exchange import ExchangeClient
    from pipeline_assets.resources.universe import Listing, Listings

TRADING = "TRADING"
_MINUTE = Interval.ONE_MINUTE.span
# A delivered contract may be shown as trading for some minutes.
_STATUS_LAG = timedelta(hours=1)
# What the exchange says of a perpetual whose end is not announced.
_NO_END = datetime(2100, 12, 25, 8, tzinfo=UTC)
_SMALLEST = timedelta(microseconds=1)


class NothingListedError(DataError):
    """Nobody has looked yet at what the exchange lists. The message says how to look."""


@dataclass(frozen=True)
class Listed:
    """When a symbol trades: from `listed_at`, until `delisted_at` if that has come; UTC."""

    listed_at: datetime
    delisted_at: datetime | None = None

    def clip(self, interval: Interval, window: Window) -> Window | None:
        """The part of a window in which the symbol can have candles, or None."""
        start = max(window.start, interval.floor(self.listed_at))
        end = window.end
        if self.delisted_at is not None:
            # The last candle is the one that trading ended in, so the part ends after it.
            end = min(end, interval.floor(self.delisted_at - _SMALLEST) + interval.span)
        return Window(start, end) if start < end else None


def look(
    client: "ExchangeClient", store: ObjectStore, server_time: datetime
) -> tuple[dict[str, Any], list[Identity]]:
    """Ask the exchange what it lists, and keep it: as last seen, and in the memory of all listings.

    May be repeated, and beside other observers. An entry that cannot be read is left out and named; a
    symbol that is known from before goes on as it was.

    Returns:
        The document that `read_universe` reads, and every identity that is remembered now.

    Raises:
        ExchangeError: the exchange lists nothing that can be read.
        ExchangeUnreachableError: no answer within the patience.
        ObjectStoreError: the lake does not answer.
    """
    listings = client.universe()
    listings = replace(
        listings, valid=[_without_wrong_end(each, server_time) for each in listings.valid]
    )
    # The memory first: what the last look shows is in it, whenever a run is killed.
    identities = note_identities(store, listings.valid, server_time, listings.left_out)
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
    """The document of what the exchange lists now."""
    collected = set(trading_symbols(listings.valid))
    # In the order of time: of a symbol that was listed anew the last one counts.
    lives = {each.symbol: each for each in identities}
    now_ms = to_milliseconds(server_time)
    symbols = {
        each.symbol: [
            # What trades now has begun, whatever date the exchange gives.
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
    return {
        "seen_ms": now_ms,
        "symbols": symbols,
        "left_out": listings.left_out,
    }


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


def left_out(universe: Mapping[str, Any] | None) -> dict[str, str]:
    """The entries of exchangeInfo that could not be read when somebody looked last, each with its fault."""
    # Earlier versions kept none.
    return dict((universe or {}).get("left_out", {}))


def listed_symbols(
    universe: Mapping[str, Any], server_time: datetime
) -> dict[str, tuple[Listed, str, bool]]:
    """By symbol: when it trades, its status, whether `all` collects it now.

    Args:
        universe: the document that `write_universe` stored.
        server_time: the exchange's time, UTC; a delivery date beyond it has not come.
    """
    found: dict[str, tuple[Listed, str, bool]] = {}
    for symbol, (since, until, status, collected_by_all) in universe["symbols"].items():
        ended = from_milliseconds(until) if until is not None else None
        # A perpetual's delivery date is a day in 2100 until its delisting is announced.
        delisted = ended if ended and ended <= server_time else None
        found[symbol] = (Listed(from_milliseconds(since), delisted), status, collected_by_all)
    return found


def collected_now(
    universe: Mapping[str, Any] | None, symbols: Container[str] | Literal["all"]
) -> dict[str, Listed]:
    """The symbols that ticks collect, and when they trade, by the universe as last seen.

    Args:
        universe: the document that `write_universe` stored; None where nothing was seen yet.
        symbols: those of the settings.
    """
    if universe is None:
        return {}
    listed = listed_symbols(universe, from_milliseconds(universe["seen_ms"]))
    return {
        symbol: times
        for symbol, (times, status, by_all) in listed.items()
        if (by_all if symbols == "all" else status == TRADING and symbol in symbols)
    }


def collected_lifetimes(
    store: ObjectStore, settings: Settings, window: Window, server_time: datetime
) -> dict[str, tuple[datetime, datetime | None]]:
    """Every symbol of the settings that trades, or traded, within a window: since and until when.

    With `all`, every symbol that it collects or would have collected then, also those that have
    been delisted. What was never seen on the exchange is not among them.

    Args:
        store: the lake, which remembers what was listed.
        settings: of which `symbols` counts.
        window: UTC.
        server_time: the exchange's time, UTC; an end of trading beyond it has not come.

    Returns:
        By symbol, sorted, when its trading began and when it ended (UTC; None while it goes on). Of
        a symbol that was listed anew within the window, from the first beginning to the last end.

    Raises:
        NothingListedError: nobody has looked yet; that no symbol is due would be wrong.
        ObjectStoreError: the lake does not answer.
    """
    identities = read_identities(store)
    if not identities:
        raise NothingListedError(
            f"What the exchange lists is not known yet: {store.address('state/listings.json')} is not "
            "there. Materialize `universe` (of any day), which asks the exchange, then repeat the run."
        )
    return lifetimes(collected_identities(identities, settings.symbols), window, server_time)


def collected_identities(
    identities: Iterable[Identity], symbols: Container[str] | Literal["all"]
) -> list[Identity]:
    """Those that the symbols of the settings mean."""
    return [
        each
        for each in identities
        if (each.collected_by_all if symbols == "all" else each.symbol in symbols)
    ]


def lifetimes(
    identities: Iterable[Identity], window: Window, server_time: datetime
) -> dict[str, tuple[datetime, datetime | None]]:
    """By symbol, from when until when these trade, if that touches the window; sorted."""
    found: dict[str, tuple[datetime, datetime | None]] = {}
    for each in sorted(identities, key=lambda each: (each.symbol, each.listed_at)):
        since, until = each.listed_at, each.delisted_at(server_time)
        # One that vanished before it began never traded.
        begins = since < window.end and (until is None or since < until)
        if begins and (until is None or window.start < until):
            first, last = found.get(each.symbol, (since, until))
            # An exchange that moves an onboard date leaves an identity that vanished and did not end.
            found[each.symbol] = (first, max(last, until) if last and until else None)
    return found


def between_listings(
    identities: Iterable[Identity], interval: Interval, window: Window, server_time: datetime
) -> dict[str, list[Window]]:
    """By symbol that was listed anew where in a window it had ended and not yet begun again.

    `lifetimes` has one span a symbol: this is what of that span no identity traded in.
    """
    traded: dict[str, list[Window]] = {}
    for each in identities:
        life = Listed(each.listed_at, each.delisted_at(server_time)).clip(interval, window)
        if life is not None:
            traded.setdefault(each.symbol, []).append(life)
    pauses = {symbol: without(hull(lives), lives) for symbol, lives in traded.items()}
    return {symbol: pause for symbol, pause in pauses.items() if pause}


def forgotten(identities: Iterable[Identity]) -> set[str]:
    """The symbols that the exchange did not name any more when somebody looked last: it serves no
    candle of them.
    """
    known = list(identities)
    return {each.symbol for each in known} - {each.symbol for each in known if each.gone is None}
