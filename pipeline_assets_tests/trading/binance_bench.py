"""The venue `demo` against a replay exchange over real sockets, in the running event loop. No tests here."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pydantic import SecretStr

from pipeline_assets.local.exchange.accounts.desk import DEFAULT_KEY, DEFAULT_SECRET
from pipeline_assets.market.trading_rules import units
from pipeline_assets.resources.binance_account import AccountClient
from pipeline_assets.services.gateway.preparation import prepare_symbols
from pipeline_assets.settings import (
    BinanceSettings,
    RedisSettings,
    Settings,
    TradingSettings,
)
from pipeline_assets.trading import messages
from pipeline_assets.trading.binance_venue import BinanceVenue
from pipeline_assets.trading.order_types import Order
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle

T = TypeVar("T")
SYMBOLS = ("BTCUSDT", "ETHUSDT")


def account_fields(exchange: ExchangeHandle) -> dict[str, Any]:
    """Return the fields of the section `trading` for a demo account on a replay exchange."""
    address = exchange.url.removesuffix("/fapi")
    stream = address.replace("http://", "ws://") + "/private/ws"
    return {
        "venue": "demo",
        "account": "desk-1",
        "rest_url": address,
        "stream_url": stream,
        "key_url": address,
        "api_key": SecretStr(DEFAULT_KEY),
        "api_secret": SecretStr(DEFAULT_SECRET),
    }


def settings_at(exchange: ExchangeHandle, redis_url: str, **trading: Any) -> Settings:
    """Return the settings of a demo account on a replay exchange."""
    fields = account_fields(exchange)
    return Settings(
        _env_file=None,
        symbols=SYMBOLS,
        binance=BinanceSettings(rest_url=fields["rest_url"]),
        redis=RedisSettings(url=redis_url),
        trading=TradingSettings(**(fields | trading)),
    )


def new_order(client_id: str, **changes: Any) -> Order:
    """Return a purchase of 0.01 BTC at the market, with changes."""
    fields: dict[str, Any] = {
        "client_id": client_id,
        "symbol": "BTCUSDT",
        "side": "buy",
        "kind": "market",
        "quantity": units("0.01"),
    }
    return Order(**(fields | changes))


def posts(exchange: ExchangeHandle) -> dict[str, int]:
    """Return how often each client id was posted, as the exchange counted it."""
    (account,) = exchange.trading()["accounts"].values()
    found: dict[str, int] = account["posts"]
    return found


class VenueBench:
    """A started venue, and what it reported."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], int] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.passed = 0.0
        self.account = AccountClient(
            settings, monotonic=lambda: monotonic() + self.passed, sleep=sleep
        )
        self.now = clock or self.account.now
        self.heard: list[messages.Event] = []
        self._news = asyncio.Condition()
        self.venue = BinanceVenue(self.account, settings.trading, SYMBOLS, self.time)

    def time(self) -> int:
        """Return the time by which the gateway decides; a test may replace `now`."""
        return self.now()

    def hear(self, event: messages.Event) -> None:
        self.heard.append(event)
        asyncio.ensure_future(self._notify())  # noqa: RUF006 - it only wakes those that wait

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    def of(self, kind: type[T]) -> list[T]:
        return [each for each in self.heard if isinstance(each, kind)]

    async def until(self, kind: type[T], fits: Callable[[T], bool] = lambda _: True) -> T:
        """Wait for a message of a kind; the test's own time limit ends the waiting."""
        async with self._news:
            while True:
                for each in self.of(kind):
                    if fits(each):
                        return each
                await self._news.wait()

    async def until_again(self, kind: type[T]) -> None:
        """Wait for a second message of a kind."""
        await self.until(kind, lambda _: len(self.of(kind)) > 1)

    async def send(self, order: Order, timestamp: int | None = None) -> messages.Event:
        at = self.now() if timestamp is None else timestamp
        return await self.venue.send(messages.Send(order, at, 5_000))


async def prepared(settings: Settings) -> None:
    """Set the account up as the settings say."""
    await asyncio.to_thread(prepare_symbols, settings, None)


@asynccontextmanager
async def venue_bench(settings: Settings) -> AsyncIterator[VenueBench]:
    """Start a venue whose account is set up, and stop it at the end."""
    await prepared(settings)
    bench = VenueBench(settings)
    await bench.venue.start(bench.hear)
    try:
        await bench.until(messages.StreamConnected)
        yield bench
    finally:
        await bench.venue.stop()
