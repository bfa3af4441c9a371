"""The market that both venues of the comparison trade on: the replay exchange's own rules, candles and
funding rates, read once by its public interface. No tests here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import ClientSession

from pipeline_assets.market.intervals import from_milliseconds, to_milliseconds
from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.market.step_tables import FundingRate, grid_of
from pipeline_assets.market.trading_rules import Grid, TradingRules, rules_from_filters, units
from pipeline_assets.trading import binance_stream, binance_upkeep, gateway
from pipeline_assets.trading.paper_book import MINUTE
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle, start_exchange

START = "2026-11-20T15:24:01Z"
"""Where the clock stands when a gateway starts; funding is due at 16:00.

An odd second: steps of two seconds never end where one minute's request weight becomes the next one's, which
requests would wait out."""

MINUTES = 56
"""Less than an hour: the listen key of the private stream is kept alive in real time only."""

_LOOK_SECONDS, _NEVER_SECONDS = 0.05, 86_400.0
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")


@contextmanager
def compared_exchange() -> Iterator[ExchangeHandle]:
    """Provide a replay exchange whose clock stands at the beginning.

    Loops that wait in real time look often, and the gateway's timer is left to the steps: two runs are equal.
    """
    with (
        pytest.MonkeyPatch.context() as patch,
        start_exchange(clock=f"stepped:{START}", symbols=",".join(SYMBOLS)) as handle,
    ):
        for module in (binance_stream, binance_upkeep):
            patch.setattr(module, "_LOOK_SECONDS", _LOOK_SECONDS)
        patch.setattr(gateway, "_TIMER_SECONDS", _NEVER_SECONDS)
        yield handle


@dataclass
class Market:
    """Rules, candles and rates that the exchange publishes about the compared time.

    Attributes:
        start, end: the clock's first and last time, in milliseconds.
        rules: by symbol.
        bars: by minute, counted from 1970, and symbol.
        rates: by minute and symbol.
    """

    start: int
    end: int
    rules: dict[str, TradingRules] = field(default_factory=dict)
    bars: dict[int, dict[str, Bar]] = field(default_factory=dict)
    rates: dict[int, dict[str, FundingRate]] = field(default_factory=dict)

    @property
    def grids(self) -> dict[str, tuple[Grid, TradingRules]]:
        """Grid and rules by symbol."""
        return {each: (grid_of(each, [rules]), rules) for each, rules in self.rules.items()}

    def tick(self, symbol: str) -> int:
        """Return the tick in 1e-8."""
        return units(self.rules[symbol].tick_size)

    def open(self, symbol: str, minute: int) -> int:
        """Return the price at which a minute opens, in 1e-8."""
        return units(self.bars[minute][symbol].open)

    def low(self, symbol: str, first: int, last: int) -> int:
        """Return the lowest price from one minute to another, both included, in 1e-8."""
        return min(units(self.bars[each][symbol].low) for each in range(first, last + 1))

    def high(self, symbol: str, first: int, last: int) -> int:
        """Return the highest price from one minute to another, both included, in 1e-8."""
        return max(units(self.bars[each][symbol].high) for each in range(first, last + 1))


async def read_market(exchange: ExchangeHandle) -> Market:
    """Read everything from the exchange as of the end, and set its clock back to the beginning."""
    exchange.reset()
    start = int(exchange.state()["now_ms"])
    market = Market(start, start // MINUTE * MINUTE + MINUTES * MINUTE)
    exchange.set_clock(market.end)
    async with ClientSession() as session:
        document = await _get(session, exchange, "exchangeInfo", {})
        for entry in document["symbols"]:
            market.rules[entry["symbol"]] = rules_from_filters(entry)
        for symbol in SYMBOLS:
            window = {
                "symbol": symbol,
                "startTime": start - start % MINUTE,
                "endTime": market.end - 1,
            }
            for row in await _get(
                session, exchange, "klines", window | {"interval": "1m", "limit": 99}
            ):
                bar = Bar(*(Decimal(each) for each in row[1:5]))
                market.bars.setdefault(row[0] // MINUTE, {})[symbol] = bar
            for row in await _get(session, exchange, "fundingRate", window):
                rate = FundingRate(
                    from_milliseconds(row["fundingTime"]),
                    Decimal(row["fundingRate"]),
                    Decimal(row["markPrice"]),
                )
                minute = to_milliseconds(rate.time) // MINUTE
                market.rates.setdefault(minute, {})[symbol] = rate
    exchange.reset()
    return market


async def _get(
    session: ClientSession, exchange: ExchangeHandle, name: str, query: dict[str, str | int]
) -> Any:
    async with session.get(f"{exchange.url}/v1/{name}", params=query) as response:
        response.raise_for_status()
        return await response.json()
