"""Which symbols are collected, and when each trades, now and at other times."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from pipeline_assets.collection.listing_look import learn_first_candles, look
from pipeline_assets.collection.listings import (
    Listed,
    NothingListedError,
    between_listings,
    collected_lifetimes,
    collected_now,
    left_out,
    lifetimes,
)
from pipeline_assets.market.intervals import EPOCH, Interval, to_milliseconds
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.listing_history import (
    note_identities,
    read_identities,
    read_universe,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.universe import Listings
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.listings import LISTED, NEVER, NOON, identity, listing

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TODAY = day_window(NOON.date())


@pytest.mark.parametrize(
    ("changes", "lifetime"),
    [
        ({}, (LISTED, None)),
        ({"onboard_date": TODAY.end - HOUR}, (TODAY.end - HOUR, None)),
        ({"onboard_date": TODAY.end}, None),
        ({"delivery_date": TODAY.start}, None),
        ({"delivery_date": NOON - HOUR}, (LISTED, NOON - HOUR)),
        # Announced, and not come yet.
        ({"delivery_date": NOON + HOUR}, (LISTED, None)),
        ({"gone": NOON, "last_seen": NOON - HOUR}, (LISTED, NOON - HOUR)),
        # Postponed before it began, under another date since.
        ({"onboard_date": NOON + HOUR, "gone": NOON, "last_seen": NOON - HOUR}, None),
    ],
)
def test_lifetime_covers_touched_windows(
    changes: dict[str, Any], lifetime: tuple[datetime, datetime | None] | None
) -> None:
    """A symbol is alive in a window that its trading touches."""
    found = lifetimes([identity(**changes)], TODAY, NOON)
    assert found == ({"BTCUSDT": lifetime} if lifetime else {})


def test_relisted_symbol_spans_both_listings() -> None:
    """A symbol listed again lives from its first beginning to its last end."""
    again = identity(onboard_date=NOON - DAY)
    before = identity(delivery_date=NOON - 10 * DAY, gone=NOON - 2 * DAY)
    month = Window(NOON - 30 * DAY, TODAY.end)
    assert lifetimes([again, before], month, NOON) == {"BTCUSDT": (LISTED, None)}
    # The day in between and what follows is the second's alone.
    assert lifetimes([again, before], TODAY, NOON) == {"BTCUSDT": (NOON - DAY, None)}


def test_listing_moved_earlier_lives_on() -> None:
    """A symbol whose listing was moved to an earlier date lives on."""
    moved = identity(onboard_date=LISTED - DAY, first_seen=NOON - HOUR)
    vanished = identity(gone=NOON - HOUR, last_seen=NOON - 2 * HOUR)
    assert lifetimes([vanished, moved], TODAY, NOON) == {"BTCUSDT": (LISTED - DAY, None)}
    month = Window(LISTED - 2 * DAY, TODAY.end)
    assert between_listings([vanished, moved], Interval.ONE_HOUR, month, NOON) == {}


def test_no_candle_due_between_listings() -> None:
    """Between two listings no candle is due.

    The hours in which trading ended and began again have candles, so they are not part of the break.
    """
    before = identity(delivery_date=NOON - 10 * DAY + HOUR / 2)
    again = identity(onboard_date=NOON - DAY - HOUR / 2)
    third = identity("ETHUSDT", onboard_date=NOON - 3 * DAY)
    month = Window(TODAY.start - 30 * DAY, TODAY.end)
    all_three = [again, before, third]
    hours, minutes = (
        between_listings(all_three, interval, month, NOON)
        for interval in (Interval.ONE_HOUR, Interval.ONE_MINUTE)
    )
    assert hours == {"BTCUSDT": [Window(NOON - 10 * DAY + HOUR, NOON - DAY - HOUR)]}
    assert minutes == {"BTCUSDT": [Window(NOON - 10 * DAY + HOUR / 2, NOON - DAY - HOUR / 2)]}
    # A window in which the symbol had one listing only has no time between listings.
    for days in (TODAY, Window(TODAY.start - 5 * DAY, TODAY.end)):
        assert between_listings(all_three, Interval.ONE_HOUR, days, NOON) == {}


@pytest.mark.parametrize(
    ("symbols", "collected"),
    [
        ("all", ["BTCUSDT", "DEADUSDT", "HALTUSDT"]),
        (("ETHUSDC", "DEADUSDT", "NEVERUSDT"), ["DEADUSDT", "ETHUSDC"]),
    ],
)
def test_lifetimes_include_dead_symbols(
    s3_bucket: Any, tmp_path: Any, symbols: Any, collected: list[str]
) -> None:
    """Lifetimes are given for the symbols of the settings, also for dead ones."""
    store = ObjectStore(s3_bucket.settings())
    listings = [
        listing("BTCUSDT"),
        listing("HALTUSDT", status="BREAK"),
        listing("ETHUSDC", quote_asset="USDC"),
    ]
    end = NOON - 12 * HOUR + timedelta(minutes=30)
    note_identities(store, [*listings, listing("DEADUSDT", delivery_date=end)], NOON - DAY)
    note_identities(store, listings, NOON)
    chosen = Settings(data_dir=tmp_path, symbols=symbols)
    found = collected_lifetimes(store, chosen, TODAY, NOON)
    assert list(found) == collected
    assert found["DEADUSDT"] == (LISTED, end)
    assert collected_lifetimes(
        store, chosen, day_window((NOON + DAY).date()), NOON + DAY
    ).keys() == {*collected} - {"DEADUSDT"}


def test_nothing_is_collected_before_first_look(s3_bucket: Any, tmp_path: Any) -> None:
    """Nothing is collected before the first observation of the listings."""
    store = ObjectStore(s3_bucket.settings())
    everything = Settings(data_dir=tmp_path, symbols="all")
    with pytest.raises(NothingListedError, match="Materialize `universe`"):
        collected_lifetimes(store, everything, TODAY, NOON)
    assert collected_now(None, "all") == {}


def test_ingest_runs_collect_what_trades_now() -> None:
    since = to_milliseconds(LISTED)
    universe = {
        "seen_ms": to_milliseconds(NOON),
        "symbols": {
            "BTCUSDT": [since, to_milliseconds(NEVER), "TRADING", True],
            "HALTUSDT": [since, to_milliseconds(NEVER), "BREAK", False],
            "ETHUSDC": [since, to_milliseconds(NEVER), "TRADING", False],
        },
    }
    times = Listed(LISTED)
    assert collected_now(universe, "all") == {"BTCUSDT": times}
    assert collected_now(universe, ("ETHUSDC", "HALTUSDT", "NEVERUSDT")) == {"ETHUSDC": times}


class Answers:
    """An exchange that answers when first candles open, and counts who was asked for, from when on."""

    def __init__(self, **first: datetime | None) -> None:
        self.first = first
        self.asked: list[tuple[str, datetime]] = []
        self.listings = Listings()

    def first_candles(self, starts: Sequence[tuple[str, datetime]]) -> list[datetime | None]:
        self.asked += starts
        return [self.first.get(symbol) for symbol, _ in starts]

    def universe(self) -> Listings:
        return self.listings


def learned(client: Any, store: ObjectStore, *symbols: str, **options: Any) -> dict[str, datetime]:
    """By symbol when trading began, once the first candles are known."""
    found = learn_first_candles(client, store, read_identities(store), symbols, NOON, **options)
    assert found == read_identities(store)
    return {each.symbol: each.listed_at for each in found}


def test_first_candle_is_requested_once(s3_bucket: Any) -> None:
    """The first candle is requested once and decides when the listing began.

    Later than the onboard date and earlier: 77 of 122 recorded dates were days off.
    """
    store = ObjectStore(s3_bucket.settings())
    names = ("BTCUSDT", "ETHUSDT", "DEADUSDT", "OTHERUSDT")
    note_identities(store, map(listing, names), NOON - DAY)
    note_identities(store, [listing(name) for name in names if name != "DEADUSDT"], NOON)
    client = Answers(BTCUSDT=LISTED + 9 * DAY, ETHUSDT=LISTED - 9 * DAY)
    wanted = ("BTCUSDT", "ETHUSDT", "DEADUSDT")
    found = learned(client, store, *wanted)
    assert client.asked == [("BTCUSDT", EPOCH), ("ETHUSDT", EPOCH)]
    assert found["BTCUSDT"] == LISTED + 9 * DAY
    assert found["ETHUSDT"] == LISTED - 9 * DAY
    assert found["DEADUSDT"] == found["OTHERUSDT"] == LISTED
    learned(client, store, *wanted)
    assert len(client.asked) == 2
    learned(client, store, *wanted, again=True)
    assert len(client.asked) == 4


def test_unanswered_symbol_keeps_onboard_date(
    s3_bucket: Any,
) -> None:
    """A symbol without an answer keeps its onboard date and is requested again.

    Nothing, a time that is still to come, and one before that was asked from.
    """
    store = ObjectStore(s3_bucket.settings())
    note_identities(store, [listing("BTCUSDT"), listing("ETHUSDT")], NOON)
    for client in (Answers(), Answers(BTCUSDT=NOON + HOUR)):
        assert learned(client, store, "BTCUSDT", "ETHUSDT")["BTCUSDT"] == LISTED
        assert len(client.asked) == 2


def test_relisted_symbol_keeps_both_lives(
    s3_bucket: Any,
) -> None:
    """A symbol listed again keeps both lives, and its first candle is requested after the first one's end."""
    store = ObjectStore(s3_bucket.settings())
    end, again = NOON - 30 * DAY, NOON - 10 * DAY
    note_identities(store, [listing("BTCUSDT", delivery_date=end)], NOON - 25 * DAY)
    note_identities(store, [listing("BTCUSDT", onboard_date=again)], NOON - 5 * DAY)

    class Relisted(Answers):
        def first_candles(self, starts: Sequence[tuple[str, datetime]]) -> list[datetime | None]:
            self.asked += starts
            return [LISTED + HOUR if start == EPOCH else again + HOUR for _, start in starts]

    client = Relisted()
    learned(client, store, "BTCUSDT")
    assert client.asked == [("BTCUSDT", EPOCH), ("BTCUSDT", end)]
    lives = [(each.listed_at, each.delisted_at(NOON)) for each in read_identities(store)]
    assert lives == [(LISTED + HOUR, end), (again + HOUR, None)]


