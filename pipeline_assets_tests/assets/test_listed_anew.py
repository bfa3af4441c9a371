"""A symbol that is delisted and listed again: nothing is due between, to fetch, to check, or to repair."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from polars.testing import assert_frame_equal

from pipeline_assets.collection.fetch_plan import FetchPlan, RunKind
from pipeline_assets.collection.lake_coverage import gap_ledger
from pipeline_assets.collection.listings import collected_lifetimes
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.listing_history import note_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.collection.test_planning import plan_of
from pipeline_assets_tests.fixtures.exchange import start_exchange
from pipeline_assets_tests.fixtures.listings import listing
from pipeline_assets_tests.fixtures.platform import Platform

MINUTE = Interval.ONE_MINUTE
BTC, ETH = "BTCUSDT", "ETHUSDT"
DAYS = [f"2026-11-{day}" for day in range(14, 20)]


def at(text: str) -> datetime:
    """MM-DD HH:MM of 2026, UTC."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


RANGE = Window(at("11-14 00:00"), at("11-20 00:00"))
# ETHUSDT ended on the 15th, and trades again since the 18th; the exchange has its new candles only.
BEFORE = Window(RANGE.start, at("11-15 08:00"))
BETWEEN = Window(BEFORE.end, at("11-18 09:00"))
AGAIN = Window(BETWEEN.end, RANGE.end)


@pytest.fixture
def relisted(minutes: Platform) -> Iterator[Platform]:
    """It is noon of the 20th."""
    store = ObjectStore(minutes.settings.s3)
    first = listing(ETH, delivery_date=BETWEEN.start)
    note_identities(store, [first, listing(BTC)], at("11-14 12:00"))
    with start_exchange(
        symbols=f"{BTC},{ETH}",
        clock="stepped:2026-11-20T12:00:30Z",
        listed=f"{ETH}=2026-11-18T09:00:00Z",
    ) as own:
        platform = minutes.with_settings(
            symbols=(BTC, ETH), binance={"rest_url": own.url.removesuffix("/fapi")}
        )
        platform.exchange = own
        yield platform


def gaps_of_eth(platform: Platform, window: Window = RANGE) -> list[tuple[datetime, int, str]]:
    """First open time, candles and cause of each gap; of the other symbol there is none."""
    store, now = ObjectStore(platform.settings.s3), platform.now()
    lifetimes = collected_lifetimes(store, platform.settings, window, now)
    found = gap_ledger(store, platform.settings, MINUTE, window, lifetimes, now)
    assert set(found["symbol"]) <= {ETH}
    return found.select("first", "count", "cause").rows()


def test_time_between_listings_is_skipped(relisted: Platform) -> None:
    """The time between two listings is neither fetched nor missing."""
    plan = plan_of(relisted, DAYS, RunKind.BACKFILL)
    assert plan.spans(ETH) == [BEFORE, AGAIN]
    assert plan.due(BTC) == 6 * 1440
    assert FetchPlan.from_dict(plan.to_dict()) == plan

    result = relisted.backfill("1m", DAYS[0], DAYS[-1])
    verdicts = {
        (each.check_name, each.partition): each
        for each in result.get_asset_check_evaluations()
        if each.partition
    }
    failed = {key for key, each in verdicts.items() if not each.passed}
    # Its old candles the exchange does not have any more, as it confirmed: nothing is missing.
    assert failed == set()
    assert f"All 1,440 candles of 2 symbols are there. {8 * 60} more do not exist" in str(
        verdicts["complete", DAYS[1]].description
    )
    assert "All 1,440 candles of BTCUSDT" in str(verdicts["complete", DAYS[2]].description)
    assert f"All {1440 + 15 * 60:,} candles" in str(verdicts["complete", DAYS[4]].description)
    assert_frame_equal(
        relisted.stored("1m", ETH), relisted.truth("1m", ETH, AGAIN.start, AGAIN.end)
    )

    outage = (BEFORE.start, 1440 + 8 * 60, "exchange_outage")
    between = (BETWEEN.start, BETWEEN.candles(MINUTE), "not_listed")
    assert gaps_of_eth(relisted) == [outage, between]
    # So it stays: there is nothing left to fetch.
    assert plan_of(relisted, DAYS, RunKind.BACKFILL).windows == {}


def test_ledger_ignores_other_days(relisted: Platform) -> None:
    """The ledger is the same whichever days are judged with it."""
    relisted.backfill("1m", DAYS[0], DAYS[-1], symbols=[BTC])
    relisted.backfill("1m", DAYS[4], DAYS[5], symbols=[ETH])
    never = (BEFORE.start, 1440 + 8 * 60, "not_fetched")
    between = (BETWEEN.start, BETWEEN.candles(MINUTE), "not_listed")
    assert gaps_of_eth(relisted) == [never, between]
    after = Window(at("11-18 00:00"), RANGE.end)
    assert gaps_of_eth(relisted, after) == [(after.start, 9 * 60, "not_listed")]
    # On days that neither listing touches, the symbol is not part of the universe.
    assert gaps_of_eth(relisted, Window(at("11-16 00:00"), at("11-18 00:00"))) == []


def test_archive_is_skipped_between_listings(relisted: Platform) -> None:
    """The archive is not asked for the time between two listings."""
    url = relisted.exchange.url.removesuffix("/fapi")
    archived = relisted.with_settings(binance={"archive": True, "archive_url": url})
    archived.backfill("1m", DAYS[0], DAYS[-1], symbols=[ETH])
    # A file and its checksum of the two days of the second listing, and none of the first's two.
    requests = relisted.exchange.state()["requests"]["/data/futures/um"]
    assert requests == {"200": 4, "404": 2}
    assert_frame_equal(
        archived.stored("1m", ETH), relisted.truth("1m", ETH, AGAIN.start, AGAIN.end)
    )
