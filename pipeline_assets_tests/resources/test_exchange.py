"""The exchange client against a real replay exchange and a real Redis, through python-binance.

Nothing waits: time passes when the client waits, for the exchange and for the client alike.
"""

import asyncio
import json
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.market.intervals import EPOCH, Interval, to_milliseconds
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.exchange import BACKFILL_PATIENCE, INGEST_PATIENCE, ExchangeClient
from pipeline_assets.resources.exchange_clock import ExchangeClock
from pipeline_assets.resources.exchange_errors import (
    ExchangeBannedError,
    ExchangeError,
    ExchangeUnreachableError,
)
from pipeline_assets.resources.exchange_pages import pages
from pipeline_assets.resources.universe import trading_symbols
from pipeline_assets.resources.weight_allowance import WeightAllowance
from pipeline_assets.resources.weight_budget import Priority, WeightBudget, WeightBudgetError
from pipeline_assets.settings import BinanceSettings, RedisSettings
from pipeline_assets_tests.fixtures.exchange import START, SYMBOLS, start_exchange
from pipeline_assets_tests.fixtures.redis import free_port

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = Window(NOON - timedelta(hours=1), NOON)
TRADING = ["BTCUSDT", "ETHUSDT", "币安人生USDT", "1000PEPEUSDT", "雪球USDT"]
ONE_MINUTE = Interval.ONE_MINUTE


class Time:
    """Time that passes by waiting only, for the client and, if it has one, for the exchange."""

    def __init__(self, exchange=None):
        self.exchange = exchange
        self.now = 1000.0
        self.waits = []
        self.then = lambda: None

    async def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds
        if self.exchange is not None:
            self.exchange.advance(seconds)
        self.then()
        await asyncio.sleep(0)

    def monotonic(self):
        return self.now


@pytest.fixture
def budget(redis_server, redis_url):
    return WeightBudget(redis_server.settings(), "test", limit=2400, margin=60)


@pytest.fixture
def clock(exchange):
    return Time(exchange)


@pytest.fixture
def client(exchange, budget, clock):
    """How to make a client of the exchange that waits by `clock`."""

    def make(
        *,
        patience=BACKFILL_PATIENCE,
        budget=budget,
        priority=Priority.INGEST_1M,
        sleep=clock.sleep,
        **changes,
    ):
        return ExchangeClient(
            BinanceSettings.model_validate({"rest_url": address(exchange)} | changes),
            budget,
            priority,
            patience,
            sleep=sleep,
            monotonic=clock.monotonic,
        )

    return make


def address(exchange):
    return exchange.url.removesuffix("/fapi")


def truth(exchange, symbol, interval, window):
    """Return the exchange's own candles, fetched without the client under test."""
    rows, start = [], to_milliseconds(window.start)
    while True:
        query = urllib.parse.urlencode(
            {
                "symbol": symbol,
                "interval": interval.value,
                "startTime": start,
                "endTime": to_milliseconds(window.end) - 1,
                "limit": 1500,
            }
        )
        with urllib.request.urlopen(f"{exchange.url}/v1/klines?{query}", timeout=30) as response:
            page = json.load(response)
        rows += page
        if len(page) < 1500:
            return rows
        start = page[-1][0] + 1


def rows_of(fetched):
    assert fetched.error is None
    return [row for reply in fetched.replies for row in json.loads(reply)]


def fetch(client, windows, interval=ONE_MINUTE, **how):
    """All results by symbol, the client opened and closed around it."""
    with client:
        return {fetched.symbol: fetched for fetched in client.klines(interval, windows, **how)}


def used(exchange):
    return sum(exchange.state()["weight"]["used"].values())


def klines_answers(exchange):
    return exchange.state()["requests"].get("/fapi/v1/klines", {})


def assert_all_true(exchange, fetched, window, interval=ONE_MINUTE):
    exchange.faults()
    for symbol, result in fetched.items():
        assert rows_of(result) == truth(exchange, symbol, interval, window)


# Pages and weight


