"""Small JSON documents on the lake: what the last tick stored, which days are sealed, the universe
as last seen and all that was ever listed, which minutes were never evaluated. Candles are in
candle_objects.py; how a document is read, checked and changed is in lake_documents.py.
"""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from pipeline_assets.market.intervals import Interval, from_milliseconds, to_milliseconds
from pipeline_assets.market.windows import Window, without
from pipeline_assets.resources.candle_objects import WrittenObject, list_objects, window_start
from pipeline_assets.resources.lake_documents import (
    day_of_key,
    encoded,
    good_entries,
    read_json,
    require,
    update_json,
    utc_time,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.universe import Listing
from pipeline_assets.settings import is_symbol

# A kind of disagreement with the archive: what a file lacked while the exchange could not be asked for it.
UNFILLED_HOLE = "hole that the exchange was not asked about"
Note = Callable[[str], None]


@dataclass(frozen=True)
class TickState:
    """What the ticks of an interval have stored: per symbol the newest open time, and the ETags of
    the objects that the next tick will write again.
    """

    newest: Mapping[str, datetime] = field(default_factory=dict)
    etags: Mapping[str, str] = field(default_factory=dict)

    def after(self, written: Iterable[WrittenObject], collected: Container[str]) -> "TickState":
        """The state once a tick has stored these objects; symbols no longer collected are forgotten."""
        rewritten = list(written)
        newest = {symbol: at for symbol, at in self.newest.items() if symbol in collected}
        for each in rewritten:
            newest[each.symbol] = max(each.newest, newest.get(each.symbol, each.newest))
        # The next tick writes these objects again or new ones; ETags of older ones only take room.
        symbols = {each.symbol for each in rewritten}
        kept = {
            key: etag
            for key, etag in self.etags.items()
            if (symbol := key.split("/")[2]) in collected and symbol not in symbols
        }
        return TickState(newest, kept | {each.key: each.etag for each in rewritten})


def _state_key(interval: Interval) -> str:
    return f"state/{interval}.json"


def read_tick_state(
    store: ObjectStore, interval: Interval, symbols: Iterable[str], today: date
) -> TickState:
    """The state that the last tick left; rebuilt by listing the open day where it is missing or wrong.

    Of a state that is right but for some symbols, these alone are rebuilt.
    """
    held = read_json(store, _state_key(interval), partial(_clean_state, interval, today))
    if held is None:
        return _rebuilt(store, interval, symbols, today)
    newest = {symbol: utc_time(moment) for symbol, moment in held["newest"].items()}
    lost = [symbol for symbol in symbols if symbol in held["left out"]]
    if lost:
        newest |= _rebuilt(store, interval, lost, today).newest
    return TickState(newest, held["etags"])


def _clean_state(interval: Interval, today: date, held: Any, note: Note) -> dict[str, Any]:
    """The state with the symbols whose newest open time can be right; `left out` names the others."""

    def check_time(symbol: str, text: Any) -> None:
        moment = utc_time(text)
        if interval.floor(moment) != moment:
            raise ValueError(f"{text} is no open time of {interval}")
        # The clock of the caller may be of the last minute of the day before.
        if moment.date() > today + timedelta(days=1):
            raise ValueError(f"{text} is to come")

    def check_etag(key: str, etag: Any) -> None:
        require(etag, str)
        if window_start(key) is None:
            raise ValueError("it is not the key of a candle object")

    newest = good_entries(held["newest"], check_time, note, "newest of")
    etags = good_entries(held["etags"], check_etag, note, "ETag of")
    return {
        "newest": newest,
        # An object may be replaced unread only if it is known how far it is stored.
        "etags": {key: etag for key, etag in etags.items() if key.split("/")[2] in newest},
        "left out": held["newest"].keys() - newest.keys(),
    }


def write_tick_state(store: ObjectStore, interval: Interval, state: TickState) -> None:
    """Keep the state; the last write of a tick, so a crash before it only makes the next read more."""
    held = {
        "newest": {symbol: moment.isoformat() for symbol, moment in sorted(state.newest.items())},
        "etags": dict(sorted(state.etags.items())),
    }
    store.put(_state_key(interval), encoded(held))


def _rebuilt(
    store: ObjectStore, interval: Interval, symbols: Iterable[str], today: date
) -> TickState:
    from pipeline_assets.market.windows import day_window

    window = day_window(today)

    def look(symbol: str) -> tuple[str, list[datetime]]:
        stored = list_objects(store, interval, symbol, window.start, window.end)
        return symbol, [window_start(each.key) or window.start for each in stored]

    # How far the newest object reaches is unknown without opening it: it is read once more whole,
    # and joined, for which no ETag is needed.
    return TickState(
        {
            symbol: max(starts) - interval.span
            for symbol, starts in store.each(look, list(symbols))
            if starts
        }
    )


def _sealed_key(interval: Interval, day: date) -> str:
    return f"state/sealed/{interval}/{day:%Y%m%d}.json"


class Absence(StrEnum):
    """What is known of candles that a sealed day lacks.

    CONFIRMED: the exchange said, asked for them alone, that it has none.
    SET_ASIDE: a row came for each that cannot be a candle.
    INVALID: the exchange gave the same such row again when another run asked: it has no better one.
    UNCONFIRMED: they did not come, and nothing more is known.
    """

    CONFIRMED = "confirmed"
    SET_ASIDE = "set_aside"
    INVALID = "invalid"
    UNCONFIRMED = "unconfirmed"


# The same answer to another run, so much later, is what the exchange has; the third repair comes after two
# hours.
STABLE_AFTER = timedelta(hours=2)
# What no fetch can bring.
_SETTLED = (Absence.CONFIRMED, Absence.INVALID)


@dataclass(frozen=True)
class Rejected:
    """Rows that came in the place of candles and cannot be any.

    Attributes:
        window: the candles.
        reason: why the first of the rows was rejected.
        digest: of the rows as received: the same rows have the same one.
        run: the run that received the rows first.
        at: when that was, by the exchange's time, UTC.
    """

    window: Window
    reason: str
    digest: str
    run: str
    at: datetime

    def to_facts(self) -> list[str]:
        """The rows as JSON-serialisable values."""
        start, end = self.window.start.isoformat(), self.window.end.isoformat()
        return [start, end, self.reason, self.digest, self.run, self.at.isoformat()]

    @classmethod
    def from_facts(cls, facts: Sequence[str]) -> "Rejected":
        """The rows that `to_facts` described."""
        start, end, reason, digest, run, at = facts
        moment = datetime.fromisoformat
        return cls(Window(moment(start), moment(end)), reason, digest, run, moment(at))


@dataclass(frozen=True)
class SealedDay:
    """A finished day of one symbol as it was when it was sealed.

    Attributes:
        etag: of the day's object; None where there is no candle to store.
        missing: the spans of candles that should exist and do not, in order of time, with what is
            known of each.
        judged: the part of the day in which the symbol traded, as was known then; None: all of it.
            An onboard date may move to an earlier time, and a delivery be postponed.
        rejected: the rows that came in the place of candles that are missing.
    """

    etag: str | None
    missing: tuple[tuple[Window, Absence], ...] = ()
    judged: Window | None = None
    rejected: tuple[Rejected, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing can be missing that the exchange has."""
        return not self.to_fetch

    @property
    def to_fetch(self) -> list[Window]:
        """The spans that a fetch may bring: what is confirmed not to exist is not missing."""
        return [span for span, absence in self.missing if absence not in _SETTLED]

    def covers(self, due: Window) -> bool:
        """Whether all of this part of the day was judged."""
        return self.judged is None or not without(due, [self.judged])

    @property
    def etags(self) -> list[str]:
        """Of all objects that the day may have, if it is as it was."""
        return [] if self.etag is None else [self.etag]

    def to_facts(self) -> dict[str, Any]:
        """The mark as JSON-serialisable values."""
        missing = [
            [window.start.isoformat(), window.end.isoformat(), absence.value]
            for window, absence in self.missing
        ]
        facts: dict[str, Any] = {"etag": self.etag, "missing": missing}
        if self.judged is not None:
            facts["judged"] = [self.judged.start.isoformat(), self.judged.end.isoformat()]
        if self.rejected:
            facts["rejected"] = [each.to_facts() for each in self.rejected]
        return facts

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "SealedDay":
        """The mark that `to_facts` described."""
        moment = datetime.fromisoformat
        missing = (
            (Window(moment(start), moment(end)), _absence(told))
            for start, end, told in facts["missing"]
        )
        # Earlier versions kept no span: their marks are of the whole day.
        judged = facts.get("judged")
        span = Window(moment(judged[0]), moment(judged[1])) if judged else None
        # Nor what the rejected rows were.
        rejected = tuple(map(Rejected.from_facts, facts.get("rejected", ())))
        return cls(facts["etag"], tuple(missing), span, rejected)


def _absence(told: str | bool) -> Absence:
    """What a mark says of a span; earlier versions only kept whether the exchange confirmed it."""
    if isinstance(told, bool):
        return Absence.CONFIRMED if told else Absence.UNCONFIRMED
    return Absence(told)


def read_sealed(store: ObjectStore, interval: Interval, day: date) -> dict[str, SealedDay]:
    """The finished day's marks by symbol; empty if nothing of it is sealed, or the document is damaged.

    A day without a mark is judged by its objects' rows, and a backfill fetches and marks it again.
    """
    held = read_json(store, _sealed_key(interval, day), _clean_marks) or {}
    return {symbol: SealedDay.from_facts(facts) for symbol, facts in held.items()}


def sealed_symbols(store: ObjectStore, interval: Interval, day: date) -> frozenset[str]:
    """The symbols whose finished day is sealed."""
    return frozenset(read_sealed(store, interval, day))


def mark_sealed(
    store: ObjectStore, interval: Interval, day: date, sealed: Mapping[str, SealedDay]
) -> None:
    """Mark a finished day of some symbols as sealed; written after the day's objects.

    Idempotent, and safe beside other runs that seal other symbols of the day: marks replace those
    of the same symbols, upon the document that was read. Of two runs that seal the same symbol the
    later mark stays; if its ETag is not the object's, the day only passes for incomplete. Where there
    is nothing to mark nothing is written: a day that has a document passes for sealed.
    """
    if not sealed:
        return
    added = {symbol: mark.to_facts() for symbol, mark in sealed.items()}
    update_json(
        store,
        _sealed_key(interval, day),
        _clean_marks,
        lambda held: dict(sorted({**(held or {}), **added}.items())),
    )


def _clean_marks(held: Any, note: Note) -> dict[str, Any]:
    """The marks that can be read; the list of symbols of earlier versions says nothing of an object."""
    if isinstance(held, list):
        for symbol in held:
            require(symbol, str)
        held = dict.fromkeys(held, SealedDay("").to_facts())

    def check(_: str, facts: Any) -> None:
        if SealedDay.from_facts(facts).etag is not None:
            require(facts["etag"], str)

    return good_entries(held, check, note)


def sealed_days(store: ObjectStore, interval: Interval) -> list[date]:
    """The days that have been sealed for some symbol, ascending."""
    return _documented_days(store, f"state/sealed/{interval}/")


@dataclass(frozen=True)
class EmptyAnswer:
    """The exchange's first answer that it has no candle of a symbol in a finished day.

    Attributes:
        asked: the part of the day in which the symbol traded, as was known then.
        run: the run that got the answer.
        at: when that was, by the exchange's time, UTC.
    """

    asked: Window
    run: str
    at: datetime

    def repeated_by(self, other: "EmptyAnswer") -> bool:
        """Whether another run got the same answer, long enough after this one."""
        covered = not without(other.asked, [self.asked])
        return covered and other.run != self.run and other.at - self.at >= STABLE_AFTER

    def to_facts(self) -> list[str]:
        """The answer as JSON-serialisable values."""
        start, end = self.asked.start.isoformat(), self.asked.end.isoformat()
        return [start, end, self.run, self.at.isoformat()]

    @classmethod
    def from_facts(cls, facts: Sequence[str]) -> "EmptyAnswer":
        """The answer that `to_facts` described."""
        start, end, run, at = facts
        require(run, str)
        return cls(Window(utc_time(start), utc_time(end)), run, utc_time(at))


_EMPTY_ANSWERS = "state/empty_answers/"


def _empty_answers_key(interval: Interval, day: date) -> str:
    return f"{_EMPTY_ANSWERS}{interval}/{day:%Y%m%d}.json"


def note_empty_answers(
    store: ObjectStore, interval: Interval, day: date, answers: Mapping[str, EmptyAnswer]
) -> dict[str, EmptyAnswer]:
    """Remember the first empty answers of a day by symbol; returns the first ones of these symbols.

    Idempotent, and safe beside other runs. A first answer stays, unless it was of a shorter part of the
    day. A document that is lost or damaged is begun again, so that the day is believed later only.
    """

    def change(held: Any) -> Any:
        known = {symbol: EmptyAnswer.from_facts(facts) for symbol, facts in (held or {}).items()}
        for symbol, answer in answers.items():
            first = known.get(symbol)
            if first is None or without(answer.asked, [first.asked]):
                known[symbol] = answer
        return {symbol: each.to_facts() for symbol, each in sorted(known.items())}

    key = _empty_answers_key(interval, day)
    held = update_json(store, key, _clean_empty_answers, change)
    return {symbol: EmptyAnswer.from_facts(held[symbol]) for symbol in answers}


def forget_empty_answers(store: ObjectStore, interval: Interval, days: Container[date]) -> None:
    """Forget the empty answers of days of which candles came after all. May be repeated."""
    prefix = f"{_EMPTY_ANSWERS}{interval}/"
    held = [day for day in _documented_days(store, prefix) if day in days]
    if held:
        store.delete([_empty_answers_key(interval, day) for day in held])


def _clean_empty_answers(held: Any, note: Note) -> dict[str, Any]:
    return good_entries(held, lambda _, facts: EmptyAnswer.from_facts(facts), note)


def _documented_days(store: ObjectStore, prefix: str) -> list[date]:
    return [day for each in store.objects(prefix) if (day := day_of_key(each.key, prefix, ".json"))]


def _disagreements_key(interval: Interval, day: date) -> str:
    return f"state/archive_disagreements/{interval}/{day:%Y%m%d}.json"


def disagreement_days(store: ObjectStore, interval: Interval) -> list[date]:
    """The days of which disagreements with the archive are recorded, ascending."""
    return _documented_days(store, f"state/archive_disagreements/{interval}/")


def keep_disagreements(
    store: ObjectStore,
    interval: Interval,
    day: date,
    looked_at: Container[str],
    found: Mapping[str, list[dict[str, Any]]],
) -> None:
    """Record where the archive says otherwise than the exchange about a day.

    Idempotent, and safe beside other runs: what was found replaces what was known of the symbols
    that were looked at, and of no other. A day without disagreements has no object.
    """

    def change(held: Any) -> Any:
        others = {symbol: each for symbol, each in (held or {}).items() if symbol not in looked_at}
        changed = dict(sorted({**others, **found}.items()))
        return held if changed == (held or {}) else changed

    update_json(store, _disagreements_key(interval, day), _clean_disagreements, change)


def _clean_disagreements(held: Any, note: Note) -> dict[str, Any]:
    def check(_: str, records: Any) -> None:
        require(records, list)
        for record in records:
            require(record["kind"], str)
            require(record["count"], int)
            utc_time(record["first"])
            utc_time(record["last"])

    return good_entries(held, check, note)


def read_disagreements(
    store: ObjectStore, interval: Interval, day: date
) -> dict[str, list[dict[str, Any]]]:
    """By symbol where the archive says otherwise than the exchange about a day.

    Each is `kind`, `first` and `last` open time (ISO 8601, UTC), `count`, and for a file that was
    refused `why`.
    """
    return read_json(store, _disagreements_key(interval, day), _clean_disagreements) or {}


_UNIVERSE_KEY = "state/universe.json"


def _zero_volume_key(day: date) -> str:
    return f"state/zero_volume/{day:%Y%m%d}.json"


def zero_volume_days(store: ObjectStore) -> list[date]:
    """The days that were checked for false zero volume, ascending."""
    return _documented_days(store, "state/zero_volume/")


def keep_zero_volume(store: ObjectStore, day: date, symbols: Iterable[str]) -> None:
    """Record the symbols with a false run without volume on a day; a repeat replaces the record.

    A day without such runs has a record too, which says that the day was checked.
    """
    store.put(_zero_volume_key(day), encoded(sorted(symbols)))


def read_zero_volume(store: ObjectStore, day: date) -> list[str] | None:
    """Return the symbols that had a false run without volume when the day was checked.

    None if the day was not checked, or its record is damaged: nothing is known of it then. A record with
    one wrong entry is damaged as a whole, since that entry may be any symbol.
    """
    found: list[str] | None = read_json(store, _zero_volume_key(day), _clean_symbols)
    return found


def _clean_symbols(held: Any, _: Note) -> list[str]:
    require(held, list)
    for symbol in held:
        require(symbol, str)
        if not is_symbol(symbol):
            raise ValueError(f"{symbol!r} is not a symbol")
    return list(held)


def read_universe(store: ObjectStore) -> dict[str, Any] | None:
    """The universe as last seen on the exchange; None if nobody looked, or the document is damaged.

    A symbol whose entry is wrong is left out until the next look, which ingest runs make after minutes.
    """
    return read_json(store, _UNIVERSE_KEY, _clean_universe)


def _clean_universe(held: Any, note: Note) -> dict[str, Any]:
    if unknown := held.keys() - {"seen_ms", "symbols", "left_out"}:
        raise ValueError(f"it has unknown names: {sorted(unknown)}")
    require(held["seen_ms"], int)
    from_milliseconds(held["seen_ms"])

    def check(_: str, entry: Any) -> None:
        since, until, status, by_all = entry
        for each in (since, until) if until is not None else (since,):
            require(each, int)
            from_milliseconds(each)
        require(status, str)
        require(by_all, bool)

    def check_fault(_: str, fault: Any) -> None:
        require(fault, str)

    return {
        **held,
        "symbols": good_entries(held["symbols"], check, note),
        # Earlier versions kept none.
        "left_out": good_entries(held.get("left_out", {}), check_fault, note, "left out"),
    }


def write_universe(store: ObjectStore, universe: Mapping[str, Any]) -> None:
    """Keep the universe as seen; a repeat replaces it whole."""
    store.put(_UNIVERSE_KEY, encoded(universe))


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


_LISTINGS_KEY = "state/listings.json"


def read_identities(store: ObjectStore) -> list[Identity]:
    """Every identity that was ever noted, sorted by symbol and onboard date.

    Of a damaged document none: the next look at the exchange notes again what is listed then, and what
    was delisted before is in the copy under `damaged/` only.
    """
    return _identities(read_json(store, _LISTINGS_KEY, _clean_listings) or {})


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

    def change(held: Any) -> Any:
        known: dict[str, list[Identity]] = {}
        for each in _identities(held or {}):
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
        return _listings_document(noted)

    return _identities(update_json(store, _LISTINGS_KEY, _clean_listings, change))


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

    def change(held: Any) -> Any:
        return _listings_document(
            replace(each, first_candle=first, asked_at=each.hint)
            if (first := found.get((each.symbol, each.onboard_date)))
            else each
            for each in _identities(held or {})
        )

    return _identities(update_json(store, _LISTINGS_KEY, _clean_listings, change))


def _clean_listings(held: Any, note: Note) -> dict[str, Any]:
    def check(symbol: str, listings: Any) -> None:
        require(listings, list)
        for each in listings:
            onboard, delivery, by_all, first, last, *optional = each
            require(by_all, bool)
            # Earlier versions knew of no first candle.
            if len(optional) not in (1, 4):
                raise ValueError(f"it has {len(each)} values")
            known = [moment for moment in optional if moment is not None]
            for moment in (onboard, delivery, first, last, *known):
                require(moment, int)
        _identities({symbol: listings})

    return good_entries(held, check, note)


def _identities(held: Mapping[str, Any]) -> list[Identity]:
    moment = from_milliseconds

    def optional(value: int | None) -> datetime | None:
        return None if value is None else moment(value)

    return [
        Identity(
            symbol,
            moment(onboard),
            moment(delivery),
            by_all,
            moment(first),
            moment(last),
            optional(gone),
            # Earlier versions knew of no first candle.
            *map(optional, rest),
        )
        for symbol, listings in held.items()
        for onboard, delivery, by_all, first, last, gone, *rest in listings
    ]


def _listings_document(identities: Iterable[Identity]) -> dict[str, list[list[Any]]]:
    """By symbol its identities, as the attributes of `Identity` after the symbol; times in ms."""

    def optional(value: datetime | None) -> int | None:
        return None if value is None else to_milliseconds(value)

    document: dict[str, list[list[Any]]] = {}
    for each in sorted(identities, key=lambda each: (each.symbol, each.onboard_date)):
        document.setdefault(each.symbol, []).append(
            [
                to_milliseconds(each.onboard_date),
                to_milliseconds(each.delivery_date),
                each.collected_by_all,
                to_milliseconds(each.first_seen),
                to_milliseconds(each.last_seen),
                optional(each.gone),
                optional(each.first_candle),
                optional(each.corrected),
                optional(each.asked_at),
            ]
        )
    return document


@dataclass(frozen=True)
class Evaluation:
    """Which minutes the candidate sensor has evaluated, as far as it is not all of them.

    Attributes:
        since: by symbol, the first minute that was evaluated.
        strategies: by name and version of a strategy, the first minute it was evaluated on.
        skipped: by symbol, spans of minutes that were never evaluated, because they were too old
            when the sensor came to them.
    """

    since: Mapping[str, datetime]
    strategies: Mapping[str, datetime]
    skipped: Mapping[str, Sequence[Window]]


_EVALUATION_KEY = "state/candidates.json"
_NOTHING_EVALUATED: dict[str, Any] = {"since": {}, "strategies": {}, "skipped": {}}


def read_evaluation(store: ObjectStore) -> Evaluation:
    """What `note_evaluation` has noted."""
    held = read_json(store, _EVALUATION_KEY, _clean_evaluation) or _NOTHING_EVALUATED
    moment = datetime.fromisoformat
    return Evaluation(
        {symbol: moment(since) for symbol, since in held["since"].items()},
        {name: moment(since) for name, since in held["strategies"].items()},
        {
            symbol: [Window(moment(start), moment(end)) for start, end in spans]
            for symbol, spans in held["skipped"].items()
        },
    )


def note_evaluation(
    store: ObjectStore,
    *,
    since: Mapping[str, datetime] | None = None,
    strategies: Mapping[str, datetime] | None = None,
    skipped: Mapping[str, Window] | None = None,
) -> None:
    """Note the first minute of symbols and strategies, where none is noted, and skipped minutes.

    Idempotent, and safe beside another sensor: written only upon what was read.
    """

    def first(added: Mapping[str, datetime] | None, held: Mapping[str, str]) -> dict[str, str]:
        return {name: moment.isoformat() for name, moment in (added or {}).items()} | dict(held)

    def change(held: Any) -> Any:
        held = held or _NOTHING_EVALUATED
        spans = {symbol: list(each) for symbol, each in held["skipped"].items()}
        for symbol, window in (skipped or {}).items():
            span = [window.start.isoformat(), window.end.isoformat()]
            # Nothing is skipped before a symbol's first minute.
            if symbol in held["since"] and span not in spans.get(symbol, []):
                spans.setdefault(symbol, []).append(span)
        return {
            "since": first(since, held["since"]),
            "strategies": first(strategies, held["strategies"]),
            "skipped": spans,
        }

    update_json(store, _EVALUATION_KEY, _clean_evaluation, change)


def _clean_evaluation(held: Any, note: Note) -> dict[str, Any]:
    def check_time(_: str, text: Any) -> None:
        utc_time(text)

    def check_spans(_: str, spans: Any) -> None:
        require(spans, list)
        for start, end in spans:
            Window(utc_time(start), utc_time(end))

    return {
        "since": good_entries(held["since"], check_time, note, "since of"),
        "strategies": good_entries(held["strategies"], check_time, note, "strategy"),
        "skipped": good_entries(held["skipped"], check_spans, note, "skipped of"),
    }
