"""What the exchange lists, as last seen, and every listing that it ever showed.

How exchangeInfo is read is in universe.py; which symbols are collected is decided in collection/; how a
document is read and checked is in lake_documents.py.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
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
from pipeline_assets.resources.lake_documents import (
    DEFERRED,
    MillisecondTime,
    Symbol,
    left_out_alone,
    read_document,
    update_document,
    write_document,
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
    """The universe as last seen on the exchange; None if nobody looked, or the document is damaged.

    A symbol whose entry is wrong is left out until the next look, which ingest runs make after minutes.
    """
    held: dict[str, Any] | None = read_document(store, _UNIVERSE_KEY, _UNIVERSE)
    return held


def write_universe(store: ObjectStore, universe: Mapping[str, Any]) -> None:
    """Keep the universe as seen; a repeat replaces it whole."""
    write_document(store, _UNIVERSE_KEY, _UNIVERSE, dict(universe))


@dataclass(frozen=True)
class Identity:
    """One listing of a symbol, as the exchange showed it over time; times are UTC.

    A symbol that is delisted and listed again is two identities. A date that the exchange corrects
    makes no second one.

    Attributes:
        symbol: its name.
        onboard_date: when its trading began, or is to begin, as the exchange said first; a hint.
        delivery_date: when its trading ended, or is to end; in 2100 while no end is announced.
        collected_by_all: whether it is, or once was, one that the setting `all` collects.
        first_seen: the look that saw it first.
        last_seen: the latest look that saw it, rounded down to the hour.
        gone: the first look in which the exchange did not name it any more, or None while it does.
        first_candle: the open time of the first candle that the exchange served when asked from the end
            of the earlier listing on, or from time 0; None while nobody asked.
        corrected: the onboard date that the exchange says now, if it is another.
        asked_at: the onboard date that the exchange said when it was asked for the first candle.
    """

    symbol: str
    onboard_date: datetime
    delivery_date: datetime
    collected_by_all: bool
    first_seen: datetime
    last_seen: datetime
    gone: datetime | None = None
    first_candle: datetime | None = None
    corrected: datetime | None = None
    asked_at: datetime | None = None

    @property
    def hint(self) -> datetime:
        """The onboard date that the exchange says now."""
        return self.corrected or self.onboard_date

    @property
    def to_ask(self) -> bool:
        """Whether the first candle is to be asked for: not known, or the exchange moved the date since."""
        return self.first_candle is None or self.asked_at != self.hint

    @property
    def listed_at(self) -> datetime:
        """When its trading began: the first candle decides where it is known.

        A first candle after the listing's end is a later listing's: the exchange has none of this one.
        """
        known = self.first_candle
        return known if known is not None and known < self._end else self.onboard_date

    @property
    def _end(self) -> datetime:
        """When its trading ended at the latest, as far as is known."""
        if self.gone is None:
            return self.delivery_date
        return min(self.delivery_date, self.last_seen)

    def delisted_at(self, server_time: datetime) -> datetime | None:
        """When trading ended, as known at `server_time`; None while it goes on or is to begin.

        Of one that vanished without an announcement it is the last time that it was seen.
        """
        if self.delivery_date <= server_time:
            return self.delivery_date
        return self.last_seen if self.gone is not None and self.gone <= server_time else None

    def noticed(self, server_time: datetime) -> datetime | None:
        """When its end could be known first: what `delisted_at` tells was None before."""
        if self.delisted_at(server_time) is None:
            return None
        return min(self.delivery_date, self.gone or self.delivery_date)

    def is_listed_by(self, listing: Listing, seen_at: datetime) -> bool:
        """Whether an entry of exchangeInfo, seen at `seen_at`, is of this listing and not of a new one.

        A new one begins after the end of this one. Any other onboard date is a correction.
        """
        ended = self.delivery_date if self.delivery_date <= seen_at else self.last_seen
        traded = self.listed_at < ended
        return listing.onboard_date in (self.onboard_date, self.corrected) or not (
            traded and listing.onboard_date >= ended
        )

    def united(self, other: "Identity") -> "Identity":
        """Return the one listing that two identities of a corrected onboard date are."""
        kept, dropped = (other, self) if self.gone is not None else (self, other)
        return replace(
            kept,
            collected_by_all=kept.collected_by_all or dropped.collected_by_all,
            first_seen=min(kept.first_seen, dropped.first_seen),
            last_seen=max(kept.last_seen, dropped.last_seen),
        )


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
    """Every identity that was ever noted, sorted by symbol and onboard date.

    Of a damaged document none: the next look at the exchange notes again what is listed then, and what
    was delisted before is in the copy under `damaged/` only.
    """
    return _identities(read_document(store, _LISTINGS_KEY, _LISTINGS))


def note_identities(
    store: ObjectStore,
    listings: Iterable[Listing],
    seen_at: datetime,
    unreadable: Container[str] = (),
) -> list[Identity]:
    """Remember what the exchange lists, and what it lists no more; returns all that is remembered.

    Idempotent, and safe beside other observers: written only upon what was read, and only if a look
    tells something new; that everything is still there is told once an hour. One that is named
    again, after a look in which it was not, is as if it had never gone.

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
