"""The exchange as the assets see it: its time, its universe, and the candles of many symbols.

How one request is sent, repeated and paid for does not belong here (exchange_requests.py), nor what
the replies mean (market/replies.py) or which windows are due (market/windows.py).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Thread
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pipeline_assets.market.intervals import Interval, from_milliseconds
from pipeline_assets.market.replies import holes
from pipeline_assets.market.windows import Window
from pipeline_assets.resources.exchange_errors import (
    ExchangeBannedError,
    ExchangeError,
    ExchangeUnreachableError,
)
from pipeline_assets.resources.exchange_pages import Batch, Fetched, Page, pages, plan, weight_of
from pipeline_assets.resources.exchange_requests import ExchangeRequests
from pipeline_assets.resources.universe import Listings, read_listings
from pipeline_assets.resources.waiting import next_item, result_of

if TYPE_CHECKING:
    from pipeline_assets.resources.funding_budget import FundingAllowance
    from pipeline_assets.resources.weight_allowance import WeightAllowance
    from pipeline_assets.resources.weight_budget import Priority, WeightBudget
    from pipeline_assets.settings import BinanceSettings

Q = TypeVar("Q")
T = TypeVar("T")

# How long to wait for an exchange that does not answer. The next ingest run repairs a missed one. A backfill
# is not repeated by itself, so it outlasts an outage of some minutes.
INGEST_PATIENCE = timedelta(seconds=15)
BACKFILL_PATIENCE = timedelta(minutes=5)

# A hole is asked for by itself until the exchange has said so often that it has nothing there. With
# 2 % of the replies short, one page in a hundred thousand is believed wrongly, after one ask 40 times.
_SAID_EMPTY = 2
_LOOKS_AT_HOLES = 30  # a page with more holes than that is left for the next backfill


@dataclass(frozen=True)
class WeightNow:
    """The exchange's own count of this address' weight in its current minute, and what we may use."""

    used: int
    allowed: int


class ExchangeClient:
    """A connection to the exchange for code that is not asynchronous; a context manager.

    An event loop runs in a thread of its own from entering to leaving: requests go on and time-outs
    stay true while the caller works on what it has got.

    Args:
        settings: address, concurrency, time-out and retries.
        budget: the weight that all processes at this address share.
        priority: whose weight this is.
        patience: how long to wait for an exchange that does not answer; INGEST_PATIENCE or
            BACKFILL_PATIENCE.
        sleep: how to wait, in seconds.
        monotonic: a clock in seconds that only goes forward.
    """

    def __init__(
        self,
        settings: "BinanceSettings",
        budget: "WeightBudget",
        priority: "Priority",
        patience: timedelta = INGEST_PATIENCE,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._concurrency = settings.concurrency
        self._requests = ExchangeRequests(
            settings, budget, priority, patience.total_seconds(), sleep=sleep, monotonic=monotonic
        )
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="exchange", daemon=True)

    def __enter__(self) -> Self:
        """Start the loop and open the connection pool; nothing is sent."""
        self._thread.start()
        try:
            self._call(self._requests.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel what is under way and close the connections."""
        try:
            self._call(_cancel_all())
            self._call(self._requests.__aexit__())
            self._call(self._loop.shutdown_default_executor())
        finally:
            self._stop()

    @property
    def weight_spent(self) -> int:
        """The weight of everything sent so far, repeated requests included."""
        return self._requests.weight.spent

    @property
    def weight_now(self) -> WeightNow:
        """Return the weight used in the exchange's current minute, by its latest reply; sends no request."""
        return WeightNow(self._requests.weight.used, self._requests.weight.allowed)

    def server_time(self) -> datetime:
        """Return the exchange's time now, UTC. From here on weight is counted in the exchange's minutes.

        Raises:
            ExchangeUnreachableError: no answer within the deadline.
        """
        return from_milliseconds(self._call(self._requests.server_time()))

    def universe(self) -> Listings:
        """Return everything that the exchange lists (`universe.trading_symbols` picks the universe).

        Raises:
            ExchangeError: no entry of exchangeInfo can be read. An empty result would wrongly mean that
                nothing is listed.
            ExchangeUnreachableError: no answer within the deadline.
        """
        found = read_listings(self._call(self._requests.exchange_info()))
        if not found.valid:
            odd = next((f", the first: {name}: {why}" for name, why in found.left_out.items()), "")
            raise ExchangeError(
                f"exchangeInfo names no symbol that can be read: {len(found.left_out)} entries are "
                f"malformed{odd}. Repeat the run; if it stays so, look at what stands between here "
                "and the exchange."
            )
        return found

    def first_candles(self, starts: Sequence[tuple[str, datetime]]) -> list[datetime | None]:
        """Ask when the first candle of each symbol opens, from its start on; weight 1 a symbol.

        Args:
            starts: symbols, each with the time to ask from (UTC).

        Returns:
            By place the open time of the first candle, on the grid of 1m; None where there is none, or
            the symbol could not be asked for.

        Raises:
            ExchangeUnreachableError, ExchangeBannedError: as `klines`.
        """
        return self._call(self._first_candles(starts))

    async def _first_candles(self, starts: Sequence[tuple[str, datetime]]) -> list[datetime | None]:
        async def ask(each: tuple[str, datetime]) -> datetime | None:
            try:
                return await self._requests.first_candle(*each)
            except (ExchangeUnreachableError, ExchangeBannedError):
                raise
            except ExchangeError:
                return None

        return await self._ask_all(starts, ask, self._requests.weight)

    async def _ask_all(
        self,
        questions: Sequence[Q],
        ask: Callable[[Q], Awaitable[T]],
        allowance: "WeightAllowance | FundingAllowance",
    ) -> list[T]:
        """Ask many questions at once, each of weight 1; return the answers in the order of the questions.

        The first exception ends the others and is raised.

        Args:
            questions: what `ask` takes.
            ask: sends one question. It handles a failure that concerns this question alone.
            allowance: the limit that the questions count in.
        """
        turns = asyncio.Semaphore(self._concurrency)

        async def in_turn(question: Q) -> T:
            async with turns:
                return await ask(question)

        if not self._requests.clock.measured:
            await self._requests.server_time()
        allowance.expected = len(questions)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(in_turn(each)) for each in questions]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            allowance.expected = 0
        return [task.result() for task in tasks]

    def klines(
        self,
        interval: Interval,
        windows: Mapping[str, Window] | Mapping[str, Sequence[Window]],
        on_progress: Callable[[int], None] | None = None,
        *,
        confirm: bool = False,
    ) -> Iterator[Fetched]:
        """Fetch all candles of each symbol's windows, many at once, each symbol as it completes.

        The replies hold what the exchange has in the window, an unclosed candle too if the window
        reaches that far: callers end windows at the newest closed candle (market.windows). Reading
        changes nothing, so it may be repeated at will.

        Args:
            interval: of the candles.
            windows: by symbol one or several in order of time; begin and end on the interval's grid.
            on_progress: is called with the number of candles in each page, from another thread.
            confirm: whether candles that are missing from a reply are requested alone, until they come
                or the exchange says repeatedly that it has none. This separates a hole at the exchange
                from a fault in transfer.

        Yields:
            One `Fetched` a symbol, in the order of completion.

        Raises:
            ValueError: a window is off the grid.
            ExchangeUnreachableError: the exchange does not answer any request within the deadline.
            ExchangeBannedError: this address may send nothing for more than five minutes.
        """
        jobs = [
            plan(interval, symbol, [held] if isinstance(held, Window) else held)
            for symbol, held in windows.items()
        ]
        batch = Batch(interval, (page for job in jobs for page in job), on_progress, confirm)
        sizes = {job[0].job.symbol: len(job) for job in jobs}
        weight = sum(weight_of(page.limit) for job in jobs for page in job)
        task = self._call(self._begin(batch, weight))
        try:
            for _ in jobs:
                result = next_item(batch.results)
                if isinstance(result, BaseException):
                    raise result
                self._loop.call_soon_threadsafe(batch.give_room, sizes[result.symbol])
                yield result
        finally:
            if self._loop.is_running():
                self._call(_cancel(task))

    async def _begin(self, batch: Batch, weight: int) -> "asyncio.Task[None]":
        if not self._requests.clock.measured:
            await self._requests.server_time()
        self._requests.weight.expected = weight
        return asyncio.create_task(self._fetch(batch))

    async def _fetch(self, batch: Batch) -> None:
        """Run the workers; hand the first failure that is not one symbol's own to the caller."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(self._work(batch))
        except BaseExceptionGroup as failures:
            batch.results.put(failures.exceptions[0])
        finally:
            self._requests.weight.expected = 0

    async def _work(self, batch: Batch) -> None:
        while (page := await batch.next_page()) is not None:
            job = page.job
            if job.error is None:
                await self._read(batch, page)
            job.missing -= 1
            if job.missing == 0:
                batch.results.put(job.result())

    async def _read(self, batch: Batch, page: Page) -> None:
        job = page.job
        try:
            body, opens = await self._requests.klines(
                job.symbol, batch.interval, page.window, page.limit
            )
            bodies = [body]
            # Rows are not counted: a doubled one would hide a missing one, and has.
            if batch.confirm and (missing := holes(opens, batch.interval, page.window)):
                bodies += await self._look_at_holes(batch, page, missing)
        except (ExchangeUnreachableError, ExchangeBannedError):
            raise
        except ExchangeError as error:
            job.error = error
        else:
            job.replies[page.number] = bodies
            job.rows += len(opens)
            if batch.on_progress is not None:
                batch.on_progress(len(opens))

    async def _look_at_holes(
        self, batch: Batch, page: Page, missing: Sequence[Window]
    ) -> list[bytes]:
        """Request the spans missing from a reply; returns the bodies, and notes the confirmed holes."""
        found = []
        open_questions = [(hole, 0) for hole in missing]
        for _ in range(_LOOKS_AT_HOLES):
            if not open_questions:
                break
            hole, said_empty = open_questions.pop(0)
            [(_, limit)] = pages(batch.interval, hole)
            again, opens = await self._requests.klines(page.job.symbol, batch.interval, hole, limit)
            left = holes(opens, batch.interval, hole)
            if opens and left != [hole]:
                found.append(again)
                page.job.rows += len(opens)
                open_questions += [(each, 0) for each in left]
            # A row off the grid, as after an outage, is no candle of the hole.
            elif said_empty + 1 == _SAID_EMPTY:
                page.job.confirmed.append(hole)
            else:
                open_questions.append((hole, said_empty + 1))
        return found

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop's thread and wait for it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return result_of(future)
        except BaseException:
            future.cancel()  # Dagster interrupts a step by raising in this thread
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
