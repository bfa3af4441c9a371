"""The gateway's view of the market: the newest closes from the slots, the trading rules from the lake, and
the exchange's clock. A system that does not answer leaves the last view; prices then grow stale, and the
core refuses.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from decimal import Decimal
from typing import Self

from pipeline_assets.collection.overview import collected_symbols
from pipeline_assets.errors import DataError, OutsideSystemError
from pipeline_assets.market.trading_rules import UNIT, TradingRules
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.exchange_clock import MINUTE_MS, ExchangeClock
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.slots import CandleSlots
from pipeline_assets.resources.trading_documents import read_trading_documents
from pipeline_assets.resources.weight_budget import Priority
from pipeline_assets.settings import Settings
from pipeline_assets.trading.messages import PriceSeen

_PERIOD_SECONDS = 5.0
_RULES_SECONDS = 60.0
# The next step of a person once Redis works again, for the errors of market and venue.
AFTER_REDIS = (
    "wait: the gateway asks and sends nothing until then; restart it if its settings changed"
)
_logger = logging.getLogger(__name__)


class MarketFeed:
    """Reads the market in threads, and hands it to the gateway in the event loop. A context manager.

    Attributes:
        rules: by symbol, those seen last; changed in the event loop only.
    """

    def __init__(
        self, settings: Settings, weight: int, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the market of some settings.

        Args:
            settings: of the gateway.
            weight: request weight of each minute that is kept for the gateway.
            monotonic: a clock in seconds that only goes forward.
        """
        self.rules: dict[str, TradingRules] = {}
        self._settings, self._weight, self._monotonic = settings, weight, monotonic
        self._clock = ExchangeClock(monotonic)
        self._access = Exchange(settings, AFTER_REDIS)
        self._exchange = self._access.client(Priority.GATEWAY, patient=False)
        self._slots = CandleSlots(settings.redis, then=AFTER_REDIS)
        self._store = ObjectStore(settings.s3)
        self._symbols: Sequence[str] = ()
        self._rules_due = 0.0
        self._complete = -1
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        """Open the connection to the exchange."""
        self._opened.enter_context(self._exchange)
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        try:
            self._opened.close()
        except OutsideSystemError as error:
            # The weight of the last replies is reported at the close. With Redis away, this error took the
            # place of the one that had ended the gateway.
            _logger.warning("The last request weight was not reported: %s", error)

    def now(self) -> int:
        """Return the exchange's time in milliseconds."""
        return self._clock.now_ms()

    async def begin(self) -> None:
        """Take the exchange's time, and the rules as far as the lake has these.

        Raises:
            ExchangeUnreachableError: the exchange does not say its time.
        """
        await asyncio.to_thread(self._measure)
        await self._logged(self._read_rules)

    async def run(self, hear: Callable[[PriceSeen], None]) -> None:
        """Report new closes, and keep rules and clock current, until cancelled."""
        while True:
            if self._clock.due:
                self._clock.postpone()
                await self._logged(lambda: asyncio.to_thread(self._measure))
            if self._monotonic() >= self._rules_due:
                await self._logged(self._read_rules)
            await self._logged(lambda: self._report_prices(hear))
            await asyncio.sleep(_PERIOD_SECONDS)

    async def _logged(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (OutsideSystemError, DataError) as error:
            _logger.warning("The gateway goes on with what it knows: %s", error)

    def _measure(self) -> None:
        self._clock.sample(self._exchange.server_time)
        self._access.reserve_gateway_share(self._weight, self.now())

    async def _read_rules(self) -> None:
        symbols, rules = await asyncio.to_thread(self._stored_rules)
        self._symbols = symbols
        self.rules.update(rules)
        # Before the first ingest run the lake has none.
        self._rules_due = self._monotonic() + (_RULES_SECONDS if self.rules else 0.0)

    def _stored_rules(self) -> tuple[Sequence[str], dict[str, TradingRules]]:
        symbols = collected_symbols(self._settings, self._store)
        dated = read_trading_documents(self._store, symbols).rules
        return symbols, {symbol: each[-1].value for symbol, each in dated.items() if each}

    async def _report_prices(self, hear: Callable[[PriceSeen], None]) -> None:
        """Report the newest closes, until all symbols of the minute before have one of the newest minute."""
        minute = self.now() // MINUTE_MS - 1
        if minute <= self._complete:
            return
        closes = await asyncio.to_thread(self._slots.newest_closes, self._symbols)
        for symbol, (close, close_time) in closes.items():
            hear(PriceSeen(symbol, round(Decimal(repr(close)) * UNIT), close_time))
        minutes = {close_time // MINUTE_MS for _, close_time in closes.values()}
        if minute in minutes and minute - 1 not in minutes:
            self._complete = minute
