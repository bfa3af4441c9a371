"""The record of every listing, on a real S3 server: how each observation of the exchange changes it."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_assets.resources.identity import Identity
from pipeline_assets.resources.listing_history import (
    note_first_candles,
    note_identities,
    read_identities,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures.listings import LISTED, NEVER, NOON, listing

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def store(s3_bucket: Any) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


def test_new_lake_has_no_listings(store: ObjectStore) -> None:
    """A lake has no listings before the first observation."""
    assert read_identities(store) == []


def test_listings_are_remembered_as_seen(store: ObjectStore) -> None:
    """Listings are remembered as the exchange gave them."""
    noted = note_identities(
        store, [listing("币安人生USDT"), listing("ETHUSDC", quote_asset="USDC")], NOON
    )
    assert noted == [
        Identity("ETHUSDC", LISTED, NEVER, False, NOON, NOON),
        Identity("币安人生USDT", LISTED, NEVER, True, NOON, NOON),
    ]
    assert read_identities(store) == noted


def test_future_end_does_not_count_yet(store: ObjectStore) -> None:
    """An end of trading counts only when its time has come."""
    end = NOON + 3 * HOUR
    note_identities(store, [listing()], NOON - HOUR)
    [announced] = note_identities(store, [listing(delivery_date=end)], NOON)
    assert announced.delisted_at(end - timedelta(seconds=1)) is None
    assert announced.delisted_at(end) == end
    settling = listing(delivery_date=end, status="SETTLING")
    [ended] = note_identities(store, [settling], end + HOUR)
    assert (ended.delisted_at(end + HOUR), ended.noticed(end + HOUR)) == (end, end)
    assert ended.collected_by_all


def test_announced_end_holds_after_disappearing(store: ObjectStore) -> None:
    """An announced end holds for a symbol that is not listed any more."""
    end = NOON + 3 * HOUR
    note_identities(store, [listing(delivery_date=end), listing("ETHUSDT")], NOON)
    gone, _ = note_identities(store, [listing("ETHUSDT")], end + HOUR)
    assert (gone.symbol, gone.gone) == ("BTCUSDT", end + HOUR)
    assert gone.delisted_at(end + DAY) == end


def test_vanished_symbol_ended_when_last_seen(store: ObjectStore) -> None:
    """A symbol that vanished without an announcement ended when it was last seen."""
    note_identities(store, [listing(), listing("ETHUSDT")], NOON - DAY)
    note_identities(store, [listing(), listing("ETHUSDT")], NOON)
    later = NOON + timedelta(minutes=90)
    gone, there = note_identities(store, [listing("ETHUSDT")], later)
    assert (gone.delisted_at(later), gone.noticed(later)) == (NOON, later)
    assert (there.delisted_at(later), there.last_seen) == (None, NOON + HOUR)
    # Later looks do not move its end.
    assert note_identities(store, [listing("ETHUSDT")], later + DAY)[0] == gone


def test_symbol_missing_once_has_not_ended(store: ObjectStore) -> None:
    """A symbol that was missing from a single observation has not ended."""
    note_identities(store, [listing(), listing("ETHUSDT")], NOON)
    note_identities(store, [listing("ETHUSDT")], NOON + HOUR)
    back, _ = note_identities(store, [listing(), listing("ETHUSDT")], NOON + 2 * HOUR)
    assert back == Identity("BTCUSDT", LISTED, NEVER, True, NOON, NOON + 2 * HOUR)


def test_relisted_symbol_is_another_identity(store: ObjectStore) -> None:
    """A symbol that is listed again is another identity."""
    end, again = NOON - DAY, NOON + DAY
    note_identities(store, [listing(delivery_date=end, status="SETTLING")], NOON)
    first, second = note_identities(store, [listing(onboard_date=again)], again + HOUR)
    assert (first.onboard_date, first.delisted_at(again + HOUR)) == (LISTED, end)
    assert (second.onboard_date, second.delisted_at(again + HOUR)) == (again, None)
    assert second.first_seen == again + HOUR


@pytest.mark.parametrize("corrected", [LISTED - 100 * DAY, LISTED + 100 * DAY])
def test_corrected_onboard_date_keeps_identity(store: ObjectStore, corrected: datetime) -> None:
    """A corrected onboard date makes no second identity."""
    note_identities(store, [listing()], NOON - DAY)
    note_first_candles(store, {("BTCUSDT", LISTED): LISTED + HOUR})
    [found] = note_identities(store, [listing(onboard_date=corrected)], NOON)
    assert (found.onboard_date, found.hint, found.first_seen) == (LISTED, corrected, NOON - DAY)
    # The candle decides still; but the exchange is asked again, once.
    assert (found.listed_at, found.to_ask) == (LISTED + HOUR, True)
    [found] = note_first_candles(store, {("BTCUSDT", LISTED): LISTED + HOUR})
    assert not found.to_ask
    assert note_identities(store, [listing(onboard_date=corrected)], NOON) == [found]


def test_postponed_listing_keeps_identity(store: ObjectStore) -> None:
    """A listing that is postponed before it begins is the same listing."""
    note_identities(store, [listing(onboard_date=NOON + DAY)], NOON)
    [found] = note_identities(store, [listing(onboard_date=NOON + 2 * DAY)], NOON + HOUR)
    assert (found.onboard_date, found.first_seen) == (NOON + 2 * DAY, NOON)


def test_duplicate_identities_of_corrected_date_merge(
    store: ObjectStore,
) -> None:
    """Two identities that an earlier version kept for a corrected date become one.

    Its documents have six values a listing.
    """
    moved, never = (round(at.timestamp() * 1000) for at in (LISTED + 30 * DAY, NEVER))
    listed, noon = (round(at.timestamp() * 1000) for at in (LISTED, NOON))
    lives = [
        [listed, never, True, noon - 1, noon, noon + 1],
        [moved, never, True, noon, noon, None],
    ]
    store.put("state/listings.json", json.dumps({"BTCUSDT": lives}).encode())
    assert [each.gone is None for each in read_identities(store)] == [False, True]
    [found] = note_identities(store, [listing(onboard_date=LISTED + 30 * DAY)], NOON + HOUR)
    assert (found.gone, found.first_candle) == (None, None)
    assert found.first_seen == NOON - timedelta(milliseconds=1)


def test_unreadable_entry_ends_no_symbol(store: ObjectStore) -> None:
    """An entry that cannot be read does not end its symbol."""
    note_identities(store, [listing(), listing("ETHUSDT")], NOON)
    found = note_identities(store, [listing("ETHUSDT")], NOON + HOUR, unreadable={"BTCUSDT"})
    assert [each.gone for each in found] == [None, None]
    assert found[0].last_seen == NOON


def test_first_candle_decides_trading_start(store: ObjectStore) -> None:
    """A first candle is remembered and decides when trading began."""
    first = LISTED + 3 * DAY
    note_identities(store, [listing(), listing("ETHUSDT")], NOON)
    noted = {("BTCUSDT", LISTED): first, ("NEVERUSDT", LISTED): first}
    assert note_first_candles(store, noted) == note_first_candles(store, noted)
    bitcoin, ether = note_identities(store, [listing(), listing("ETHUSDT")], NOON + DAY)
    assert (bitcoin.first_candle, bitcoin.listed_at) == (first, first)
    assert (ether.first_candle, ether.listed_at) == (None, LISTED)


def test_first_candle_after_end_belongs_later(store: ObjectStore) -> None:
    """A first candle after the end of a listing belongs to a later listing.

    The exchange may have forgotten the candles of a listing that ended.
    """
    end = NOON - DAY
    note_identities(store, [listing(delivery_date=end)], NOON - 2 * DAY)
    [found] = note_first_candles(store, {("BTCUSDT", LISTED): end + HOUR})
    assert found.listed_at == LISTED


def test_what_all_collected_once_stays_so(store: ObjectStore) -> None:
    """Binance has shown suspended perpetuals with an empty contract type."""
    note_identities(store, [listing()], NOON)
    [suspended] = note_identities(store, [listing(contract_type="")], NOON + HOUR)
    assert suspended.collected_by_all


def test_unchanged_observation_writes_nothing_within_hour(store: ObjectStore) -> None:
    """Within an hour, an observation without news writes nothing."""
    note_identities(store, [listing()], NOON)
    [before] = store.objects("state/")
    note_identities(store, [listing()], NOON + timedelta(minutes=59))
    assert list(store.objects("state/")) == [before]
    note_identities(store, [listing()], NOON + timedelta(minutes=60))
    assert list(store.objects("state/")) != [before]


def test_concurrent_observers_lose_nothing(store: ObjectStore) -> None:
    """Observers at the same time lose nothing.

    An hour between their clocks: each has something to write.
    """
    note_identities(store, [listing()], NOON)
    looks = [NOON + place * HOUR for place in range(1, 5)]
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(lambda at: note_identities(store, [listing(), listing("ETHUSDT")], at), looks)
        )
    bitcoin, ether = read_identities(store)
    assert (bitcoin.first_seen, bitcoin.last_seen) == (NOON, looks[-1])
    assert ether.first_seen in looks
    assert ether.last_seen == looks[-1]


NAMES = ("BTCUSDT", "ETHUSDT", "币安人生USDT")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(looks=st.lists(st.sets(st.sampled_from(NAMES)), min_size=1, max_size=6))
def test_gone_are_missing_from_last_observation(store: ObjectStore, looks: list[set[str]]) -> None:
    """Every listing seen is remembered; those missing from the last observation count as gone."""
    store.delete(["state/listings.json"])
    times = [NOON + place * DAY for place in range(len(looks))]
    for names, at in zip(looks, times, strict=True):
        once = note_identities(store, map(listing, names), at)
        assert note_identities(store, map(listing, names), at) == once
    found = {each.symbol: each for each in read_identities(store)}
    assert found.keys() == set().union(*looks)
    for symbol, each in found.items():
        seen = [at for names, at in zip(looks, times, strict=True) if symbol in names]
        assert (each.first_seen, each.last_seen) == (seen[0], seen[-1])
        assert (each.gone is None) == (symbol in looks[-1])
        assert each.delisted_at(times[-1]) == (None if symbol in looks[-1] else seen[-1])
