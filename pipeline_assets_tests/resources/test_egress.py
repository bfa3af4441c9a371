"""Request weight by the address from which requests leave: two addresses of this machine, and a replay
exchange that counts each by itself. Time passes only when every client waits."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.binance_client import local_address
from pipeline_assets.resources.exchange import BACKFILL_PATIENCE, ExchangeClient
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.resources.workers import code_fingerprint
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.exchange import START, ExchangeHandle, start_exchange
from pipeline_assets_tests.fixtures.redis import RedisServer

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
# Ten requests of 499 candles a minute. The margin is for the first question, for the exchange's time: until
# it is answered, a client does not know the exchange's minute.
LIMIT, MARGIN = 23, 2
LISTED = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
PAGES = 30
HISTORY = Window(NOON - timedelta(minutes=499 * PAGES), NOON)
FIRST, SECOND = "127.0.0.2", "127.0.0.3"


class SharedTime:
    """Time for several clients of one exchange: it goes on to the next waker when all of them wait."""

    def __init__(self, exchange: ExchangeHandle, clients: int) -> None:
        self._exchange, self._working = exchange, clients
        self._now = 1000.0
        self._wakers: list[float] = []
        self._changed = threading.Condition()

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        await asyncio.to_thread(self._wait, self._now + seconds)

    def leave(self) -> None:
        """Count a client out that has ended."""
        with self._changed:
            self._working -= 1
            self._go_on()

    def _wait(self, until: float) -> None:
        with self._changed:
            self._wakers.append(until)
            self._go_on()
            while self._now < until:
                self._changed.wait()
            self._wakers.remove(until)

    def _go_on(self) -> None:
        waiting = [each for each in self._wakers if each > self._now]
        if waiting and len(waiting) >= self._working:
            self._exchange.advance(min(waiting) - self._now)
            self._now = min(waiting)
            self._changed.notify_all()


@pytest.fixture(scope="module")
def limited_exchange() -> Iterator[ExchangeHandle]:
    """Provide an exchange with a small limit."""
    with start_exchange(
        clock=f"stepped:{START}", symbols=",".join(LISTED), weight_limit=LIMIT
    ) as exchange:
        yield exchange


@pytest.fixture
def fetch(
    limited_exchange: ExchangeHandle, redis_server: RedisServer
) -> Callable[..., dict[str, Any]]:
    """Fetch the history of four symbols by one client an egress address; return what the exchange says."""

    def of(*egresses: str | None) -> dict[str, Any]:
        limited_exchange.reset()
        redis_server.client().flushall()
        time = SharedTime(limited_exchange, len(egresses))

        def work(place: int) -> int:
            given = settings(redis_server, limited_exchange, egress=egresses[place])
            names = LISTED[place :: len(egresses)]
            windows = dict.fromkeys(names, HISTORY)
            client = ExchangeClient(
                *(given.binance, Exchange(given).budget, Priority.BACKFILL, BACKFILL_PATIENCE),
                sleep=time.sleep,
                monotonic=time.monotonic,
            )
            rows: list[int] = []
            try:
                with client:
                    for each in client.klines(Interval.ONE_MINUTE, windows, rows.append):
                        assert each.error is None
            finally:
                time.leave()
            return sum(rows)

        with ThreadPoolExecutor(len(egresses)) as pool:
            assert sum(pool.map(work, range(len(egresses)))) == 4 * 499 * PAGES
        return limited_exchange.state()

    return of


def settings(server: RedisServer, exchange: ExchangeHandle, **binance: object) -> Settings:
    given = {
        "rest_url": exchange.url.removesuffix("/fapi"),
        "concurrency": 1,
        "weight_limit": LIMIT,
        "weight_margin": MARGIN,
    }
    return Settings(redis=server.settings(), binance=given | binance)


def minutes(state: dict[str, Any]) -> int:
    """Return in how many minutes weight was used."""
    return len(state["weight"]["used"])


def test_two_addresses_double_the_rate(fetch: Callable[..., dict[str, Any]]) -> None:
    """Two egress addresses fetch history at 1.9 times the rate of one, and neither exceeds its limit."""
    one, two = fetch(FIRST), fetch(FIRST, SECOND)
    assert set(one["weight"]["by_address"]) == {FIRST}
    assert set(two["weight"]["by_address"]) == {FIRST, SECOND}
    assert minutes(one) / minutes(two) >= 1.9
    for state in (one, two):
        assert state["sent_429"] == 0
        for used in state["weight"]["by_address"].values():
            assert max(used.values()) <= LIMIT


@pytest.mark.parametrize("egress", [FIRST, "203.0.113.7"])
def test_two_sites_share_one_address(fetch: Callable[..., dict[str, Any]], egress: str) -> None:
    """Two clients with one egress address stay within one limit, whether the address is this machine's or
    a NAT's."""
    state = fetch(egress, egress)
    assert set(state["weight"]["by_address"]) == {FIRST if egress == FIRST else "127.0.0.1"}
    assert max(state["weight"]["used"].values()) <= LIMIT
    assert state["sent_429"] == 0


def test_own_addresses_are_bound() -> None:
    """Only an address of this machine is sent from."""
    assert local_address("127.0.0.2") == ("127.0.0.2", 0)
    assert [local_address(each) for each in (None, "office", "203.0.113.7", "2001:db8::1")] == [
        None
    ] * 4


def test_workers_may_differ_in_egress() -> None:
    """Workers with other egress addresses run the same code, as the code server compares it."""
    assert code_fingerprint(Settings(binance={"egress": FIRST})) == code_fingerprint(Settings())
    assert Settings(binance={"egress": FIRST}).binance.budget_name.endswith(f"@{FIRST}")