@pytest.mark.parametrize(
    ("candles", "requests", "weight"),
    [
        (1, 1, 1),
        (98, 1, 1),
        (99, 1, 1),
        (100, 1, 2),
        (499, 1, 2),
        (500, 2, 3),
        (598, 2, 3),
        (599, 2, 4),
        (998, 2, 4),
        (1440, 3, 6),
    ],
)
def test_window_costs_the_least_weight(exchange, client, candles, requests, weight):
    """A window is read completely and in order for the least possible weight."""
    window = Window(NOON - timedelta(minutes=candles), NOON)
    reader = client()
    fetched = fetch(reader, {"BTCUSDT": window})["BTCUSDT"]

    assert len(rows_of(fetched)) == candles
    assert klines_answers(exchange) == {"200": requests}
    asked_the_time = 1
    assert used(exchange) == weight + asked_the_time == reader.weight_spent
    assert rows_of(fetched) == truth(exchange, "BTCUSDT", ONE_MINUTE, window)


def least_weight(candles):
    """The least weight by trying every split, with the limits and weights that Binance documents."""
    least = [0]
    for count in range(1, candles + 1):
        costs = ((99, 1), (499, 2), (1000, 5), (1500, 10))
        least.append(min(least[max(count - limit, 0)] + cost for limit, cost in costs))
    return least[candles]


@given(
    interval=st.sampled_from(Interval),
    first=st.integers(20_000_000, 29_000_000),
    candles=st.integers(1, 3000),
)
def test_pages_cover_the_window_once(interval, first, candles):
    """Pages cover the window once, for the least possible weight."""
    start = interval.floor(EPOCH + timedelta(minutes=first))
    window = Window(start, start + candles * interval.span)
    found = pages(interval, window)

    moments = [
        page.start + number * interval.span
        for page, _ in found
        for number in range(page.candles(interval))
    ]
    assert moments == [start + number * interval.span for number in range(candles)]
    assert all(page.candles(interval) <= limit for page, limit in found)
    weight_by_limit = {99: 1, 499: 2}
    assert sum(weight_by_limit[limit] for _, limit in found) == least_weight(candles)


@pytest.mark.parametrize("field", ["start", "end"])
def test_off_grid_window_is_refused(exchange, client, field):
    """A window off the grid is refused before a request is sent."""
    edges = {"start": HOUR.start, "end": HOUR.end}
    off_grid = Window(**(edges | {field: edges[field] + timedelta(seconds=7)}))
    with client() as reader, pytest.raises(ValueError, match="grid of 1m"):
        next(reader.klines(ONE_MINUTE, {"BTCUSDT": off_grid}))
    assert exchange.state()["requests"] == {}


@pytest.mark.parametrize("interval", list(Interval))
def test_many_symbols_equal_the_exchange(exchange, client, interval):
    """Many symbols of any interval equal the exchange's candles."""
    window = day_window((NOON - timedelta(days=1)).date())
    progress = []
    with client() as reader:
        results = list(reader.klines(interval, dict.fromkeys(TRADING, window), progress.append))
    assert sorted(result.symbol for result in results) == sorted(TRADING)
    assert sum(progress) == len(TRADING) * interval.per_day
    assert_all_true(exchange, {result.symbol: result for result in results}, window, interval)


def test_no_candles_outside_the_trading_time(client):
    """A symbol has no candles before its listing and after its delivery."""
    day = day_window(datetime(2024, 7, 8, tzinfo=UTC).date())
    result = fetch(client(), {"AGIXUSDT": day, "雪球USDT": day})
    delivered = datetime(2024, 7, 8, 9, tzinfo=UTC)
    assert rows_of(result["AGIXUSDT"])[-1][0] == to_milliseconds(delivered) - 60_000
    assert rows_of(result["雪球USDT"]) == []


def test_doubled_row_hides_no_missing_row(exchange, client):
    """A doubled row does not hide a missing one: such a reply has as many rows as a complete one."""
    window = day_window(datetime.fromisoformat(START).date() - timedelta(days=2))
    exchange.faults(duplicate_rows=0.4, missing_rows=0.4, seed=5)
    fetched = fetch(client(), {"BTCUSDT": window, "ETHUSDT": window}, confirm=True)
    struck = exchange.state()["faults_struck"]
    assert struck["duplicate_rows"]
    assert struck["missing_rows"]
    exchange.faults()
    for symbol, result in fetched.items():
        assert result.confirmed == ()
        assert {row[0] for row in rows_of(result)} == {
            row[0] for row in truth(exchange, symbol, ONE_MINUTE, window)
        }


def test_nothing_to_fetch_yields_nothing(client):
    assert fetch(client(), {}) == {}


