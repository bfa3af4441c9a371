"""One request to the exchange: how it is sent, repeated and given up. Asynchronous throughout.

Which requests a window needs is in exchange_pages.py, what callers see in exchange.py, the weight in
weight_allowance.py, a refusal's meaning in exchange_refusals.py, a reply's in exchange_questions.py.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from pipeline_assets.market.intervals import Interval, to_milliseconds
from pipeline_assets.market.replies import open_times
from pipeline_assets.market.windows import Window
from pipeline_assets.outside_text import printable
from pipeline_assets.proxies import proxy_for
from pipeline_assets.resources.binance_client import Reply, open_client
from pipeline_assets.resources.exchange_clock import ExchangeClock
from pipeline_assets.resources.exchange_errors import (
    ExchangeBannedError,
    ExchangeError,
    ExchangeUnreachableError,
    banned_until,
)
from pipeline_assets.resources.exchange_pages import weight_of
from pipeline_assets.resources.exchange_questions import (
    Question,
    T,
    first_candle_of,
    json_object,
    lost,
    member,
    server_time_of,
    unanswered,
)
from pipeline_assets.resources.exchange_refusals import RefusedError, final_error
from pipeline_assets.resources.retry import Failure, RetryPolicy
from pipeline_assets.resources.weight_allowance import LONGEST_WAIT_MS, WeightAllowance
from pipeline_assets.resources.write_guard import require_lease

if TYPE_CHECKING:
    from pipeline_assets.resources.weight_budget import Priority, WeightBudget
    from pipeline_assets.settings import BinanceSettings

_REFUSALS = 10  # each waits for Retry-After, minutes in all; one more means another user's limit


class ExchangeRequests:
    """An open connection pool to the exchange, and the requests that are made of it.

    Every request waits for weight, waits for Retry-After after 429 and 418, and is repeated after 5xx,
    a time-out, a broken connection, or a body that is truncated, too large or of another kind.

    When a request is given up, one question for the exchange's time decides whose trouble it is: if
    it is answered, the error is that request's; if not, `ExchangeUnreachableError` ends everything.

    Redirects are not followed: candles of another host would be stored as the exchange's.
    """

    def __init__(
        self,
        settings: "BinanceSettings",
        budget: "WeightBudget",
        priority: "Priority",
        patience: float,
        *,
        sleep: Callable[[float], Awaitable[None]],
        monotonic: Callable[[], float],
    ) -> None:
        self.clock = ExchangeClock(monotonic)
        self.weight = WeightAllowance(budget, priority, self.clock, sleep)
        self._settings = settings
        # From the first failure: before that a request may have waited for weight. Without jitter,
        # because no more than `concurrency` requests come back at once, which the exchange bore before.
        # aiohttp itself repeats a GET once, where the server had closed an idle connection.
        self._policy = RetryPolicy(
            deadline=patience, first_wait=0.5, longest_wait=15.0, from_failure=True
        )
        self.sleep, self._monotonic = sleep, monotonic
        self._good = 0
        self._probing = asyncio.Lock()
        self._probes = 0
        self._proxied = False
        self.client: Any = None

    async def __aenter__(self) -> Self:
        """Open the pool; nothing is sent (AsyncClient.create would ping the spot exchange)."""
        proxy = proxy_for(self._settings.rest_url)
        self._proxied = proxy is not None
        self.client = open_client(self._settings, proxy)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections and report the weight used."""
        try:
            await self.weight.correct()
        finally:
            await self.client.close_connection()

    async def server_time(self) -> int:
        """Return the exchange's time in ms since the epoch, as it said; a sample for the clock, too.

        The exchange's clock stands later than that by now, never earlier, however slow the reply
        was: a candle that is closed by it is closed.
        """
        return await self.ask(self._time_question())

    async def exchange_info(self) -> dict[str, Any]:
        """Return the decoded body of exchangeInfo."""

        def read(reply: Reply) -> dict[str, Any]:
            body = json_object(reply.body)
            member(body, "symbols", list)
            return body

        return await self.ask(Question("exchangeInfo", 1, self.client.futures_exchange_info, read))

    async def klines(
        self, symbol: str, interval: Interval, window: Window, limit: int
    ) -> tuple[bytes, list[int]]:
        """Return the reply to one klines request, checked, and the open times of its rows.

        Args:
            symbol: as the exchange writes it; may hold any character.
            interval: of the candles.
            window: whose end is excluded, unlike the exchange's endTime.
            limit: 99 costs weight 1, 499 weight 2 (see `exchange.pages`).
        """

        def send() -> Awaitable[Reply]:
            reply: Awaitable[Reply] = self.client.futures_klines(
                symbol=symbol,
                interval=interval.value,
                startTime=to_milliseconds(window.start),
                endTime=to_milliseconds(window.end) - 1,
                limit=limit,
            )
            return reply

        def read(reply: Reply) -> tuple[bytes, list[int]]:
            return reply.body, open_times(symbol, reply.body)

        await self._measure_again()
        what = f"{symbol} {interval.value} candles"
        return await self.ask(Question(what, weight_of(limit), send, read, one_of_many=True))

    async def first_candle(self, symbol: str, start: datetime) -> datetime | None:
        """Return the open time of the first 1m candle that opens at `start` or later, or None without one.

        Args:
            symbol: as the exchange writes it; may hold any character.
            start: UTC.
        """

        def send() -> Awaitable[Reply]:
            reply: Awaitable[Reply] = self.client.futures_klines(
                symbol=symbol,
                interval=Interval.ONE_MINUTE.value,
                startTime=to_milliseconds(start),
                limit=1,
            )
            return reply

        def read(reply: Reply) -> datetime | None:
            return first_candle_of(symbol, reply.body)

        await self._measure_again()
        return await self.ask(
            Question(f"the first candle of {symbol}", weight_of(1), send, read, one_of_many=True)
        )

    def _time_question(self) -> Question[int]:
        sent = 0.0

        def send() -> Awaitable[Reply]:
            nonlocal sent
            sent = self._monotonic()
            reply: Awaitable[Reply] = self.client.futures_time()
            return reply

        def read(reply: Reply) -> int:
            server_ms = server_time_of(reply.body)
            self.clock.measure(server_ms, sent, self._monotonic())
            return server_ms

        return Question("the server time", 1, send, read)

    async def _measure_again(self) -> None:
        """Take the exchange's time again where that is due; without an answer the old samples stay."""
        if not self.clock.due:
            return
        self.clock.postpone()
        question = self._time_question()
        try:
            await self._attempt(question)
        except RefusedError as error:
            if error.refused_for_weight:
                await self._obey(question, error, 1)
        except lost():
            return

    async def ask(self, question: Question[T]) -> T:
        """Send until there is a good answer or reason to give up.

        Raises:
            ExchangeError: this question cannot be answered.
            ExchangeUnreachableError, ExchangeBannedError: no question can.
        """
        good, refusals = self._good, 0

        async def answer() -> T:
            nonlocal refusals
            while True:
                try:
                    return await self._attempt(question)
                except RefusedError as error:
                    if error.refused_for_weight:
                        refusals += 1
                        await self._obey(question, error, refusals)
                    elif error.transient:
                        raise
                    else:
                        raise final_error(self._settings.rest_url, question.what, error) from error

        async def judge(failure: Failure) -> None:
            nonlocal good
            good_before, good = good, self._good
            await self._judge(question, failure, good_before)

        return await self._policy.run_async(
            answer,
            lambda error: isinstance(error, unanswered()),
            on_failure=judge,
            sleep=self.sleep,
            monotonic=self._monotonic,
        )

    async def _attempt(self, question: Question[T]) -> T:
        allowance = question.allowance or self.weight
        minute = await allowance.take(question.weight)
        # A run that counts as dead would fetch beside the run that repeats it.
        require_lease()
        sent = self._monotonic()
        try:
            reply = await question.send()
            allowance.observe(minute, reply.used_weight)
            if reply.status // 100 != 2:
                raise RefusedError(reply, sent, self._monotonic())
            answer = question.read(reply)
        finally:
            allowance.settle(minute, question.weight)
        self._good += 1
        return answer

    async def _obey(self, question: Question[T], error: RefusedError, refusals: int) -> None:
        """Wait as the refusal says, and make every other process at this address wait too."""
        if error.date_ms is not None and not self.clock.measured:
            # A block that other processes read must not depend on this machine's clock.
            # The header has whole seconds.
            self.clock.measure(error.date_ms, error.sent, error.received, resolution_ms=1000)
        # HTTP 429 is of the limit that the request counts in; a ban (418) is of the address.
        own = question.allowance if error.status == HTTPStatus.TOO_MANY_REQUESTS else None
        cause = f"{error} in the reply to {question.what}"
        await (own or self.weight).block(error.retry_after_ms, cause)
        if error.retry_after_ms > LONGEST_WAIT_MS:
            raise banned_until(self.clock.now_ms() + error.retry_after_ms) from error
        if refusals > _REFUSALS:
            raise ExchangeBannedError(
                f"The exchange refused {question.what} {refusals} times although each wait was kept "
                f"({error}). Something else at this address spends its limit: find it, or lower "
                "PIPELINE_BINANCE__WEIGHT_LIMIT or, of funding rates, "
                "PIPELINE_BINANCE__FUNDING_LIMIT, and repeat the run.",
                error.code,
            ) from error

    async def _judge(self, question: Question[T], failure: Failure, good_before: int) -> None:
        """Raise if the question is to be given up after this failure."""
        cause = str(failure.error)
        if not isinstance(failure.error, RefusedError):
            cause = printable(f"{type(failure.error).__name__}: {cause}").removesuffix(":")
        exhausted = failure.last or failure.attempts > self._settings.retries
        if question.one_of_many and exhausted and await self._exchange_answers(good_before):
            raise ExchangeError(
                f"{question.what}: no usable answer in {failure.attempts} attempts, the last: "
                f"{cause}. The exchange answers other requests: repeat the run later."
            )
        if failure.last:
            raise ExchangeUnreachableError(
                f"The exchange at {self._settings.rest_url} gave no usable answer for "
                f"{failure.seconds:.0f} s ({question.what}, {failure.attempts} attempts, the last: "
                f"{cause}). Check the network{', the proxy' if self._proxied else ''} and "
                "PIPELINE_BINANCE__REST_URL, then repeat the run."
            )

    async def _exchange_answers(self, good_before: int) -> bool:
        """Return whether anything has been answered well since then, or is when asked now.

        Forty requests that fail together ask once: while one asks the others wait for its result.
        """
        probes = self._probes
        async with self._probing:
            if self._good == good_before and self._probes == probes:
                try:
                    await self._attempt(self._time_question())
                except unanswered():
                    return False
                finally:
                    self._probes += 1
        return self._good > good_before
