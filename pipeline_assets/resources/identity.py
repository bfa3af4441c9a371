"""One listing of a symbol: its dates, and when it trades by them. Listings are kept in listing_history.py."""

from dataclasses import dataclass, replace
from datetime import datetime

from pipeline_assets.resources.universe import Listing


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
            of the earlier listing on, or from time 0; None until the exchange is asked.
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
        """Return whether the first candle is unknown, or the exchange has moved the date since."""
        return self.first_candle is None or self.asked_at != self.hint

    @property
    def listed_at(self) -> datetime:
        """Return when its trading began: the first candle decides where it is known.

        A first candle after the listing's end is a later listing's: the exchange has none of this one.
        """
        known = self.first_candle
        return known if known is not None and known < self._end else self.onboard_date

    @property
    def _end(self) -> datetime:
        """Return when its trading ended at the latest, as far as is known."""
        if self.gone is None:
            return self.delivery_date
        return min(self.delivery_date, self.last_seen)

    def delisted_at(self, server_time: datetime) -> datetime | None:
        """Return when trading ended, as known at `server_time`; None while it goes on or is to begin.

        For a symbol that vanished without an announcement it is the last time that it was seen.
        """
        if self.delivery_date <= server_time:
            return self.delivery_date
        return self.last_seen if self.gone is not None and self.gone <= server_time else None

    def noticed(self, server_time: datetime) -> datetime | None:
        """Return when its end could be known first: what `delisted_at` tells was None before."""
        if self.delisted_at(server_time) is None:
            return None
        return min(self.delivery_date, self.gone or self.delivery_date)

    def is_listed_by(self, listing: Listing, seen_at: datetime) -> bool:
        """Return whether an entry of exchangeInfo, seen at `seen_at`, is of this listing, not of a new one.

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