def test_spent_process_continues_next_minute(redis_server, redis_url):
    """A process that has spent its minute continues in the next one."""
    with start_exchange(clock=f"stepped:{START}", weight_limit=40) as exchange:
        clock = Time(exchange)
        reader = ExchangeClient(
            BinanceSettings(rest_url=address(exchange), concurrency=3),
            WeightBudget(redis_server.settings(), "small", limit=40, margin=10),
            Priority.BACKFILL,
            sleep=clock.sleep,
            monotonic=clock.monotonic,
        )
        window = Window(NOON - timedelta(days=2), NOON)
        fetched = fetch(reader, dict.fromkeys(TRADING, window))
        state = exchange.state()
        assert state["sent_429"] == 0
        assert len(state["weight"]["used"]) >= 3
        assert max(state["weight"]["used"].values()) <= 30
        assert reader.weight_spent == used(exchange)
        exchange.advance(60)
        lengths = {symbol: len(rows_of(result)) for symbol, result in fetched.items()}
        assert lengths == dict.fromkeys(TRADING, 2 * 1440)


def test_budget_learns_weight_of_others(exchange, client, budget):
    """The shared budget learns the weight that other clients spent."""
    for _ in range(20):
        truth(exchange, "BTCUSDT", ONE_MINUTE, HOUR)
    fetch(client(), {"BTCUSDT": HOUR})
    assert used(exchange) == 20 * 10 + 2
    assert budget.use(to_milliseconds(NOON)).used >= 20 * 10 + 2


def test_requests_across_minutes_count_in_both(budget):
    """Requests under way when the minute turns count in the new minute as well."""
    clock = Time()
    exchange_clock = ExchangeClock(clock.monotonic)
    exchange_clock.measure(to_milliseconds(NOON) + 59_900, clock.now, clock.now)
    allowance = WeightAllowance(budget, Priority.BACKFILL, exchange_clock, clock.sleep)

    async def turn():
        for _ in range(10):
            await allowance.take(2)
        clock.now += 1
        await allowance.take(1)

    asyncio.run(turn())
    assert budget.use(to_milliseconds(NOON)).used == 20
    assert budget.use(to_milliseconds(NOON) + 60_000).used == 21
    assert allowance.spent == 21


def test_without_redis_nothing_is_sent(exchange, client):
    nowhere = RedisSettings(url=f"redis://127.0.0.1:{free_port()}/0", retry_seconds=0.3)
    lost = WeightBudget(nowhere, "test", limit=2400, margin=60)
    with pytest.raises(WeightBudgetError, match="cannot be reached"):
        fetch(client(budget=lost), {"BTCUSDT": HOUR})
    assert exchange.state()["requests"] == {}


# Time and universe


def test_server_time_is_the_exchanges_own(client):
    with client() as reader:
        assert reader.server_time() == datetime.fromisoformat(START)


def test_universe_is_what_trades_now(client):
    """The universe holds the symbols that the exchange trades now."""
    with client() as reader:
        listings = reader.universe().valid
    assert {listing.symbol for listing in listings} == set(SYMBOLS.split(","))
    assert trading_symbols(listings) == sorted(TRADING)


def test_first_candle_costs_one_weight(exchange, client):
    """The first candle of a symbol is requested once, for weight 1. The request asks for candles from time 0
    or from any later time; an unknown symbol affects no other.
    """
    with client() as reader:
        reader.server_time()
        before = used(exchange)
        names = ["BTCUSDT", "雪球USDT", "NEVERUSDT", "BTCUSDT"]
        later = datetime(2026, 11, 1, 0, 0, 30, tzinfo=UTC)
        found = reader.first_candles([*((name, EPOCH) for name in names[:3]), ("BTCUSDT", later)])
        assert used(exchange) - before == len(names)
    assert found == [
        datetime(2019, 9, 8, 17, 57, tzinfo=UTC),
        datetime(2026, 9, 16, 10, 30, tzinfo=UTC),
        None,
        datetime(2026, 11, 1, 0, 1, tzinfo=UTC),
    ]


# Trouble that passes


@pytest.mark.parametrize(
    "fault", ["http_500", "http_503", "http_408", "html_502", "reset", "truncated", "cut_json"]
)
def test_passing_faults_are_retried(exchange, client, clock, fault):
    """Temporary faults are retried until the reply is complete."""
    exchange.faults(**{fault: 0.5, "seed": 3})
    window = Window(NOON - timedelta(hours=30), NOON)
    fetched = fetch(client(retries=20), dict.fromkeys(TRADING, window))
    assert exchange.state()["faults_struck"][fault] > 0
    assert clock.waits
    assert_all_true(exchange, fetched, window)


