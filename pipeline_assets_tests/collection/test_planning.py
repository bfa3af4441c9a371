"""A run plans its fetches by the exchange's clock, the universe and the candles on the lake."""

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
from pipeline_assets.resources.finalized_days import FinalizedDay, mark_finalized
from pipeline_assets.resources.ingest_state import IngestState, write_ingest_state
from pipeline_assets.resources.listing_history import note_identities
from pipeline_assets.resources.object_store import ObjectStore
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
    with Exchange(platform.settings).client(Priority.INGEST_1M, patient=False) as client:
        yield client


def plan_of(
    platform: Platform,
    keys: str | list[str] = TODAY,
    kind: RunKind = RunKind.INGEST,
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


def test_backfill_begins_with_first_candle(
    minutes: Platform,
) -> None:
    """A backfill begins with the first candle, not with the onboard date.

    A date years too early costs weight in every run; a date too late hides existing history.
    """
    young, ether = "币安人生USDT", "ETHUSDT"
    reported = {young: datetime(2019, 9, 25, tzinfo=UTC), ether: MIDNIGHT - timedelta(days=1)}
    listings = [listing(symbol, onboard_date=at) for symbol, at in reported.items()]
    note_identities(ObjectStore(minutes.settings.s3), listings, MIDNIGHT)
    days = [f"2025-10-0{day}" for day in (5, 6, 7)]
    plan = plan_of(minutes, days, RunKind.BACKFILL)
    assert plan.windows[young].start == datetime(2025, 10, 7, 9, 15, tzinfo=UTC)
    assert plan.windows[ether].start == datetime(2025, 10, 5, tzinfo=UTC)
    requests = minutes.exchange.state()["requests"]["/fapi/v1/klines"]["200"]
    assert requests == len(minutes.settings.symbols)
    assert young not in plan_of(minutes, days[:2], RunKind.BACKFILL).windows
    # The first candle is known now: no other backfill or ingest run requests it.
    plan_of(minutes)
    assert minutes.exchange.state()["requests"]["/fapi/v1/klines"]["200"] == requests


def test_all_without_listings_is_an_error(tmp_path, s3_bucket, redis_url):
    """With `all`, an exchange that lists no matching symbol is an error.

    A report of nothing to do would be wrong: exchangeInfo may be incomplete for a time.
    """
    with (
        start_exchange(symbols="AGIXUSDT,ETHUSDC", clock="stepped:2026-11-20T12:00:30Z") as odd,
        platform_without_snowflake(
            tmp_path, odd, s3_bucket, redis_url, symbols="all"
        ) as everything,
    ):
        for kind in (RunKind.INGEST, RunKind.FINALIZE, RunKind.BACKFILL):
            with pytest.raises(SymbolError, match="none is a USDT perpetual on a coin that trades"):
                plan_of(everything, YESTERDAY, kind)


def test_ingest_fetches_universe_every_five_minutes(minutes: Platform) -> None:
    """Ingest runs fetch the universe once in five minutes."""
    for minute in range(6):
        minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=12, minutes=minute, seconds=30))
        plan_of(minutes)
        assert exchange_info_requests(minutes.exchange) == (1 if minute < 5 else 2)


def test_future_universe_is_fetched_again(minutes: Platform) -> None:
    """A universe with a time stamp in the future is fetched again."""
    minutes.exchange.set_clock(MIDNIGHT + timedelta(days=3))
    plan_of(minutes, "2026-11-23")
    minutes.exchange.set_clock(MIDNIGHT + timedelta(hours=12, seconds=30))
    plan_of(minutes)
    assert exchange_info_requests(minutes.exchange) == 2


def test_backfill_always_fetches_the_universe(minutes: Platform) -> None:
    """A backfill always asks for the universe."""
    plan_of(minutes, kind=RunKind.BACKFILL)
    plan_of(minutes, kind=RunKind.BACKFILL)
    assert exchange_info_requests(minutes.exchange) == 2


