"""The documents of the universe as last seen, and of every listing that the exchange ever showed. A listing
itself is in identity.py, exchangeInfo is read in universe.py, a document is checked in lake_documents.py.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from datetime import datetime
from typing import Annotated, Any, NotRequired

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    StrictBool,
    StrictInt,
    TypeAdapter,
)
from typing_extensions import TypedDict

from pipeline_assets.market.intervals import Interval, from_milliseconds
from pipeline_assets.resources.identity import Identity
from pipeline_assets.resources.lake_documents import (
    DEFERRED,
    MillisecondTime,
    Symbol,
    left_out_alone,
    read_document,
    update_document,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.universe import Listing

_UNIVERSE_KEY = "state/universe.json"
_LISTINGS_KEY = "state/listings.json"


def _moment(value: int) -> int:
    from_milliseconds(value)
    return value


_Moment = Annotated[StrictInt, AfterValidator(_moment)]


# Since, until, status, whether the setting `all` collects it.
_Symbol = Annotated[tuple[_Moment, _Moment | None, str, StrictBool], PlainSerializer(list)]


class _Universe(TypedDict):
    """The document of `write_universe`."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc] # as pydantic has it
    seen_ms: _Moment
    symbols: Annotated[dict[Symbol, _Symbol], left_out_alone()]
    left_out: NotRequired[Annotated[dict[str, str], left_out_alone("left out")]]


def _with_left_out(held: Any) -> Any:
    """Return the universe with the entries that could not be read; earlier versions kept none."""
    return {"left_out": {}, **held}


_UNIVERSE: TypeAdapter[Any] = TypeAdapter(Annotated[_Universe, BeforeValidator(_with_left_out)])


def read_universe(store: ObjectStore) -> dict[str, Any] | None:
    """Return the universe as last seen on the exchange; None if none was stored or the document is damaged.

    A symbol whose entry is wrong is left out until the next look, which ingest runs make after minutes.
    """
    held: dict[str, Any] | None = read_document(store, _UNIVERSE_KEY, _UNIVERSE)
    return held


def write_universe(store: ObjectStore, universe: Mapping[str, Any]) -> None:
    """Keep the universe as seen; a repeat replaces it whole."""
    update_document(store, _UNIVERSE_KEY, _UNIVERSE, lambda _: dict(universe))


def _with_first_candle(row: Any) -> Any:
    """Return a listing with the attributes of its first candle, of which earlier versions knew nothing."""
    return [*row, None, None, None] if len(row) == 6 else row


# The attributes of `Identity` after the symbol, in their order.
_Row = tuple[
    MillisecondTime,
    MillisecondTime,
    StrictBool,
    MillisecondTime,
    MillisecondTime,
    MillisecondTime | None,
    MillisecondTime | None,
    MillisecondTime | None,
    MillisecondTime | None,
]
_Rows = dict[Symbol, list[Annotated[_Row, BeforeValidator(_with_first_candle)]]]
_LISTINGS: TypeAdapter[_Rows] = TypeAdapter(Annotated[_Rows, left_out_alone()], config=DEFERRED)


def read_identities(store: ObjectStore) -> list[Identity]:
    """Return every identity that was ever noted, sorted by symbol and onboard date.

    Returns none if the document is damaged: the next look at the exchange notes again what is listed
    then. Symbols delisted before remain only in the copy under `damaged/`.
    """
    return _identities(read_document(store, _LISTINGS_KEY, _LISTINGS))


def note_identities(
    store: ObjectStore,
    listings: Iterable[Listing],
    seen_at: datetime,
    unreadable: Container[str] = (),
) -> list[Identity]:
    """Remember the symbols that the exchange lists, and the end of those it no longer lists.

    Idempotent, and safe beside other observers: written only if the document is unchanged since it was
    read, and only if something is new. If all symbols are still listed, this is written once an hour. A
    symbol that reappears after it was absent from one look counts as never gone.

    Args:
        store: the lake.
        listings: everything that the exchange lists, at `seen_at`; no symbol twice.
        seen_at: the exchange's time, UTC.
        unreadable: symbols whose entries could not be read: nothing new is known of these.
    """
    named = {each.symbol: each for each in listings}

    def change(held: _Rows | None) -> _Rows:
        known: dict[str, list[Identity]] = {}
        for each in _identities(held):
            known.setdefault(each.symbol, []).append(each)
        noted: list[Identity] = []
        for symbol in known.keys() | named.keys():
            lives, listing = known.get(symbol, []), named.get(symbol)
            if listing is not None:
                noted += _seen(_without_corrections(lives, seen_at), listing, seen_at)
            elif symbol in unreadable:
                noted += lives
            else:
                noted += [replace(each, gone=each.gone or seen_at) for each in lives]
        return _rows(noted)

    return _identities(update_document(store, _LISTINGS_KEY, _LISTINGS, change))


def _without_corrections(lives: Sequence[Identity], seen_at: datetime) -> list[Identity]:
    """Unite identities that overlap: earlier versions made two of a corrected onboard date."""
    found: list[Identity] = []
    for each in lives:
        ended = found[-1].delisted_at(seen_at) if found else None
        if found and (ended is None or each.onboard_date < ended):
            found[-1] = found[-1].united(each)
        else:
            found.append(each)
    return found


def _seen(lives: Sequence[Identity], listing: Listing, seen_at: datetime) -> list[Identity]:
    """Return a symbol's identities once the exchange named it."""
    ended = [replace(each, gone=each.gone or seen_at) for each in lives]
    last = lives[-1] if lives else None
    if last is None or not last.is_listed_by(listing, seen_at):
        new = Identity(
            listing.symbol,
            listing.onboard_date,
            listing.delivery_date,
            listing.collectable,
            seen_at,
            seen_at,
        )
        return [*ended, new]
    # One that has not begun yet may be postponed, or brought forward.
    begun = last.onboard_date <= last.last_seen
    onboard = last.onboard_date if begun else listing.onboard_date
    named = replace(
        last,
        onboard_date=onboard,
        corrected=listing.onboard_date if listing.onboard_date != onboard else None,
        delivery_date=listing.delivery_date,
        collected_by_all=listing.collectable or last.collected_by_all,
        last_seen=max(last.last_seen, Interval.ONE_HOUR.floor(seen_at)),
        gone=None,
    )
    return [*ended[:-1], named]


def note_first_candles(
    store: ObjectStore, found: Mapping[tuple[str, datetime], datetime]
) -> list[Identity]:
    """Remember the first candles of identities, by symbol and onboard date; returns all identities.

    Idempotent, and safe beside other observers. An identity that is not there any more is passed over.
    """

    def change(held: _Rows | None) -> _Rows:
        return _rows(
            replace(each, first_candle=first, asked_at=each.hint)
            if (first := found.get((each.symbol, each.onboard_date)))
            else each
            for each in _identities(held)
        )

    return _identities(update_document(store, _LISTINGS_KEY, _LISTINGS, change))


def _identities(held: _Rows | None) -> list[Identity]:
    return [Identity(symbol, *row) for symbol, rows in (held or {}).items() for row in rows]


def _rows(identities: Iterable[Identity]) -> _Rows:
    """Return the document of the identities, sorted."""
    document: _Rows = {}
    for each in sorted(identities, key=lambda each: (each.symbol, each.onboard_date)):
        symbol, *row = astuple(each)
        document.setdefault(symbol, []).append(tuple(row))
    return document