def test_hanging_request_is_repeated(exchange, client):
    """A request that hangs is given up and repeated."""
    exchange.faults(hang=0.3, hang_seconds=600, seed=5)
    fetched = fetch(client(retries=20, timeout_seconds=0.5), dict.fromkeys(TRADING, HOUR))
    assert exchange.state()["faults_struck"]["hang"] > 0
    assert_all_true(exchange, fetched, HOUR)


def test_backoff_doubles_until_retries_end(exchange, client, clock):
    """The backoff doubles, and ends after the last retry."""
    exchange.faults(symbols={"ETHUSDT": {"http_500": 1}})
    fetched = fetch(client(retries=5), dict.fromkeys(TRADING, HOUR))

    assert clock.waits == [0.5, 1, 2, 4, 8]
    assert klines_answers(exchange) == {"200": len(TRADING) - 1, "500": 6}
    failed = fetched.pop("ETHUSDT")
    assert failed.replies == []
    assert "ETHUSDT 1m" in str(failed.error)
    assert "HTTP 500, -1000" in str(failed.error)
    assert_all_true(exchange, fetched, HOUR)


def test_failing_symbol_harms_no_other(exchange, client):
    """A symbol of many pages that fails affects no other symbol."""
    exchange.faults(symbols={"币安人生USDT": {"cut_json": 1}})
    window = Window(NOON - timedelta(hours=24), NOON)
    fetched = fetch(client(retries=1, concurrency=2), dict.fromkeys(TRADING, window))
    assert "币安人生USDT" in str(fetched.pop("币安人生USDT").error)
    assert_all_true(exchange, fetched, window)


def test_unknown_symbol_is_asked_for_once(exchange, client, clock):
    """An unknown symbol is requested once and named."""
    fetched = fetch(client(), {"NOPEUSDT": HOUR, "BTCUSDT": HOUR})
    error = fetched.pop("NOPEUSDT").error
    assert isinstance(error, ExchangeError)
    assert error.code == -1121
    assert "NOPEUSDT" in str(error)
    assert "-1121 Invalid symbol" in str(error)
    assert clock.waits == []
    assert klines_answers(exchange) == {"200": 1, "400": 1}
    assert_all_true(exchange, fetched, HOUR)


# An exchange that is not there


def heal_after(seconds, clock, exchange):
    def heal():
        if clock.now >= 1000 + seconds:
            exchange.faults()

    clock.then = heal


@pytest.mark.parametrize("down", ["reset", "http_503"])
def test_backfill_survives_a_minutes_outage(exchange, client, clock, down):
    """A backfill survives a minute without the exchange."""
    exchange.faults(down=down)
    heal_after(60, clock, exchange)
    fetched = fetch(client(concurrency=1), dict.fromkeys(TRADING, HOUR))
    assert clock.now >= 1060
    assert_all_true(exchange, fetched, HOUR)


def test_outage_blames_no_symbol(exchange, client, clock):
    """An outage during a fetch is not blamed on a symbol."""
    heal_after(60, clock, exchange)
    outages = iter(["reset"])

    def after_the_first_page(_rows):
        # In the reader's own thread, or it would have read the other symbols before the outage.
        for down in outages:
            exchange.faults(down=down)

    fetched = fetch(
        client(retries=1, concurrency=1),
        dict.fromkeys(TRADING, HOUR),
        on_progress=after_the_first_page,
    )
    assert clock.now >= 1060
    assert_all_true(exchange, fetched, HOUR)


@pytest.mark.parametrize(
    ("down", "cause"), [("reset", "Connection reset by peer"), ("http_503", "HTTP 503, -1001")]
)
def test_ingest_gives_up_with_one_error(exchange, client, clock, down, cause):
    """An ingest run gives up an exchange that is down with one error."""
    with client(patience=INGEST_PATIENCE, concurrency=2) as reader:
        reader.server_time()
        exchange.faults(down=down)
        with pytest.raises(ExchangeUnreachableError) as raised:
            list(reader.klines(ONE_MINUTE, dict.fromkeys(TRADING, HOUR)))
    assert address(exchange) in str(raised.value)
    assert cause in str(raised.value)
    assert sum(clock.waits) <= 2 * INGEST_PATIENCE.total_seconds()