def test_unreadable_entries_are_left_out(
    s3_bucket: Any,
) -> None:
    """An observation leaves out entries that cannot be read and keeps what it knew of them.

    One odd entry of a collected symbol must not stop the live minutes.
    """
    store = ObjectStore(s3_bucket.settings())
    client: Any = Answers()
    client.listings = Listings([listing("BTCUSDT"), listing("ETHUSDT"), listing("SOLUSDT")])
    look(client, store, NOON - HOUR)
    odd = {"ETHUSDT": "underlyingType is missing", "NEWUSDT": "status: not a string"}
    client.listings = Listings([listing("BTCUSDT")], odd)
    universe, identities = look(client, store, NOON)
    assert left_out(universe) == left_out(read_universe(store)) == odd
    assert collected_now(universe, "all") == dict.fromkeys(("BTCUSDT", "ETHUSDT"), Listed(LISTED))
    assert {each.symbol for each in identities if each.gone is None} == {"BTCUSDT", "ETHUSDT"}
    client.listings = Listings([listing("BTCUSDT"), listing("ETHUSDT")])
    assert left_out(look(client, store, NOON + HOUR)[0]) == {}
    assert left_out(None) == {}


def test_ingest_uses_known_first_candle(s3_bucket: Any) -> None:
    """Ingest runs take the first candle for the listing once it is known."""
    store = ObjectStore(s3_bucket.settings())
    client: Any = Answers(BTCUSDT=LISTED - DAY)
    client.listings = Listings([listing("BTCUSDT")])
    look(client, store, NOON)
    learned(client, store, "BTCUSDT")
    universe, _ = look(client, store, NOON)
    assert collected_now(universe, "all") == {"BTCUSDT": Listed(LISTED - DAY)}
    client.listings = Listings([listing("BTCUSDT"), listing("ETHUSDT", onboard_date=NOON + DAY)])
    universe, _ = look(client, store, NOON)
    assert collected_now(universe, "all")["ETHUSDT"] == Listed(NOON), "it trades already"
