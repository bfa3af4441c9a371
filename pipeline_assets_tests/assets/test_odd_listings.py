"""One odd entry of exchangeInfo hurts only itself, and no date of it is believed over the candles."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.collection.coverage import fetchable
from pipeline_assets.collection.lake_coverage import gap_ledger
from pipeline_assets.collection.listings import collected_lifetimes
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.listing_history import read_identities, read_universe
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures.odd_listings import Change, ListingsHandle, odd_listings
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform

BTC, ETH, LIFE = SYMBOLS
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
# When the replay exchange has its first candle.
LIFE_BEGAN = datetime(2025, 10, 7, 9, 15, tzinfo=UTC)
Odd = Callable[[Change], tuple[Platform, ListingsHandle]]


@pytest.fixture
def odd(minutes: Platform) -> Iterator[Odd]:
    """The platform over an exchange whose listings are changed."""
    with ExitStack() as servers:

        def start(change: Change) -> tuple[Platform, ListingsHandle]:
            handle = servers.enter_context(odd_listings(minutes.exchange, change))
            return minutes.with_settings(binance={"rest_url": handle.url}), handle

        yield start


def entry_of(symbols: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(each for each in symbols if each["symbol"] == name)


def changed(name: str, **fields: Any) -> Change:
    """The listings with these fields of an entry changed; milliseconds for times."""

    def change(symbols: list[dict[str, Any]]) -> list[Any]:
        reported = {
            key: round(value.timestamp() * 1000) if isinstance(value, datetime) else value
            for key, value in fields.items()
        }
        entry_of(symbols, name).update(reported)
        return symbols

    return change


def with_odd_entries(symbols: list[dict[str, Any]]) -> list[Any]:
    good = entry_of(symbols, BTC)
    named = [good | {"symbol": name, "pair": name} for name in ("..", "A\nB", "A*", " ", "A;B")]
    odd = [
        {key: value for key, value in good.items() if key != "underlyingType"}
        | {"symbol": "AUSDT"},
        good | {"symbol": "BUSDT", "pair": "BUSDT", "onboardDate": None},
        good | {"symbol": "CUSDT", "pair": "CUSDT", "deliveryDate": 10**19},
        None,
        {},
    ]
    return [*odd, *named, *symbols]


@pytest.mark.parametrize("symbols", [SYMBOLS, "all"])
def test_odd_entries_are_named_and_skipped(odd: Odd, symbols: Any) -> None:
    """Odd entries are named, and every other symbol is collected."""
    platform, _ = odd(with_odd_entries)
    platform = platform.with_settings(symbols=symbols)
    ingested = platform.ingest("1m")
    assert ingested.success
    assert {*platform.stored("1m")["symbol"]} >= {BTC, ETH, LIFE}
    assert not {key for key in platform.objects() if ".." in key or "A" in key.split("/")}
    store = ObjectStore(platform.settings.s3)
    assert len(read_universe(store)["left_out"]) == 10
    looked = platform.materialize("universe", "2026-11-20")
    metadata = looked.asset_materializations_for_node("universe")[0].metadata
    assert len(metadata["entries left out"].records) == 10


def test_newly_unreadable_entry_stops_nothing(odd: Odd) -> None:
    """An entry that becomes unreadable does not stop its symbol."""
    platform, handle = odd(lambda symbols: symbols)
    platform.ingest("1m")
    handle.change = changed(ETH, onboardDate=None)
    platform.exchange.advance(600)
    assert platform.ingest("1m").success
    newest = platform.stored("1m", ETH)["open_time"].max()
    assert newest == datetime(2026, 11, 20, 12, 9, tzinfo=UTC)


@pytest.mark.parametrize("late", [-timedelta(hours=3), timedelta(days=7)])
def test_late_onboard_date_hides_nothing(odd: Odd, late: timedelta) -> None:
    """A late onboard date hides no candle that is served.

    Also one that is still to come, of a symbol that trades.
    """
    platform, _ = odd(changed(ETH, onboardDate=NOON + late))
    platform.backfill("1m", "2026-11-18", symbols=[ETH])
    start = datetime(2026, 11, 18, tzinfo=UTC)
    truth = platform.truth("1m", ETH, start, start + timedelta(days=1))
    assert_frame_equal(platform.stored("1m", ETH), truth)


def klines_asked(platform: Platform) -> int:
    return sum(platform.exchange.state()["requests"].get("/fapi/v1/klines", {}).values())


def test_early_onboard_date_costs_one_request(odd: Odd) -> None:
    """An early onboard date costs one request, once."""
    platform, _ = odd(changed(LIFE, onboardDate=datetime(2019, 9, 25, tzinfo=UTC)))
    days = ("2025-10-04", "2025-10-06")
    first = platform.backfill("1m", *days, symbols=[LIFE])
    assert all(each.passed for each in first.get_asset_check_evaluations())
    assert klines_asked(platform) == 1
    platform.backfill("1m", *days, symbols=[LIFE])
    assert klines_asked(platform) == 1
    assert gaps_to_fetch(platform, Window(LIFE_BEGAN - timedelta(days=9), LIFE_BEGAN)) == 0


def gaps_to_fetch(platform: Platform, window: Window) -> int:
    store = ObjectStore(platform.settings.s3)
    wanted = platform.settings.model_copy(update={"symbols": (LIFE,)})
    window = Window(Interval.ONE_HOUR.floor(window.start), Interval.ONE_HOUR.floor(window.end))
    lifetimes = collected_lifetimes(store, wanted, window, NOON)
    ledger = gap_ledger(store, wanted, Interval.ONE_MINUTE, window, lifetimes, NOON)
    return int(fetchable(ledger)["count"].sum())


def test_later_corrected_date_ends_no_listing(odd: Odd) -> None:
    """An onboard date that the exchange corrects to a later day ends no listing."""
    platform, handle = odd(lambda symbols: symbols)
    platform.backfill("1m", "2026-11-18")
    handle.change = changed(ETH, onboardDate=datetime(2026, 11, 19, 6, tzinfo=UTC))
    platform.exchange.advance(3600)
    platform.backfill("1m", "2026-11-17", "2026-11-19")
    start = datetime(2026, 11, 17, tzinfo=UTC)
    truth = platform.truth("1m", ETH, start, start + timedelta(days=3))
    assert_frame_equal(platform.stored("1m", ETH), truth)
    known = read_identities(ObjectStore(platform.settings.s3))
    assert [each.gone for each in known if each.symbol == ETH] == [None]


@pytest.mark.parametrize("symbols", [SYMBOLS, "all"])
def test_empty_listings_are_an_error(odd: Odd, symbols: Any) -> None:
    """Listings without any symbol are an error."""
    platform, _ = odd(lambda _: [])
    platform = platform.with_settings(symbols=symbols)
    for run in (platform.ingest, platform.backfill):
        failed = run("1m", "2026-11-19", raise_on_error=False)
        assert not failed.success
        [event] = [each for each in failed.all_events if each.is_step_failure][:1]
        assert "list" in str(event.step_failure_data.error.cause or event.step_failure_data.error)
    assert platform.objects("ohlcv/") == {}


def test_past_delivery_date_stops_no_trading(odd: Odd) -> None:
    """A trading symbol is collected whatever its delivery date says.

    With a delivery date in the past the symbol counted as ended, and its minutes were silently skipped.
    """
    platform, _ = odd(changed(ETH, deliveryDate=0))
    platform.ingest("1m")
    assert platform.stored("1m", ETH).height == 720
    platform.backfill("1m", "2026-11-18", symbols=[ETH])
    assert platform.stored("1m", ETH).height == 720 + 1440
