"""Which symbols are collected, and when each trades, now and at other times."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline_assets.collection.listings import (
    Listed,
    NothingListedError,
    between_listings,
    collected_lifetimes,
    collected_now,
    lifetimes,
)
from pipeline_assets.market.interval import Interval, to_milliseconds
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.lake_state import Identity, note_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.universe import Listing
from pipeline_assets.settings import Settings

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TODAY = day_window(NOON.date())
LISTED = NOON - 100 * DAY
NEVER = datetime(2100, 12, 25, 8, tzinfo=UTC)


def identity(symbol: str = "BTCUSDT", **changes: Any) -> Identity:
    values: dict[str, Any] = {
        "symbol": symbol,
        "onboard_date": LISTED,
        "delivery_date": NEVER,
        "collected_by_all": True,
        "first_seen": NOON - DAY,
        "last_seen": NOON,
    }
    return Identity(**(values | changes))


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
def test_a_symbol_lives_in_a_window_that_its_trading_touches(
    changes: dict[str, Any], lifetime: tuple[datetime, datetime | None] | None
) -> None:
    found = lifetimes([identity(**changes)], TODAY, NOON)
    assert found == ({"BTCUSDT": lifetime} if lifetime else {})


def test_a_symbol_listed_anew_lives_from_its_first_beginning_to_its_last_end() -> None:
    again = identity(onboard_date=NOON - DAY)
    before = identity(delivery_date=NOON - 10 * DAY, gone=NOON - 2 * DAY)
    month = Window(NOON - 30 * DAY, TODAY.end)
    assert lifetimes([again, before], month, NOON) == {"BTCUSDT": (LISTED, None)}
    # The day in between and what follows is the second's alone.
    assert lifetimes([again, before], TODAY, NOON) == {"BTCUSDT": (NOON - DAY, None)}


def test_a_symbol_whose_listing_was_moved_to_an_earlier_date_lives_on() -> None:
    moved = identity(onboard_date=LISTED - DAY, first_seen=NOON - HOUR)
    vanished = identity(gone=NOON - HOUR, last_seen=NOON - 2 * HOUR)
    assert lifetimes([vanished, moved], TODAY, NOON) == {"BTCUSDT": (LISTED - DAY, None)}
    month = Window(LISTED - 2 * DAY, TODAY.end)
    assert between_listings([vanished, moved], Interval.ONE_HOUR, month, NOON) == {}


def test_between_two_listings_no_candle_is_due_from_the_last_to_the_first_of_the_grid() -> None:
    """Trading ended and began within an hour, whose candles there are."""
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
    # Where only one of them traded there is no between.
    for days in (TODAY, Window(TODAY.start - 5 * DAY, TODAY.end)):
        assert between_listings(all_three, Interval.ONE_HOUR, days, NOON) == {}


def listing(symbol: str, **changes: Any) -> Listing:
    values: dict[str, Any] = {
        "symbol": symbol,
        "onboard_date": LISTED,
        "delivery_date": NEVER,
        "status": "TRADING",
        "contract_type": "PERPETUAL",
        "quote_asset": "USDT",
        "underlying_type": "COIN",
    }
    return Listing(**(values | changes))


@pytest.mark.parametrize(
    ("symbols", "collected"),
    [
        ("all", ["BTCUSDT", "DEADUSDT", "HALTUSDT"]),
        (("ETHUSDC", "DEADUSDT", "NEVERUSDT"), ["DEADUSDT", "ETHUSDC"]),
    ],
)
def test_lifetimes_are_of_the_symbols_of_the_settings_dead_ones_too(
    s3_bucket: Any, tmp_path: Any, symbols: Any, collected: list[str]
) -> None:
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


def test_nothing_is_collected_before_the_first_look(s3_bucket: Any, tmp_path: Any) -> None:
    store = ObjectStore(s3_bucket.settings())
    everything = Settings(data_dir=tmp_path, symbols="all")
    with pytest.raises(NothingListedError, match="Materialize `universe`"):
        collected_lifetimes(store, everything, TODAY, NOON)
    assert collected_now(None, "all") == {}


def test_ticks_collect_what_trades_now() -> None:
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
