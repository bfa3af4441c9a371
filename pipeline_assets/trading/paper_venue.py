"""The paper venue: fills orders from closed candles, with a truth of its own that survives every restart. Its
rules of matching are in paper_matching.py; what brings the candles is not here.

Margin is isolated, by the leverage of the order that opens a position. Not modelled: partial fills, queues,
and whether the account has the money.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from pipeline_assets.errors import OutsideSystemError, PipelineError
from pipeline_assets.market.fill_formulas import FillFormulas
from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.market.position_keeper import Bar
from pipeline_assets.market.step_tables import FundingRate
from pipeline_assets.resources.journal import Journal, JournalDamagedError, JournalError
from pipeline_assets.trading import messages
from pipeline_assets.trading.order_types import Status
from pipeline_assets.trading.paper_book import MINUTE, PaperBook, PaperOrder
from pipeline_assets.trading.paper_matching import Matching
from pipeline_assets.trading.paper_records import (
    PAPER_RECORDS,
    AnyPaperRecord,
    PaperAccepted,
    PaperEnded,
    PaperFilled,
    PaperFunded,
    PaperLiquidated,
)


class PaperVenueError(OutsideSystemError):
    """The paper venue cannot go on. The message says why and what to do."""


class PaperVenue:
    """One account's paper exchange, in the gateway's event loop.

    Nothing is answered or reported before it is on the disk, so that the gateway never knows more than the
    venue remembers.
    """

    def __init__(
        self, journal: Journal, formulas: Mapping[str, FillFormulas], clock: Callable[[], int]
    ) -> None:
        """Continue from the journal.

        Args:
            journal: a file of the venue's own, used by no one else.
            formulas: prices and fees by symbol; other symbols are refused.
            clock: the time in milliseconds.

        Raises:
            JournalRecordError: the journal is damaged.
        """
        self._journal, self._formulas, self._clock = journal, formulas, clock
        self._book = PaperBook()
        for record in PAPER_RECORDS.read(journal):
            self._book.apply(record)
        self._hear: Callable[[messages.Event], None] = lambda _: None
        self._disk = ThreadPoolExecutor(1, "paper-journal")
        self._writing = asyncio.Lock()
        self._unwritten: list[AnyPaperRecord] = []
        self._failure: PipelineError | None = None
        self._opened: tuple[int, Mapping[str, Bar]] | None = None

    @property
    def book(self) -> PaperBook:
        """The state, to read."""
        return self._book

    async def start(self, hear: Callable[[messages.Event], None]) -> None:
        """Begin to report. Funding is reported again, since the gateway does not ask for it after a crash."""
        self._hear = hear
        for (symbol, time), amount in self._book.payments.items():
            hear(messages.FundingPaid(symbol, time, amount))

    async def stop(self) -> None:
        """End reporting, and wait for the disk."""
        self._hear = lambda _: None
        self._disk.shutdown()

    async def send(
        self, effect: messages.Send
    ) -> messages.Accepted | messages.Refused | messages.Unanswered:
        """Accept an order for the next candle. A known client id is never accepted again.

        Raises:
            JournalError: the order could not be stored; whether it was accepted, the next start knows.
        """
        order, now = effect.order, self._clock()
        client_id = order.client_id
        if order.symbol not in self._formulas:
            return messages.Refused(client_id, f"-1121: {order.symbol} is not traded here")
        if client_id in self._book.orders:
            return messages.Unanswered(client_id, "-4116: the client id is known already")
        if now > effect.timestamp + effect.recv_window:
            return messages.Refused(client_id, "-1021: the order came after its recvWindow")
        venue_id = f"paper-{len(self._book.orders) + 1}"
        accepted = PaperAccepted(at=now, order=order, venue_id=venue_id, after=self._book.matched)
        await self._store([self._applied(accepted)])
        return messages.Accepted(client_id, venue_id)

    async def cancel(
        self, client_id: str, symbol: str, *, conditional: bool = False
    ) -> messages.CancelAnswered:
        """Cancel an order that waits.

        Raises:
            JournalError: the cancel could not be stored.
        """
        gone = client_id not in self._book.open
        if not gone:
            ended = PaperEnded(
                at=self._clock(), client_id=client_id, status=Status.CANCELED, reason="cancelled"
            )
            await self._store([self._applied(ended)])
        return messages.CancelAnswered(client_id, gone)

    async def ask_order(
        self, client_id: str, symbol: str, *, conditional: bool = False
    ) -> messages.OrderSeen | messages.OrderMissing:
        """Return an order's state.

        Raises:
            JournalError: the journal failed before.
        """
        asked_at = self._clock()
        await self._store([])
        if client_id not in self._book.orders:
            return messages.OrderMissing(client_id, asked_at)
        return self._seen(client_id)

    async def ask_trades(self, symbol: str, since: int) -> messages.TradesRead:
        """Return a symbol's fills that happened, or were booked, from a time on.

        Raises:
            JournalError: the journal failed before.
        """
        asked_at = self._clock()
        await self._store([])
        found = (
            fill
            for booked, fill in self._book.fills
            if fill.symbol == symbol and max(booked, fill.time) >= since
        )
        return messages.TradesRead(symbol, since, asked_at, tuple(found))

    async def ask_positions(self) -> messages.PositionsRead:
        """Return all positions.

        Raises:
            JournalError: the journal failed before.
        """
        asked_at = self._clock()
        await self._store([])
        return messages.PositionsRead(asked_at, dict(self._book.positions))

    async def ask_open_orders(self) -> messages.OpenOrdersRead:
        """Return the orders that wait.

        Raises:
            JournalError: the journal failed before.
        """
        asked_at = self._clock()
        await self._store([])
        return messages.OpenOrdersRead(asked_at, tuple(map(_open_order, self._book.waiting())))

    async def ask_filters(self) -> messages.FiltersRead:
        """Return at once: paper orders are not rounded, and the core checks the lake's filters."""
        return messages.FiltersRead()

    async def on_candles(self, minute: int, bars: Mapping[str, Bar]) -> None:
        """Fill market orders at the open of a minute, counted from 1970, having settled the minute before.

        A minute that was settled already changes nothing.

        Args:
            minute: of the candles' open time.
            bars: a symbol without a candle has a gap.

        Raises:
            JournalError: the fills could not be stored.
        """
        await self.settle()
        if minute <= self._book.matched:
            return
        self._opened = (minute, bars)
        await self._store(list(self._matching().open(minute, self._known(bars))))

    async def settle(self) -> None:
        """Fill stops and targets in the range of the newest candles, for orders that rest by now; liquidate.

        Raises:
            JournalError: the fills could not be stored.
        """
        if self._opened is None:
            return
        minute, bars = self._opened
        self._opened = None
        found = list(self._matching().range(minute, self._known(bars)))
        self._book.matched = minute
        await self._store(found)

    async def on_funding(
        self, rates: Mapping[str, FundingRate], prices: Mapping[str, int] | None = None
    ) -> None:
        """Charge funding rates, once each, to the positions held when their minutes opened.

        Args:
            rates: by symbol; a rate that is unknown, or of a symbol without rules, can come again later.
            prices: the opens of these minutes, in 1e-8, for rates without a mark price.

        Raises:
            JournalError: the payments could not be stored.
        """
        paid = []
        for symbol, rate in rates.items():
            time = to_milliseconds(rate.time) // MINUTE * MINUTE
            quantity = self._book.position_before(symbol, time)
            price = (prices or {}).get(symbol, 0)
            known = rate.rate is not None and (rate.mark_price or price)
            paid_already = (symbol, time) in self._book.payments
            if not quantity or not known or paid_already or symbol not in self._formulas:
                continue
            amount = self._formulas[symbol].funding(quantity, rate, price)
            record = PaperFunded(at=self._clock(), symbol=symbol, time=time, amount=amount)
            paid.append(self._applied(record))
        await self._store(paid)

    def _matching(self) -> Matching:
        return Matching(self._book, self._formulas, self._clock())

    def _known(self, bars: Mapping[str, Bar]) -> dict[str, Bar]:
        return {symbol: bar for symbol, bar in bars.items() if symbol in self._formulas}

    def _applied(self, record: AnyPaperRecord) -> AnyPaperRecord:
        self._book.apply(record)
        return record

    async def _store(self, records: Iterable[AnyPaperRecord]) -> None:
        """Wait until these records and all before are on the disk, then report these."""
        new = list(records)
        self._unwritten += new
        async with self._writing:
            if self._failure:
                raise self._failure
            if self._unwritten:
                bodies = [PAPER_RECORDS.encode(each) for each in self._unwritten]
                self._unwritten = []
                try:
                    loop = asyncio.get_running_loop()
                    await loop.run_in_executor(self._disk, self._journal.append, bodies)
                except (JournalError, JournalDamagedError) as error:
                    # The state has records that the disk has not: nothing may be answered from it.
                    self._failure = error
                    raise
        for record in new:
            self._report(record)

    def _report(self, record: AnyPaperRecord) -> None:
        match record:
            case PaperFilled():
                self._hear(messages.FillSeen(record.fill))
                self._hear(self._seen(record.fill.client_id))
            case PaperLiquidated():
                self._hear(messages.FillSeen(record.fill))
            case PaperEnded():
                self._hear(self._seen(record.client_id))
            case PaperFunded():
                self._hear(messages.FundingPaid(record.symbol, record.time, record.amount))

    def _seen(self, client_id: str) -> messages.OrderSeen:
        held = self._book.orders[client_id]
        return messages.OrderSeen(client_id, held.venue_id, held.status, held.executed)


def _open_order(held: PaperOrder) -> messages.OpenOrder:
    order = held.order
    return messages.OpenOrder(
        symbol=order.symbol,
        client_id=order.client_id,
        venue_id=held.venue_id,
        kind=order.kind,
        side=order.side,
        quantity=order.quantity,
        price=order.price,
        conditional=order.conditional,
        reduce_only=order.reduce_only,
    )
