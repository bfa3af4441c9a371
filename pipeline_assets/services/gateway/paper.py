"""The paper venue in the gateway's process: it reads fresh minutes, rules and funding rates by itself. The
matching is in trading/paper_venue.py.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from typing import Any

from pipeline_assets.collection.overview import collected_symbols
from pipeline_assets.errors import DataError, OutsideSystemError
from pipeline_assets.market.fill_formulas import FillFormulas
from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.market.step_tables import FillModel, grid_of
from pipeline_assets.market.trading_rules import Fees
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.journal import JournalDamagedError, JournalError
from pipeline_assets.resources.journals import open_journal
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.slots import CandleSlots
from pipeline_assets.resources.trading_documents import read_trading_documents
from pipeline_assets.services.gateway.feed import AFTER_REDIS
from pipeline_assets.services.gateway.paper_rates import stored_rates
from pipeline_assets.settings import Settings
from pipeline_assets.trading import messages
from pipeline_assets.trading.minute_feed import MinuteFeed
from pipeline_assets.trading.paper_venue import PaperVenue, PaperVenueError

_PERIOD_SECONDS = 2.0
# The trader has this long after a fill at the open to place stop and target for the same candle.
_SETTLE_SECONDS = 10.0
_RULES_SECONDS = 60.0
# Each reading costs a second of processor time.
_FUNDING_SECONDS = 900.0
_FUNDING_SPAN = timedelta(days=2)
_logger = logging.getLogger(__name__)


class LivePaperVenue(PaperVenue):
    """The paper venue of an account, fed from the slots while it is started."""

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Continue from the account's paper journal, beside the gateway's own.

        Raises:
            JournalError, JournalDamagedError, JournalRecordError: the journal cannot be read.
        """
        self._file = open_journal(settings.trading, settings.data_dir, "paper")
        self._prices: dict[str, FillFormulas] = {}
        super().__init__(self._file, self._prices, clock)
        self._settings, self._now, self._monotonic = settings, clock, monotonic
        self._lake, self._slots = (
            ObjectStore(settings.s3),
            CandleSlots(settings.redis, then=AFTER_REDIS),
        )
        self._feed = MinuteFeed()
        self._task: asyncio.Task[None] | None = None

    async def start(self, hear: Callable[[messages.Event], None]) -> None:
        """Begin to match and to report. The minutes that the slots still hold are matched first."""
        await super().start(hear)
        # Repeats change nothing, so all that the slots hold may be matched again.
        self._feed.after = max(self.book.matched, 0)
        await self._logged(self.read_rules)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End matching and reporting."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, JournalError, JournalDamagedError):
                await self._task
        await super().stop()
        self._file.close()

    async def _run(self) -> None:
        """Match until cancelled. A venue that cannot go on answers no call any more, which alarms people."""
        try:
            await self._go_on()
        except Exception as error:
            self._failure = PaperVenueError(
                f"The paper venue ended ({type(error).__name__}: {error}). Start the gateway again."
            )
            _logger.exception("The paper venue ended; orders are filled no more.")

    async def _go_on(self) -> None:
        begun = self._monotonic()
        rules_due, funding_due, settled_at = begun + _RULES_SECONDS, begun, begun
        while True:
            if self._monotonic() >= rules_due or not self._prices:
                rules_due = self._monotonic() + _RULES_SECONDS
                await self._logged(self.read_rules)
            if self._monotonic() >= funding_due:
                funding_due = self._monotonic() + _FUNDING_SECONDS
                await self._logged(self.charge_funding)
            if await self._logged(self.match_fresh):
                settled_at = self._monotonic() + _SETTLE_SECONDS
            if self._monotonic() >= settled_at:
                await self.settle()
            await asyncio.sleep(_PERIOD_SECONDS)

    async def _logged(self, work: Callable[[], Any]) -> Any:
        """Do a part of the work; what does not answer is asked again later.

        Raises:
            JournalError, JournalDamagedError: nothing can be stored; the venue is finished.
        """
        try:
            return await work()
        except (JournalError, JournalDamagedError):
            raise
        except (OutsideSystemError, DataError) as error:
            _logger.warning("The paper venue goes on with what it knows: %s", error)
            return None

    async def match_fresh(self) -> bool:
        """Match the opens of minutes that are new in the slots; return whether there was one.

        Raises:
            SlotsError: Redis failed.
            JournalError: the fills could not be stored.
        """
        if not self._feed.expects(self._now()):
            return False
        slots = await asyncio.to_thread(self._slots.candles, list(self._prices))
        found = self._feed.due(self._now(), slots)
        for minute, bars in found:
            await self.on_candles(minute, bars)
        return bool(found)

    async def read_rules(self) -> None:
        """Take over symbols, rules and fees from the lake, where these changed.

        Raises:
            ObjectStoreError: S3 failed.
        """
        self._prices.update(await asyncio.to_thread(self._stored_formulas))

    def _stored_formulas(self) -> Mapping[str, FillFormulas]:
        symbols = collected_symbols(self._settings, self._lake)
        held = read_trading_documents(self._lake, symbols)
        fees = held.fees[-1].value if held.fees else Fees()
        model = FillModel(slippage=Decimal(repr(self._settings.backtest.slippage)))
        return {
            symbol: FillFormulas(grid_of(symbol, [dated[-1].value]), dated[-1].value, fees, model)
            for symbol, dated in held.rules.items()
            if dated and self._differs(symbol, dated[-1].value, fees)
        }

    def _differs(self, symbol: str, rules: Any, fees: Fees) -> bool:
        known = self._prices.get(symbol)
        return known is None or (known.rules, known.fees) != (rules, fees)

    async def charge_funding(self) -> None:
        """Charge the rates of the newest days that are on the lake; each is charged once.

        Raises:
            RatesUnreadableError: the lake does not answer, or an object is damaged.
            JournalError: the payments could not be stored.
        """
        traded = {fill.symbol for _, fill in self.book.fills}
        if not traded:
            return
        now = from_milliseconds(self._now())
        window = Window(now - _FUNDING_SPAN, now)
        rates = await asyncio.to_thread(stored_rates, self._settings.s3, sorted(traded), window)
        for symbol, rate in rates:
            await self.on_funding({symbol: rate})