def test_ingest_waits_until_candle_settles(
    minutes: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ingest run on the minute waits for the candle to settle."""
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


def test_standing_clock_takes_closed_candles(
    minutes: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the exchange's clock stands still, the candles that have closed are taken."""
    monkeypatch.setattr(planning.time, "sleep", lambda _: None)
    on_the_minute = MIDNIGHT + timedelta(hours=12)
    minutes.exchange.set_clock(on_the_minute + timedelta(milliseconds=250))
    assert plan_of(minutes).newest == on_the_minute - timedelta(minutes=2)


def test_clock_offset_reaches_later_steps(minutes: Platform) -> None:
    """The clock offset carries the exchange's time to later steps."""
    before = datetime.now(UTC)
    plan = plan_of(minutes)
    assert abs(plan.now() - minutes.now()) <= datetime.now(UTC) - before


def test_late_ingest_fetches_newest_due(minutes: Platform) -> None:
    """A late ingest run fetches the candles that are due now.

    Its day ended while it waited, or it was the first of a scheduler that was off for two days.
    """
    minutes.ingest("1m")
    minutes.exchange.advance(2 * 86400)
    now = minutes.now().replace(hour=0, minute=0, second=0, microsecond=0)
    for partition in (YESTERDAY, "2026-11-20"):
        plan = plan_of(minutes, partition)
        assert plan.kind is RunKind.INGEST
        assert {window.start for window in plan.windows.values()} == {now}


def test_ingest_of_finalized_day_moves_on(minutes: Platform) -> None:
    """An ingest run of a finalized day fetches the candles that are due now."""
    store = ObjectStore(minutes.settings.s3)
    mark_finalized(store, MINUTE, date(2026, 11, 19), dict.fromkeys(SYMBOLS, FinalizedDay(None)))
    newest = datetime(2026, 11, 20, 11, 59, tzinfo=UTC)
    write_ingest_state(store, MINUTE, IngestState(dict.fromkeys(SYMBOLS, newest)))
    plan = plan_of(minutes, YESTERDAY)
    assert plan.kind is RunKind.INGEST
    hour = Window(datetime(2026, 11, 20, 11, tzinfo=UTC), newest + timedelta(minutes=1))
    assert plan.windows == dict.fromkeys(SYMBOLS, hour)


def test_new_day_reads_yesterdays_last_minutes(
    minutes: Platform,
) -> None:
    """An ingest run of a day that has just begun reads the last minutes of yesterday."""
    minutes.exchange.set_clock(MIDNIGHT + timedelta(seconds=5))
    for partition in (TODAY, YESTERDAY):
        plan = plan_of(minutes, partition)
        assert plan.kind is RunKind.INGEST, (
            "yesterday is open until today's first candle has closed"
        )
        assert plan.newest == MIDNIGHT - timedelta(minutes=1)
        assert {window.end for window in plan.windows.values()} == {MIDNIGHT}


def test_new_symbol_reads_from_midnight(minutes: Platform) -> None:
    """A symbol without stored candles is read from midnight."""
    store = ObjectStore(minutes.settings.s3)
    newest = datetime(2026, 11, 20, 11, 59, tzinfo=UTC)
    write_ingest_state(store, MINUTE, IngestState(dict.fromkeys(SYMBOLS[:2], newest)))
    starts = {symbol: window.start.hour for symbol, window in plan_of(minutes).windows.items()}
    assert starts == {SYMBOLS[0]: 11, SYMBOLS[1]: 11, SYMBOLS[2]: 0}


def test_symbol_listed_today_reads_from_listing(minutes: Platform) -> None:
    """A symbol listed during the day is read from its listing."""
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


def test_new_listing_is_collected_in_minutes(minutes: Platform) -> None:
    """A symbol listed now is collected within five minutes."""
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


def test_all_means_coin_usdt_perpetuals(minutes: Platform) -> None:
    """`all` collects every trading USDT perpetual on a coin."""
    everything = minutes.with_settings(symbols="all")
    assert sorted(plan_of(everything).windows) == sorted([*SYMBOLS, "1000PEPEUSDT", "雪球USDT"])


def test_requested_symbols_override_the_settings(minutes: Platform) -> None:
    """Symbols asked for in the run override those of the settings."""
    assert plan_of(minutes, asked=["1000PEPEUSDT"]).windows.keys() == {"1000PEPEUSDT"}
    everything = minutes.with_settings(symbols="all")
    assert plan_of(everything, asked=["ETHUSDC"]).windows.keys() == {"ETHUSDC"}


def test_unknown_configured_symbol_fails_alone(
    minutes: Platform,
) -> None:
    """An unknown symbol in the settings fails alone; one asked for in the run fails the run."""
    misspelt = minutes.with_settings(symbols=("BTCUSDT", "ETHUSD"))
    plan = plan_of(misspelt)
    assert plan.windows.keys() == {"BTCUSDT"}
    assert plan.failures.keys() == {"ETHUSD"}
    assert "did you mean ETHUSDT?" in plan.failures["ETHUSD"]
    with pytest.raises(SymbolError, match=r"ETHUSD is not on the exchange.*Nothing was fetched"):
        plan_of(minutes, asked=["BTCUSDT", "ETHUSD"])
    with pytest.raises(SymbolError, match="NOSUCHUSDT is not on the exchange"):
        plan_of(minutes.with_settings(symbols=("NOSUCHUSDT",)))


def test_delisted_symbol_is_backfilled_only(minutes: Platform) -> None:
    """A delisted symbol has no ingest, but its history is fetched."""
    both = minutes.with_settings(symbols=("BTCUSDT", "AGIXUSDT"))
    plan = plan_of(both)
    assert plan.windows.keys() == {"BTCUSDT"}
    assert "does not trade" in plan.failures["AGIXUSDT"]
    history = plan_of(minutes, ["2024-01-10"], RunKind.BACKFILL, asked=["AGIXUSDT"])
    assert history.failures == {}
    start = datetime(2024, 1, 10, tzinfo=UTC)
    assert history.windows == {"AGIXUSDT": Window(start, start + timedelta(days=1))}


def test_all_includes_delisted_in_history(minutes: Platform) -> None:
    """In history, `all` includes symbols that have been delisted since."""
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


def test_forgotten_symbol_fails_only_alone(
    minutes: Platform,
) -> None:
    """A requested symbol that the exchange has forgotten fails the run only if it is the only one."""
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
        # A symbol named in the settings is reported; a day on which it did not trade needs no fetch.
        old = forgetful.with_settings(symbols=("AGIXUSDT",))
        assert plan_of(old, days, RunKind.BACKFILL).gone.keys() == {"AGIXUSDT"}
        assert plan_of(old, ["2024-08-01"], RunKind.BACKFILL).gone == {}


def test_todays_backfill_stops_at_closed_candle(minutes: Platform) -> None:
    """A backfill of today stops at the newest closed candle."""
    plan = plan_of(minutes, [YESTERDAY, TODAY], RunKind.BACKFILL)
    until = MIDNIGHT + timedelta(hours=12)
    assert plan.windows == dict.fromkeys(SYMBOLS, Window(MIDNIGHT - timedelta(days=1), until))
    assert [plan.finished(each) for each in plan.days] == [True, False]


@pytest.mark.parametrize("key", ["2026-11-21", "2036-01-01", "2019-09-07", "20261120", "today"])
def test_invalid_partition_is_refused(minutes: Platform, key: str) -> None:
    """A partition that is not a day of the exchange's time is refused."""
    with pytest.raises(PartitionError, match=key):
        plan_of(minutes, key)
