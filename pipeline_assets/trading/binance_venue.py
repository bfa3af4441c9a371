"""The venues `demo` and `live`: an account at Binance USD-M Futures. Sending and cancelling are here;
questions are in binance_queries.py, the stream in binance_stream.py, upkeep in binance_upkeep.py.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from http import HTTPStatus

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.trading_rules import UNIT
from pipeline_assets.resources.binance_account import (
    AccountClient,
    Parameters,
    UnansweredError,
)
from pipeline_assets.resources.binance_client import Reply
from pipeline_assets.resources.binance_endpoints import (
    CANCEL_ORDER,
    CANCEL_STOP,
    NEW_ORDER,
    NEW_STOP,
)
from pipeline_assets.settings import TradingSettings
from pipeline_assets.trading import messages
from pipeline_assets.trading.binance_answers import (
    KEY_CODES,
    Problem,
    is_missing,
    json_object,
    order_answer,
    problem_of,
)
from pipeline_assets.trading.binance_events import FundingDue, LeverageChanged, StreamEvent
from pipeline_assets.trading.binance_orders import UnfitOrderError, parameters_of
from pipeline_assets.trading.binance_queries import BinanceQueries, VenueRefusedError
from pipeline_assets.trading.binance_replies import TriggeredOrders, order_seen, reading
from pipeline_assets.trading.binance_stream import PrivateStream
from pipeline_assets.trading.binance_upkeep import Upkeep
from pipeline_assets.trading.messages import Trouble, VenueTrouble
from pipeline_assets.trading.order_types import Order, Status
from pipeline_assets.trading.part_ends import report_end
from pipeline_assets.trading.refusals import FILTER_CODES, UNFIT

_BAD_TIMESTAMP = -1021
_SHUTTING_DOWN = -1016


class BinanceVenue:
    """One account at Binance. Every order is one POST at most, and every answer is read by its meaning."""

    def __init__(
        self,
        account: AccountClient,
        trading: TradingSettings,
        symbols: Collection[str],
        clock: Callable[[], int],
    ) -> None:
        """Join the parts; nothing is sent before `start`.

        Args:
            account: of the settings, not opened yet.
            trading: what the account must be.
            symbols: whose setup is checked at the start.
            clock: the time in milliseconds by which the gateway decides.
        """
        self._account, self._clock = account, clock
        self._hear: Callable[[messages.Event | messages.PartEnded], None] = lambda _: None
        triggered = TriggeredOrders()
        self._triggered = triggered
        self.queries = BinanceQueries(account, triggered, clock, self._heed)
        self.stream = PrivateStream(account, triggered, self._take, self._connected)
        self.upkeep = Upkeep(account, self.queries, trading, symbols, clock)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, hear: Callable[[messages.Event | messages.PartEnded], None]) -> None:
        """Check the account, and begin to report.

        Raises:
            AccountUnfitError: the account, the key or the clock is not as the settings say.
            OutsideSystemError: Binance does not answer.
        """
        self._hear = hear
        try:
            await self._account.open()
            await self.upkeep.begin(hear)
        except BaseException:
            await self._account.close()
            raise
        works = (self.stream.run(), self.upkeep.run(), self.upkeep.watch_block())
        self._tasks = [asyncio.create_task(each) for each in works]
        for task in self._tasks:
            task.add_done_callback(lambda ended: report_end(ended, self._hear))

    async def stop(self) -> None:
        """End reporting, and close the connections."""
        self._hear = lambda _: None
        for task in self._tasks:
            task.cancel()
        try:
            # An error that ended one was reported when it did.
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            # A gateway that fails is cancelled as well by its process: the second cancel ends the wait.
            await self._account.close()

    async def send(
        self, effect: messages.Send
    ) -> messages.Accepted | messages.Refused | messages.Unanswered:
        """Send an order, once. An order that is refused here never left."""
        order = effect.order
        try:
            parameters = parameters_of(order, self.upkeep.filters.get(order.symbol))
            self.upkeep.require_setup(order)
        except UnfitOrderError as error:
            self.upkeep.read_rules_soon()
            return messages.Refused(order.client_id, f"{UNFIT}: {error}")
        kept_back = self.upkeep.kept_back()
        if kept_back:
            return messages.Refused(order.client_id, kept_back)
        now = self._clock()
        if now > effect.timestamp + effect.recv_window:
            return messages.Refused(order.client_id, "-1021: the order waited too long to be sent")
        timestamp = effect.timestamp + self._account.earliest() - now
        endpoint = NEW_STOP if order.conditional else NEW_ORDER
        self.stream.announce(order.client_id)
        try:
            reply = await self._account.send(endpoint, parameters, timestamp, effect.recv_window)
        except UnansweredError as error:
            self.stream.forget(order.client_id)
            return messages.Unanswered(order.client_id, str(error))
        return self._answered(order, reply)

    def _answered(
        self, order: Order, reply: Reply
    ) -> messages.Accepted | messages.Refused | messages.Unanswered:
        if reply.order_counts:
            self._hear(messages.OrderCounts(*reply.order_counts))
        found = order_answer(
            order.client_id, reply.status, reply.body, conditional=order.conditional
        )
        if isinstance(found, messages.Accepted):
            self.stream.expect(order.client_id)
            if not order.conditional:
                self.queries.note(order.symbol, found.venue_id, order.client_id)
                self._report_end(reply)
            return found
        self.stream.forget(order.client_id)
        if reply.status // 100 != 2:
            self._heed(problem_of(reply.status, reply.body))
        return found

    def _report_end(self, reply: Reply) -> None:
        """Report an order that ended at once without being filled; fills come by the stream."""
        with suppress(OutsideSystemError), reading("a new order"):
            seen = order_seen(json_object(reply.body) or {}, self._triggered)
            if seen.status in (Status.CANCELED, Status.EXPIRED, Status.REJECTED):
                self._hear(seen)

    async def cancel(
        self, client_id: str, symbol: str, *, conditional: bool = False
    ) -> messages.CancelAnswered:
        """Cancel an order.

        Raises:
            OutsideSystemError: no answer that says anything about the order.
        """
        name = "clientAlgoId" if conditional else "origClientOrderId"
        wanted: Parameters = {"symbol": symbol, name: client_id}
        reply = await self._account.ask(CANCEL_STOP if conditional else CANCEL_ORDER, wanted)
        if reply.status == HTTPStatus.OK:
            return messages.CancelAnswered(client_id, gone=False)
        problem = problem_of(reply.status, reply.body)
        if is_missing(problem):
            return messages.CancelAnswered(client_id, gone=True)
        self._heed(problem)
        raise VenueRefusedError(f"the cancel of {client_id}", problem)

    async def ask_order(
        self, client_id: str, symbol: str, *, conditional: bool = False
    ) -> messages.OrderSeen | messages.OrderMissing:
        """See `BinanceQueries.order`."""
        return await self.queries.order(client_id, symbol, conditional=conditional)

    async def ask_trades(self, symbol: str, since: int) -> messages.TradesRead:
        """See `BinanceQueries.trades`."""
        return await self.queries.trades(symbol, since)

    async def ask_positions(self) -> messages.PositionsRead:
        """See `BinanceQueries.positions`."""
        return await self.queries.positions()

    async def ask_open_orders(self) -> messages.OpenOrdersRead:
        """See `BinanceQueries.open_orders`."""
        return await self.queries.open_orders()

    async def ask_filters(self) -> messages.FiltersRead:
        """Read the filters anew.

        Raises:
            OutsideSystemError: Binance does not say them.
        """
        await self.upkeep.read_filters()
        filters = self.upkeep.filters.items()
        return messages.FiltersRead(
            {symbol: int(each.market_lots.most * UNIT) for symbol, each in filters}
        )

    def _take(self, event: StreamEvent) -> None:
        match event:
            case messages.OrderSeen() | messages.FillSeen():
                self._hear(event)
            case FundingDue():
                self.upkeep.read_payments_soon()
            case LeverageChanged():
                self.upkeep.see_leverage(event.symbol, event.leverage)

    def _connected(self) -> None:
        self.upkeep.read_all_soon()
        self._hear(messages.StreamConnected())

    def _heed(self, problem: Problem) -> None:
        """Act on what an error says about more than its own request."""
        if problem.code in FILTER_CODES:
            self.upkeep.read_rules_soon()
        if problem.code == _BAD_TIMESTAMP:
            self.upkeep.measure_soon()
        if problem.code in KEY_CODES:
            text = f"Binance does not accept the key: {problem}. Check its rights and its IP list."
            self._hear(VenueTrouble(Trouble.KEY, 0, text))
        elif problem.code == _SHUTTING_DOWN or (
            problem.status == HTTPStatus.SERVICE_UNAVAILABLE
            and problem.text == "Service Unavailable."
        ):
            self._hear(VenueTrouble(Trouble.MAINTENANCE, 0, f"Binance does not serve: {problem}."))