def test_unreachable_exchange_is_named(redis_server, budget):
    """The error for an unreachable exchange names its address and the cause."""
    clock = Time()
    nowhere = f"http://127.0.0.1:{free_port()}"
    reader = ExchangeClient(
        BinanceSettings(rest_url=nowhere),
        budget,
        Priority.INGEST_1M,
        sleep=clock.sleep,
        monotonic=clock.monotonic,
    )
    with reader, pytest.raises(ExchangeUnreachableError, match=nowhere) as raised:
        reader.server_time()
    assert "ClientConnectorError" in str(raised.value)
    assert "PIPELINE_BINANCE__REST_URL" in str(raised.value)


def test_killed_exchange_ends_the_call(redis_server, budget):
    """If the exchange is killed while it serves, the call ends."""
    with start_exchange(symbols=SYMBOLS, clock=f"stepped:{START}") as exchange:
        clock = Time()
        with ExchangeClient(
            BinanceSettings(rest_url=address(exchange), concurrency=1),
            budget,
            Priority.INGEST_1M,
            sleep=clock.sleep,
            monotonic=clock.monotonic,
        ) as reader:
            results = reader.klines(ONE_MINUTE, dict.fromkeys(TRADING, HOUR))
            next(results)
            exchange.process.kill()
            exchange.process.wait()
            with pytest.raises(ExchangeUnreachableError):
                list(results)


# Refusals


def test_after_429_all_processes_wait(exchange, client, clock, budget):
    """After a 429 every process waits as long as the reply says, and then all is fetched."""
    with client(concurrency=1) as reader:
        reader.server_time()
        exchange.faults(refuse_next=1)
        found = []
        clock.then = lambda: found.append(budget.use(to_milliseconds(NOON) + 30_001).blocked_ms)
        results = list(reader.klines(ONE_MINUTE, dict.fromkeys(TRADING, HOUR)))
    until_the_minute_ends = 30
    assert sum(clock.waits) == pytest.approx(until_the_minute_ends, abs=1)
    assert found[0] > 29_000
    assert klines_answers(exchange) == {"429": 1, "200": len(TRADING)}
    assert_all_true(exchange, {result.symbol: result for result in results}, HOUR)


@pytest.mark.parametrize(
    ("refusal", "count"), [({"refuse_next": 1000}, "sent_429"), ({"ban_seconds": 120}, "sent_418")]
)
def test_refusal_stops_other_process_midway(exchange, client, clock, redis_server, refusal, count):
    """A refusal stops another process in the middle of the weight that it has reserved."""
    refused, others_done = threading.Event(), threading.Event()

    async def wait_for_the_other(seconds):
        refused.set()
        await asyncio.to_thread(others_done.wait)
        await clock.sleep(seconds)

    def while_the_other_is_between_two_requests(_rows):
        if not refused.is_set():
            exchange.faults(**refusal)
            fetching.append(pool.submit(fetch_all, first))
            assert refused.wait(30)
            clock.now += 1
            exchange.advance(1)

    def fetch_all(reader, *progress):
        results = reader.klines(ONE_MINUTE, dict.fromkeys(TRADING, HOUR), *progress)
        return {result.symbol: result for result in results}

    fetching = []
    clock.then = exchange.faults  # once the wait is over; until then every request is refused
    own = WeightBudget(redis_server.settings(), "test", limit=2400, margin=60)
    with (
        ThreadPoolExecutor(1) as pool,
        client(concurrency=1, sleep=wait_for_the_other) as first,
        client(concurrency=1, budget=own, priority=Priority.BACKFILL) as second,
    ):
        first.server_time()
        try:
            found_second = fetch_all(second, while_the_other_is_between_two_requests)
        finally:
            others_done.set()
        [found_first] = [future.result() for future in fetching]
    assert exchange.state()[count] == 1
    assert klines_answers(exchange)["200"] == 2 * len(TRADING)
    for found in (found_first, found_second):
        assert_all_true(exchange, found, HOUR)


def test_refusal_stops_requests_before_others_know(redis_server, clock):
    """After a refusal nothing is sent, even before the other processes know of it."""
    may_tell = threading.Event()

    class SlowToTell(WeightBudget):
        def block_until(self, *reported):
            may_tell.wait()
            super().block_until(*reported)

    budget = SlowToTell(redis_server.settings(), "slow", limit=2400, margin=60)
    allowance = WeightAllowance(
        budget, Priority.BACKFILL, ExchangeClock(clock.monotonic), clock.sleep
    )
    clock.then = may_tell.set

    async def refused_between_two_requests():
        allowance.expected = 20
        await allowance.take(2)
        telling = asyncio.create_task(allowance.block(30_000, "a test"))
        await asyncio.sleep(0)
        try:
            await allowance.take(2)
        finally:
            may_tell.set()
        await telling

    asyncio.run(refused_between_two_requests())
    assert sum(clock.waits) == pytest.approx(30, abs=1)


