"""What a run decides to fetch, by the exchange's clock, its universe and what the lake holds."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest

from pipeline_assets.collection import planning
from pipeline_assets.collection.chosen_symbols import Request
from pipeline_assets.collection.fetch_plan import FetchPlan, RunKind, SymbolError
from pipeline_assets.collection.planning import make_plan
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.partition_keys import PartitionError
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.exchange import ExchangeClient
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.finalized_days import SealedDay, mark_sealed
from pipeline_assets.resources.listing_history import note_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.tick_state import TickState, write_tick_state
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle, start_exchange
from pipeline_assets_tests.fixtures.listings import listing
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform, platform_without_snowflake

MINUTE = Interval.ONE_MINUTE
MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
SETTLE = timedelta(seconds=2)
TODAY, YESTERDAY = "2026-11-20", "2026-11-19"


@contextmanager
def client_of(platform: Platform) -> Iterator[ExchangeClient]:
    with Exchange(platform.settings).client(Priority.TICK_1M, patient=False) as client:
        yield client


def plan_of(
    platform: Platform,
    keys: str | list[str] = TODAY,
    kind: RunKind = RunKind.TICK,
    *,
    interval: Interval = MINUTE,
    asked: list[str] | None = None,
) -> FetchPlan:
    with client_of(platform) as client:
        return make_plan(
            client,
            ObjectStore(platform.settings.s3),
            Request(
                interval,
                kind,
                [keys] if isinstance(keys, str) else keys,
                platform.settings.symbols,
                asked,
            ),
            SETTLE,
        )


def exchange_info_requests(exchange: ExchangeHandle) -> int:
    return sum(exchange.state()["requests"].get("/fapi/v1/exchangeInfo", {}).values())


def test_a_backfill_goes_by_the_first_candle_and_not_by_the_onboard_date(
    minutes: Platform,
) -> None:
    """Dates years too early cost weight for ever, dates too late hid history that is served."""
    young, ether = "币安人生USDT", "ETHUSDT"
    told = {young: datetime(2019, 9, 25, tzinfo=UTC), ether: MIDNIGHT - timedelta(days=1)}
    listings = [listing(symbol, onboard_date=at) for symbol, at in told.items()]
    note_identities(ObjectStore(minutes.settings.s3), listings, MIDNIGHT)
    days = [f"2025-10-0{day}" for day in (5, 6, 7)]
    plan = plan_of(minutes, days, RunKind.BACKFILL)
    assert plan.windows[young].start == datetime(2025, 10, 7, 9, 15, tzinfo=UTC)
    assert plan.windows[ether].start == datetime(2025, 10, 5, tzinfo=UTC)
    requests = minutes.exchange.state()["requests"]["/fapi/v1/klines"]["200"]
    assert requests == len(minutes.settings.symbols)
    assert young not in plan_of(minutes, days[:2], RunKind.BACKFILL).windows
    # Known now: neither another backfill nor a tick asks for it.
    plan_of(minutes)
    assert minutes.exchange.state()["requests"]["/fapi/v1/klines"]["200"] == requests


def test_all_is_an_error_while_nothing_is_listed_that_it_means(tmp_path, s3_bucket, redis_url):
    """That there is nothing to do would be wrong: exchangeInfo may be incomplete for a time."""
    with (
        start_exchange(symbols="AGIXUSDT,ETHUSDC", clock="stepped:2026-11-20T12:00:30Z") as odd,
        platform_without_snowflake(
            tmp_path, odd, s3_bucket, redis_url, symbols="all"
        ) as everything,
    ):
        for kind in (RunKind.TICK, RunKind.SEAL, RunKind.BACKFILL):
            with pytest.raises(SymbolError, match="none is a USDT perpetual on a coin that trades"):
                plan_of(everything, YESTERDAY, kind)


def test_ticks_ask_for_the_universe_once_in_five_minutes(minutes: Platform) -> None:
    for minute in range(6):
        minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=12, minutes=minute, seconds=30))
        plan_of(minutes)
        assert exchange_info_requests(minutes.exchange) == (1 if minute < 5 else 2)


def test_a_universe_seen_in_the_future_is_asked_for_again(minutes: Platform) -> None:
    minutes.exchange.set_clock(MIDNIGHT + timedelta(days=3))
    plan_of(minutes, "2026-11-23")
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=12, seconds=30))
    plan_of(minutes)
    assert exchange_info_requests(minutes.exchange) == 2


def test_a_backfill_always_asks_for_the_universe(minutes: Platform) -> None:
    plan_of(minutes, kind=RunKind.BACKFILL)
    plan_of(minutes, kind=RunKind.BACKFILL)
    assert exchange_info_requests(minutes.exchange) == 2


def test_a_tick_on_the_minute_waits_for_the_candle_to_settle(
    minutes: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        minutes.exchange.advance(seconds)

    monkeypatch.setattr(planning.time, "sleep", wait)
    on_the_minute = MIDNIGHT + timedelta(hours=12)
    minutes.exchange.set_clock(on_the_minute + timedelta(milliseconds=250))
    plan = plan_of(minutes)
    assert waits == [1.75]
    assert plan.newest == on_the_minute - timedelta(minutes=1)
    plan_of(minutes)
    assert waits == [1.75], "a settled candle is not waited for"


def test_what_is_closed_is_taken_if_the_exchange_clock_stands_still(
    minutes: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning.time, "sleep", lambda _: None)
    on_the_minute = MIDNIGHT + timedelta(hours=12)
    minutes.exchange.set_clock(on_the_minute + timedelta(milliseconds=250))
    assert plan_of(minutes).newest == on_the_minute - timedelta(minutes=2)


def test_the_clock_offset_carries_the_exchange_time_to_later_steps(minutes: Platform) -> None:
    before = datetime.now(UTC)
    plan = plan_of(minutes)
    assert abs(plan.now() - minutes.now()) <= datetime.now(UTC) - before


def test_a_late_tick_fetches_what_is_due_now(minutes: Platform) -> None:
    """Its day ended while it waited, or it was the first of a scheduler that was off for two days."""
    minutes.tick("1m")
    minutes.exchange.advance(2 * 86400)
    now = minutes.now().replace(hour=0, minute=0, second=0, microsecond=0)
    for partition in (YESTERDAY, "2026-11-20"):
        plan = plan_of(minutes, partition)
        assert plan.kind is RunKind.TICK
        assert {window.start for window in plan.windows.values()} == {now}


def test_a_tick_of_a_sealed_day_does_what_is_due_now(minutes: Platform) -> None:
    store = ObjectStore(minutes.settings.s3)
    mark_sealed(store, MINUTE, date(2026, 11, 19), dict.fromkeys(SYMBOLS, SealedDay(None)))
    newest = datetime(2026, 11, 20, 11, 59, tzinfo=UTC)
    write_tick_state(store, MINUTE, TickState(dict.fromkeys(SYMBOLS, newest)))
    plan = plan_of(minutes, YESTERDAY)
    assert plan.kind is RunKind.TICK
    hour = Window(datetime(2026, 11, 20, 11, tzinfo=UTC), newest + timedelta(minutes=1))
    assert plan.windows == dict.fromkeys(SYMBOLS, hour)


def test_a_tick_of_the_day_that_has_just_begun_reads_yesterdays_last_minutes(
    minutes: Platform,
) -> None:
    minutes.exchange.set_clock(MIDNIGHT + timedelta(seconds=5))
    for partition in (TODAY, YESTERDAY):
        plan = plan_of(minutes, partition)
        assert plan.kind is RunKind.TICK, "yesterday is open until today's first candle has closed"
        assert plan.newest == MIDNIGHT - timedelta(minutes=1)
        assert {window.end for window in plan.windows.values()} == {MIDNIGHT}


def test_a_symbol_of_which_nothing_is_stored_is_read_from_midnight(minutes: Platform) -> None:
    store = ObjectStore(minutes.settings.s3)
    newest = datetime(2026, 11, 20, 11, 59, tzinfo=UTC)
    write_tick_state(store, MINUTE, TickState(dict.fromkeys(SYMBOLS[:2], newest)))
    starts = {symbol: window.start.hour for symbol, window in plan_of(minutes).windows.items()}
    assert starts == {SYMBOLS[0]: 11, SYMBOLS[1]: 11, SYMBOLS[2]: 0}


def test_a_symbol_listed_during_the_day_is_read_from_its_listing(minutes: Platform) -> None:
    listed = "2026-11-20T09:17:23Z"
    with start_exchange(
        symbols="BTCUSDT,ETHUSDT",
        clock="stepped:2026-11-20T12:00:30Z",
        listed=f"ETHUSDT={listed}",
    ) as own:
        young = minutes.with_settings(
            symbols=("BTCUSDT", "ETHUSDT"), binance={"rest_url": own.url.removesuffix("/fapi")}
        )
        newest = datetime(2026, 11, 20, 11, 59, tzinfo=UTC)
        for interval, first in ((MINUTE, (9, 17)), (Interval.ONE_HOUR, (9, 0))):
            windows = plan_of(young, interval=interval).windows
            assert windows["BTCUSDT"].start == MIDNIGHT
            assert windows["ETHUSDT"].start == MIDNIGHT.replace(hour=first[0], minute=first[1])
            assert windows["ETHUSDT"].end > newest
        before = plan_of(young, [YESTERDAY], RunKind.BACKFILL)
        assert before.windows.keys() == {"BTCUSDT"}


def test_a_symbol_listed_now_is_collected_within_five_minutes(minutes: Platform) -> None:
    with start_exchange(
        symbols="BTCUSDT,ETHUSDT",
        clock="stepped:2026-11-20T12:00:30Z",
        listed="ETHUSDT=2026-11-20T12:02:00Z",
    ) as own:
        young = minutes.with_settings(
            symbols="all", binance={"rest_url": own.url.removesuffix("/fapi")}
        )
        young.exchange = own
        collected = []
        for minute in range(7):
            own.set_clock(MIDNIGHT + timedelta(hours=12, minutes=minute, seconds=30))
            collected.append(sorted(plan_of(young).windows))
        assert collected[0] == ["BTCUSDT"]
        assert collected[6] == ["BTCUSDT", "ETHUSDT"]


def test_all_collects_every_trading_usdt_perpetual_on_a_coin(minutes: Platform) -> None:
    everything = minutes.with_settings(symbols="all")
    assert sorted(plan_of(everything).windows) == sorted([*SYMBOLS, "1000PEPEUSDT", "雪球USDT"])


def test_symbols_asked_for_go_before_those_of_the_settings(minutes: Platform) -> None:
    assert plan_of(minutes, asked=["1000PEPEUSDT"]).windows.keys() == {"1000PEPEUSDT"}
    everything = minutes.with_settings(symbols="all")
    assert plan_of(everything, asked=["ETHUSDC"]).windows.keys() == {"ETHUSDC"}


def test_an_unknown_symbol_in_the_settings_fails_alone_and_one_asked_for_fails_the_run(
    minutes: Platform,
) -> None:
    misspelt = minutes.with_settings(symbols=("BTCUSDT", "ETHUSD"))
    plan = plan_of(misspelt)
    assert plan.windows.keys() == {"BTCUSDT"}
    assert plan.failures.keys() == {"ETHUSD"}
    assert "did you mean ETHUSDT?" in plan.failures["ETHUSD"]
    with pytest.raises(SymbolError, match=r"ETHUSD is not on the exchange.*Nothing was fetched"):
        plan_of(minutes, asked=["BTCUSDT", "ETHUSD"])
    with pytest.raises(SymbolError, match="NOSUCHUSDT is not on the exchange"):
        plan_of(minutes.with_settings(symbols=("NOSUCHUSDT",)))


def test_a_delisted_symbol_is_no_tick_but_has_its_history(minutes: Platform) -> None:
    both = minutes.with_settings(symbols=("BTCUSDT", "AGIXUSDT"))
    plan = plan_of(both)
    assert plan.windows.keys() == {"BTCUSDT"}
    assert "does not trade" in plan.failures["AGIXUSDT"]
    history = plan_of(minutes, ["2024-01-10"], RunKind.BACKFILL, asked=["AGIXUSDT"])
    assert history.failures == {}
    start = datetime(2024, 1, 10, tzinfo=UTC)
    assert history.windows == {"AGIXUSDT": Window(start, start + timedelta(days=1))}


def test_all_takes_into_history_what_has_been_delisted_since(minutes: Platform) -> None:
    everything = minutes.with_settings(symbols="all")
    # AGIXUSDT was delivered on 2024-07-08 at 09:00; 雪球USDT was listed in 2026.
    assert plan_of(everything, ["2024-07-07"], RunKind.BACKFILL).windows.keys() == {
        *("1000PEPEUSDT", "AGIXUSDT", "BTCUSDT", "ETHUSDT")
    }
    last = plan_of(everything, ["2024-07-08"], RunKind.BACKFILL).windows["AGIXUSDT"]
    assert last.end == datetime(2024, 7, 8, 9, tzinfo=UTC)
    after = plan_of(everything, ["2024-07-09"], RunKind.BACKFILL)
    assert "AGIXUSDT" not in after.windows
    assert after.failures == {}


def test_a_symbol_asked_for_that_the_exchange_has_forgotten_fails_only_if_it_is_alone(
    minutes: Platform,
) -> None:
    plan_of(minutes, kind=RunKind.BACKFILL)
    with start_exchange(symbols="BTCUSDT", clock="stepped:2026-11-20T12:10:30Z") as other:
        url = other.url.removesuffix("/fapi")
        forgetful = minutes.with_settings(binance={"rest_url": url})
        days, asked = ["2024-01-10"], ["BTCUSDT", "AGIXUSDT"]
        plan = plan_of(forgetful, days, RunKind.BACKFILL, asked=asked)
        assert (plan.windows.keys(), plan.failures) == ({"BTCUSDT"}, {})
        assert "AGIXUSDT traded until 2024-07-08 09:00 UTC" in plan.gone["AGIXUSDT"]
        with pytest.raises(SymbolError, match="does not name it any more"):
            plan_of(forgetful, days, RunKind.BACKFILL, asked=["AGIXUSDT"])
        # Of the settings, it is told; a day on which it did not trade is none of its business.
        old = forgetful.with_settings(symbols=("AGIXUSDT",))
        assert plan_of(old, days, RunKind.BACKFILL).gone.keys() == {"AGIXUSDT"}
        assert plan_of(old, ["2024-08-01"], RunKind.BACKFILL).gone == {}


def test_a_backfill_of_today_stops_at_the_newest_closed_candle(minutes: Platform) -> None:
    plan = plan_of(minutes, [YESTERDAY, TODAY], RunKind.BACKFILL)
    until = MIDNIGHT + timedelta(hours=12)
    assert plan.windows == dict.fromkeys(SYMBOLS, Window(MIDNIGHT - timedelta(days=1), until))
    assert [plan.finished(each) for each in plan.days] == [True, False]


@pytest.mark.parametrize("key", ["2026-11-21", "2036-01-01", "2019-09-07", "20261120", "today"])
def test_a_partition_that_is_no_day_of_the_exchange_is_refused(minutes: Platform, key: str) -> None:
    with pytest.raises(PartitionError, match=key):
        plan_of(minutes, key)
