"""Listings as remembered on the lake: which symbols are collected, now or earlier, and when each trades.
The exchange is asked in listing_look.py, a run's windows are planned in planning.py.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pipeline_assets.errors import DataError
from pipeline_assets.market.intervals import Interval, from_milliseconds
from pipeline_assets.market.windows import Window, bounding_window, without
from pipeline_assets.resources.identity import Identity
from pipeline_assets.resources.listing_history import read_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings

TRADING = "TRADING"
_SMALLEST = timedelta(microseconds=1)


class NothingListedError(DataError):
    """The exchange's list of symbols has not been stored yet. The message says how to store it."""


@dataclass(frozen=True)
class Listed:
    """When a symbol trades: from `listed_at`, until `delisted_at` if that has come; UTC."""

    listed_at: datetime
    delisted_at: datetime | None = None

    def clip(self, interval: Interval, window: Window) -> Window | None:
        """Return the part of a window in which the symbol can have candles, or None."""
        start = max(window.start, interval.floor(self.listed_at))
        end = window.end
        if self.delisted_at is not None:
            # The last candle is the one that trading ended in, so the part ends after it.
            end = min(end, interval.floor(self.delisted_at - _SMALLEST) + interval.span)
        return Window(start, end) if start < end else None


def left_out(universe: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the entries of exchangeInfo that could not be read at the last look, each with its fault."""
    # Earlier versions kept none.
    return dict((universe or {}).get("left_out", {}))


def listed_symbols(
    universe: Mapping[str, Any], server_time: datetime
) -> dict[str, tuple[Listed, str, bool]]:
    """Return by symbol when it trades, its status, whether `all` collects it now.

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
    """Return the symbols that ingest runs collect, and when they trade, by the universe as last seen.

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
    """Return every symbol of the settings that trades, or traded, within a window: since and until when.

    With `all`, every symbol that it collects or would have collected then, also those that have
    been delisted. A symbol that was never seen on the exchange is not included.

    Args:
        store: the lake, which remembers what was listed.
        settings: of which `symbols` counts.
        window: UTC.
        server_time: the exchange's time, UTC; an end of trading beyond it has not come.

    Returns:
        By symbol, sorted, when its trading began and when it ended (UTC; None while it goes on). For a
        symbol that was listed anew within the window, from the first beginning to the last end.

    Raises:
        NothingListedError: the list was never stored, so the symbols that are due are unknown.
        ObjectStoreError: the lake does not answer.
    """
    identities = read_identities(store)
    if not identities:
        raise NothingListedError(
            f"The exchange's list of symbols is not known yet: {store.address('state/listings.json')} is not "
            "there. Materialize `universe` (of any day), which asks the exchange, then repeat the run."
        )
    return lifetimes(collected_identities(identities, settings.symbols), window, server_time)


def collected_identities(
    identities: Iterable[Identity], symbols: Container[str] | Literal["all"]
) -> list[Identity]:
    """Return the identities that the symbols of the settings mean."""
    return [
        each
        for each in identities
        if (each.collected_by_all if symbols == "all" else each.symbol in symbols)
    ]


def lifetimes(
    identities: Iterable[Identity], window: Window, server_time: datetime
) -> dict[str, tuple[datetime, datetime | None]]:
    """Return by symbol from when until when these trade, if that touches the window; sorted."""
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
    """Return by symbol that was listed anew where in a window it had ended and not yet begun again.

    `lifetimes` has one span a symbol: this is what of that span no identity traded in.
    """
    traded: dict[str, list[Window]] = {}
    for each in identities:
        life = Listed(each.listed_at, each.delisted_at(server_time)).clip(interval, window)
        if life is not None:
            traded.setdefault(each.symbol, []).append(life)
    pauses = {symbol: without(bounding_window(lives), lives) for symbol, lives in traded.items()}
    return {symbol: pause for symbol, pause in pauses.items() if pause}


def forgotten(identities: Iterable[Identity]) -> set[str]:
    """Return the symbols that the exchange no longer named at the last look: it serves no candle of them."""
    known = list(identities)
    return {each.symbol for each in known} - {each.symbol for each in known if each.gone is None}
