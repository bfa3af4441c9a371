"""The shell around the core: events come in, records become durable, then effects are carried out.

Events that arrive while records are being written wait and are written together: one fsync serves many
orders. Doors (gRPC, HTTP) and the process around them are in services/.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Protocol, TypeVar

from pipeline_assets.errors import OutsideSystemError, PipelineError
from pipeline_assets.resources.journal import Journal
from pipeline_assets.trading import messages
from pipeline_assets.trading.core import GatewayCore
from pipeline_assets.trading.invariants import InvariantError
from pipeline_assets.trading.journal_places import require_record
from pipeline_assets.trading.part_ends import report_end
from pipeline_assets.trading.records import GATEWAY_RECORDS, AnyRecord
from pipeline_assets.trading.state import GatewayState
from pipeline_assets.trading.venue import Venue

T = TypeVar("T")
Wish = (
    messages.Place | messages.Cancel | messages.Close | messages.SetMode | messages.ResumeSymbol
    | messages.Flatten | messages.BindVenue
)  # fmt: skip
_BATCH = 500
PAGE = 500
_TIMER_SECONDS = 0.5
_PAUSE_SECONDS = 4 * _TIMER_SECONDS
_logger = logging.getLogger(__name__)


class GatewayStoppedError(OutsideSystemError):
    """The gateway stopped. The message says why. A caller without an answer has no order at the venue."""


class Fence(Protocol):
    """The right to send orders for an account: a lease that one gateway holds."""

    def holds(self) -> bool:
        """Return whether this gateway holds the lease, as the lease's store says."""


