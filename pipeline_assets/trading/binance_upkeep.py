"""Things that a gateway at Binance keeps current beside its orders: the venue's clock, filters, leverage and
margin type by symbol, funding payments, and whether this address is shut out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.intervals import from_milliseconds
from pipeline_assets.resources.binance_account import (
    AccountClient,
)
from pipeline_assets.resources.binance_endpoints import (
    EXCHANGE_INFO,
    SYMBOL_CONFIG,
)
from pipeline_assets.settings import TradingSettings
from pipeline_assets.trading import messages
from pipeline_assets.trading.binance_checks import check_account
from pipeline_assets.trading.binance_orders import (
    OrderFilters,
    SymbolSetup,
    UnfitOrderError,
    filters_of,
    setups_of,
)
from pipeline_assets.trading.binance_queries import BinanceQueries
from pipeline_assets.trading.order_types import Order

_LOOK_SECONDS = 1.0
_RULES_SECONDS = 600.0
_HOUR = 3_600_000
# Payments are in the income a little after the full hour at which they are due.
_FUNDING_DELAY = 60_000
# Binance tells the income of a week at once; the ledger drops what it has, or what came before it began.
_FUNDING_SPAN = 7 * 24 * _HOUR
_logger = logging.getLogger(__name__)


class Upkeep:
    """Reads these things in turn, in the gateway's event loop.

    Attributes:
        filters: by symbol, those read last.
        setups: by symbol, leverage and margin type as last known.
    """

    def __init__(
        self,
        account: AccountClient,
        queries: BinanceQueries,
        trading: TradingSettings,
        symbols: Collection[str],
        clock: Callable[[], int],
    ) -> None:
        """Join the parts.

        Args:
            account: of the settings.
            queries: asks on this account.
            trading: what the account must be.
            symbols: whose setup is checked at the start; each entry's is checked again.
            clock: the time in milliseconds by which the gateway decides.
        """
        self.filters: dict[str, OrderFilters] = {}
        self.setups: dict[str, SymbolSetup] = {}
        self._account, self._queries, self._trading = account, queries, trading
        self._symbols, self._clock = symbols, clock
        self._hear: Callable[[messages.Event], None] = lambda _: None
        self._rules_due = self._setups_due = 0.0
        self._funding_due = self._funding_read = 0
        self._clock_wrong = False
        self._block_reported = 0

    async def begin(self, hear: Callable[[messages.Event], None]) -> None:
        """Read everything once, and check the account.

        Raises:
            AccountUnfitError: the account, the key or the clock is not as the settings say.
            OutsideSystemError: Binance does not answer.
        """
        self._hear = hear
        with self._account.patient():
            await self._account.synchronize()
            await self.read_filters()
            notes = await check_account(self._account, self._trading, self._symbols, self._clock)
            await self._read_setups()
        for note in notes:
            _logger.warning("At the start of account %s: %s.", self._trading.account, note)

    async def run(self) -> None:
        """Keep all of it current until cancelled. A question without an answer is asked again soon."""
        while True:
            now = self._account.clock.monotonic()
            if self._clock_wrong or self._account.clock.due:
                await self._logged(self._measure)
            if now >= self._rules_due:
                await self._logged(self.read_filters)
            if now >= self._setups_due:
                await self._logged(self._read_setups)
            if self._clock() >= self._funding_due:
                await self._logged(self._read_payments)
            await asyncio.sleep(_LOOK_SECONDS)

    async def watch_block(self) -> None:
        """Report until cancelled whether this address is shut out: meanwhile, the questions above wait."""
        while True:
            await self._logged(self._account.read_block)
            self.kept_back()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _logged(self, work: Callable[[], Awaitable[object]]) -> None:
        try:
            await work()
        except OutsideSystemError as error:
            # A reply that was cut ended these works for good, unseen: after the next step of the clock, the
            # venue refused every order (-1021).
            _logger.warning("The gateway goes on with what it knows of the venue: %s", error)

    def read_rules_soon(self) -> None:
        """Have filters and setups read in the next pass: the exchange refused what fits those known."""
        self._rules_due = self._setups_due = 0.0

    def read_payments_soon(self) -> None:
        """Have funding payments read in the next pass."""
        self._funding_due = 0

    def read_all_soon(self) -> None:
        """Have everything read that the stream reports, after it was interrupted."""
        self._setups_due = 0.0
        self._funding_due = 0

    def measure_soon(self) -> None:
        """Have the venue's time taken in the next pass."""
        self._clock_wrong = True

    def see_leverage(self, symbol: str, leverage: int) -> None:
        """Take over a leverage that someone set."""
        held = self.setups.get(symbol)
        self.setups[symbol] = SymbolSetup(leverage, held.margin_type if held else "")

    def require_setup(self, order: Order) -> None:
        """Return if the account has the leverage and margin type that an entry assumes.

        Raises:
            UnfitOrderError: the symbol has others, perhaps since a person changed these.
        """
        if order.reduce_only:
            return
        wanted = SymbolSetup(self._trading.leverage, self._trading.margin_type)
        held = self.setups.get(order.symbol)
        if held != wanted:
            has = f"{held.leverage} and {held.margin_type or 'unknown'}" if held else "unknown"
            raise UnfitOrderError(
                f"{order.symbol}: leverage and margin type are {has} at the venue, and the settings say "
                f"{wanted.leverage} and {wanted.margin_type}: run `pipeline-assets gateway prepare` while "
                "the symbol has no position"
            )
        if order.leverage not in (0, wanted.leverage):
            raise UnfitOrderError(
                f"the order is for leverage {order.leverage}, and PIPELINE_TRADING__LEVERAGE is "
                f"{wanted.leverage}: set it and the strategy's rules alike"
            )

    def kept_back(self) -> str:
        """Return why nothing may be sent now, or an empty text; a block is reported once."""
        until = self._account.blocked_until
        if not until:
            return ""
        # The venue's clock and the gateway's may differ a little.
        ends = until - self._account.now() + self._clock()
        text = f"this address may ask nothing until {from_milliseconds(ends):%Y-%m-%d %H:%M:%S} UTC"
        if until != self._block_reported:
            self._block_reported = until
            trouble = messages.VenueTrouble(
                messages.Trouble.BAN, ends, f"Binance shut the gateway out: {text}."
            )
            self._hear(trouble)
        return f"-1003: nothing was sent, because {text}"

    async def _measure(self) -> None:
        await self._account.measure()
        self._clock_wrong = False

    async def read_filters(self) -> None:
        """Read the filters of all symbols.

        Raises:
            OutsideSystemError: Binance does not answer, or its answer cannot be read.
        """
        document = await self._queries.document(EXCHANGE_INFO)
        # 900 symbols take a tenth of a second; orders must not wait for that.
        self.filters = await asyncio.to_thread(filters_of, document)
        self._rules_due = self._account.clock.monotonic() + _RULES_SECONDS

    async def _read_setups(self) -> None:
        self.setups = setups_of(await self._queries.document(SYMBOL_CONFIG))
        self._setups_due = self._account.clock.monotonic() + _RULES_SECONDS

    async def _read_payments(self) -> None:
        now = self._clock()
        since = max(self._funding_read - _HOUR, now - _FUNDING_SPAN)
        for payment in await self._queries.payments(since):
            self._hear(payment)
        self._funding_read = now
        self._funding_due = (now // _HOUR + 1) * _HOUR + _FUNDING_DELAY