def test_refused_concurrent_requests_are_repeated(exchange, client):
    """Requests under way that are refused together are all repeated."""
    exchange.faults(refuse_next=4)
    fetched = fetch(client(concurrency=5), dict.fromkeys(TRADING, HOUR))
    assert exchange.state()["sent_429"] == 4
    assert exchange.state()["sent_418"] == 0
    assert_all_true(exchange, fetched, HOUR)


def test_a_short_ban_is_waited_for(exchange, client, clock):
    with client(concurrency=1) as reader:
        reader.server_time()
        exchange.faults(ban_seconds=120)
        results = list(reader.klines(ONE_MINUTE, dict.fromkeys(TRADING, HOUR)))
    assert sum(clock.waits) >= 120
    assert klines_answers(exchange) == {"418": 1, "200": len(TRADING)}
    assert_all_true(exchange, {result.symbol: result for result in results}, HOUR)


def test_client_resumes_when_block_is_lifted(exchange, client, clock, budget):
    """A waiting client continues when the block is lifted."""
    with client(concurrency=1) as reader:
        reader.server_time()
        exchange.faults(ban_seconds=250)

        def lift():
            exchange.reset()
            budget.unblock()

        clock.then = lift
        results = list(reader.klines(ONE_MINUTE, dict.fromkeys(TRADING, HOUR)))
    assert all(result.error is None for result in results)
    assert sum(clock.waits) <= 20


def test_long_ban_stops_every_process(budget):
    """A long ban ends the call and keeps every other process from sending requests."""
    clock = Time()

    def make(exchange):
        return ExchangeClient(
            BinanceSettings(rest_url=address(exchange)),
            budget,
            Priority.INGEST_1M,
            sleep=clock.sleep,
            monotonic=clock.monotonic,
        )

    with start_exchange(clock="real") as exchange:
        exchange.faults(ban_seconds=3600)
        for _ in range(2):
            with make(exchange) as reader, pytest.raises(ExchangeBannedError) as raised:
                reader.server_time()
            until = datetime.fromtimestamp(exchange.state()["banned_until_ms"] / 1000, tz=UTC)
            assert f"{until:%Y-%m-%dT%H:%M}" in str(raised.value)
        assert exchange.state()["requests"] == {"/fapi/v1/time": {"418": 1}}


# Leaving early


def test_closing_early_cancels_pending_requests(exchange, client):
    """Closing early cancels the requests under way, and the client can be used again."""
    exchange.faults(
        hang_seconds=10_000, symbols={symbol: {"hang": 1} for symbol in TRADING if symbol > "C"}
    )
    with client(timeout_seconds=10_000) as reader:
        results = reader.klines(ONE_MINUTE, dict.fromkeys(TRADING, HOUR))
        assert next(results).error is None
        results.close()
        assert asyncio.all_tasks(reader._loop) == set()
        exchange.faults()
        again = list(reader.klines(ONE_MINUTE, {"ETHUSDT": HOUR}))
    assert rows_of(again[0]) == truth(exchange, "ETHUSDT", ONE_MINUTE, HOUR)


def test_leaving_closes_pending_requests(exchange, client):
    """Leaving the client with requests under way closes all connections."""
    exchange.faults(hang_seconds=10_000, symbols={"ETHUSDT": {"hang": 1}})
    with client(timeout_seconds=10_000) as reader:
        results = reader.klines(ONE_MINUTE, {"BTCUSDT": HOUR, "ETHUSDT": HOUR})
        assert next(results).symbol == "BTCUSDT"
    results.close()
    assert not reader._thread.is_alive()


def test_progress_failure_reaches_the_caller(client):
    """An error in the caller's progress callback reaches the caller."""

    def full(_):
        raise OSError("disk full")

    with client() as reader, pytest.raises(OSError, match="disk full"):
        list(reader.klines(ONE_MINUTE, {"BTCUSDT": HOUR}, full))


def test_import_loads_no_client_libraries():
    """Importing the module loads neither binance nor aiohttp."""
    code = "import sys, pipeline_assets.resources.exchange; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {"binance", "aiohttp", "polars", "redis"} & loaded