class Gateway:
    """One account's gateway. All methods but `run` return after what they report is durable."""

    def __init__(
        self,
        core: GatewayCore,
        journal: Journal,
        venue: Venue,
        clock: Callable[[], int],
        fence: Fence,
        alarm: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Join the parts.

        Args:
            core: begun from the journal's records.
            journal: used by one thread of this object only.
            venue: where orders go.
            clock: the exchange's time in milliseconds.
            fence: checked before orders leave.
            alarm: takes what a person should know.
            monotonic: seconds that no one sets, by which a pause of the process is noticed.
        """
        self._core, self._journal, self._venue = core, journal, venue
        self._clock, self._fence, self._alarm = clock, fence, alarm
        self._monotonic, self._stepped_at = monotonic, monotonic()
        self._events: asyncio.Queue[messages.Event | messages.PartEnded] = asyncio.Queue()
        self._disk = ThreadPoolExecutor(1, "journal")
        self._requests = count(1)
        self._callers: dict[int, asyncio.Future[messages.Reply]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._written, self._durable = asyncio.Condition(), journal.last
        self._step_under_way = asyncio.Lock()
        self._failure: PipelineError | None = None

    @property
    def state(self) -> GatewayState:
        """The state, to read on the event loop's thread."""
        return self._core.state

    @property
    def last(self) -> int:
        """The number of the newest record that is durable; 0 before the first."""
        return self._durable

    def hear(self, event: messages.Event | messages.PartEnded) -> None:
        """Take an event of the venue, of the market or of time, or the end of a part: the gateway stops."""
        self._events.put_nowait(event)

    async def ask(self, wish: Wish) -> messages.Reply:
        """Hand in a caller's wish; returns once the outcome is durable.

        A caller that is cancelled before its order was decided about has no order; one that is cancelled
        later has the whole order, as `state` shows.

        Raises:
            GatewayStoppedError: the gateway stopped before it could answer.
        """
        self.require_running()
        request = next(self._requests)
        answer: asyncio.Future[messages.Reply] = asyncio.get_running_loop().create_future()
        self._callers[request] = answer
        self.hear(replace(wish, request=request))
        try:
            return await answer
        finally:
            self._callers.pop(request, None)

    def require_running(self) -> None:
        """Return if the gateway runs.

        Raises:
            GatewayStoppedError: the gateway stopped; the message says why.
        """
        if self._failure:
            raise GatewayStoppedError(str(self._failure))

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[GatewayState]:
        """Give the state between two steps: the journal has all of it. Steps wait for the block's end.

        Raises:
            GatewayStoppedError: the gateway stopped.
        """
        async with self._step_under_way:
            self.require_running()
            yield self._core.state

    async def page(self, after: int) -> list[tuple[int, AnyRecord]]:
        """Return the journal's next records above a number, at most PAGE.

        Raises:
            GatewayStoppedError: the gateway stopped.
            JournalError, JournalDamagedError, JournalRecordError: the journal cannot be read.
        """
        self.require_running()
        page = await self._on_disk(partial(self._page, after))
        return [(number, GATEWAY_RECORDS.decode(number, body)) for number, body in page]

    async def follow(self, after: int) -> AsyncGenerator[tuple[int, AnyRecord], None]:
        """Yield the records above a number, old ones first, then new ones as they become durable.

        Raises:
            BeyondJournalError: the journal ends before the number.
            GatewayStoppedError: the gateway stopped.
        """
        require_record(after, self._durable)
        while True:
            page = await self.page(after)
            for number, record in page:
                yield number, record
                after = number
            if len(page) == PAGE:
                continue
            async with self._written:
                # Checked under the lock: what was written, or ended, since the page was read must not be
                # slept over. A slow reader waited for the next record otherwise, perhaps for hours.
                self.require_running()
                if self._durable <= after:
                    await self._written.wait()

    async def run(self) -> None:
        """Handle events until cancelled.

        Raises:
            PipelineError: the journal failed, or a part broke its promise. Nothing is sent after that.
        """
        timer: asyncio.Task[None] | None = None
        try:
            await self._venue.start(self.hear)
            timer = asyncio.create_task(self._tick())
            timer.add_done_callback(lambda task: report_end(task, self.hear))
            self.hear(messages.Restarted())
            self._stepped_at = self._monotonic()
            while True:
                batch = [await self._events.get()]
                while len(batch) < _BATCH and not self._events.empty():
                    batch.append(self._events.get_nowait())
                async with self._step_under_way:
                    await self._step([*self._pause(), *_events(batch)])
        except PipelineError as error:
            self._failure = error
            raise
        finally:
            self._failure = self._failure or GatewayStoppedError("The gateway was stopped.")
            if timer is not None:
                timer.cancel()
            await self._end()

    def _pause(self) -> list[messages.Event]:
        """Return the event of a pause if no step began for seconds, though the timer asks for two a second.

        It comes before the events that waited: the first of these must not act on the absence of the others.
        """
        before, self._stepped_at = self._stepped_at, self._monotonic()
        return [messages.Paused()] if self._stepped_at - before > _PAUSE_SECONDS else []

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for answer in self._callers.values():
            if not answer.done():
                answer.set_exception(GatewayStoppedError(str(self._failure)))
        async with self._written:
            self._written.notify_all()
        await self._venue.stop()
        self._disk.shutdown()

    async def _step(self, batch: Iterable[messages.Event]) -> None:
        """Handle events, store their records in one go, and carry out what they cause.

        Raises:
            InvariantError: a promise is broken. Earlier events are done, and `HALTED` is stored, so that
                the next start opens nothing.
        """
        works, broken = [], None
        for event in batch:
            if isinstance(event, messages.Place) and self._left(event.request):
                # Its caller's deadline passed before this step: the order is not placed at all.
                continue
            now = self._clock()
            try:
                works.append(self._core.handle(event, now))
            except InvariantError as error:
                broken = error
                works.append(self._core.halt(error, now))
                break
        bodies = [GATEWAY_RECORDS.encode(record) for work in works for record in work.recorded]
        if bodies:
            self._durable = await self._on_disk(lambda: self._journal.append(bodies))
            async with self._written:
                self._written.notify_all()
        effects = [effect for work in works for effect in work.effects]
        if any(isinstance(effect, messages.Send) for effect in effects):
            await self._check_fence()
        for effect in effects:
            self._carry_out(effect)
        if broken:
            raise broken

    def _left(self, request: int) -> bool:
        """Return whether a request's caller has left; request 0 never had one."""
        return request != 0 and request not in self._callers

    async def _check_fence(self) -> None:
        """Check the lease.

        Raises:
            GatewayStoppedError: another gateway may act for the account. The orders were not sent; the
                next start finds them journalled and resolves them like any unknown order.
        """
        if not await asyncio.to_thread(self._fence.holds):
            raise GatewayStoppedError(
                "The lease of this account is lost: another gateway may be running. Nothing was sent "
                "since. Stop one of the two, and start this one again."
            )

    def _carry_out(self, effect: messages.Effect) -> None:
        match effect:
            case messages.Reply():
                caller = self._callers.get(effect.request)
                if caller and not caller.done():
                    caller.set_result(effect)
            case messages.Alarm():
                self._alarm(effect.message)
            case messages.Send():
                self._begin(self._send(effect))
            case _:
                self._begin(self._ask(self._question(effect)))

    def _question(self, effect: messages.Question) -> Coroutine[None, None, messages.Event]:
        """Return what a cancel or a question asks of the venue; its answer is an event."""
        match effect:
            case messages.SendCancel(client_id, symbol, conditional):
                return self._venue.cancel(client_id, symbol, conditional=conditional)
            case messages.AskOrder(client_id, symbol, conditional):
                return self._venue.ask_order(client_id, symbol, conditional=conditional)
            case messages.AskTrades(symbol, since):
                return self._venue.ask_trades(symbol, since)
            case messages.AskPositions():
                return self._venue.ask_positions()
            case messages.AskOpenOrders():
                return self._venue.ask_open_orders()
            case messages.AskFilters():
                return self._venue.ask_filters()

    def _begin(self, answer: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(answer)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, effect: messages.Send) -> None:
        """Send an order. A failure never sends the order again."""
        client_id = effect.order.client_id
        try:
            event: messages.Event = await self._venue.send(effect)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - any failure leaves the outcome unknown
            event = messages.Unanswered(client_id, f"{type(error).__name__}: {error}"[:200])
        self.hear(event)

    async def _ask(self, question: Coroutine[None, None, messages.Event]) -> None:
        """Ask the venue; an unanswered question is asked again by the core's timer.

        The core alerts: a venue in trouble leaves many questions unanswered.
        """
        try:
            self.hear(await question)
        except OutsideSystemError as error:
            _logger.warning("%s", error)
            self.hear(messages.QuestionFailed(str(error)))
        except Exception as error:  # noqa: BLE001 - any failure leaves the question unanswered
            self._alarm(f"A question to the venue failed by {type(error).__name__}: {error}"[:300])

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TIMER_SECONDS)
            self.hear(messages.Timer())

    def _page(self, after: int) -> list[tuple[int, bytes]]:
        return list(self._journal.read(after, PAGE))

    async def _on_disk(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)


def _events(batch: Iterable[messages.Event | messages.PartEnded]) -> list[messages.Event]:
    """Return the events of a batch.

    Raises:
        GatewayStoppedError: a part ended. Orders on their way are resolved by the next start.
    """
    events = []
    for each in batch:
        if isinstance(each, messages.PartEnded):
            raise GatewayStoppedError(
                f"A part of the gateway ended by an unexpected error: {each.text}. Start the "
                "gateway again, and report the error."
            )
        events.append(each)
    return events
