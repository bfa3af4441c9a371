"""One request to the exchange: its weight, its retries, its errors. Asynchronous throughout.

Which requests a window needs, and what callers see, does not belong here (exchange.py); nor does
the budget that all processes share (weight_budget.py), the exchange's clock (exchange_clock.py) or
what a reply means (market/replies.py).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http import HTTPStatus
from json import loads
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.intervals import Interval, from_milliseconds, to_milliseconds
from pipeline_assets.market.replies import MalformedReplyError, check_reply
from pipeline_assets.market.windows import Window
from pipeline_assets.outside_text import printable
from pipeline_assets.proxies import proxy_for
from pipeline_assets.resources.bounded_replies import (
    ReplyLimitError,
    read_within,
    redirect_target,
)
from pipeline_assets.resources.exchange_clock import MINUTE_MS, ExchangeClock

if TYPE_CHECKING:
    from pipeline_assets.resources.weight_budget import Priority, WeightBudget
    from pipeline_assets.settings import BinanceSettings

T = TypeVar("T")

# The longest that a reply may make us wait. A ban lasts from 2 minutes to 3 days (Binance, LIMITS);
# a run that slept for hours would hold its place in the queue and tell nobody why.
_LONGEST_WAIT_MS = 300_000
# How long Retry-After may block: a 429 ends with the minute that it counts, a ban after three days at
# most (Binance, LIMITS). More is a fault of what stands in between, and would stop all collection.
_LONGEST_BLOCK_MS: dict[int, int] = {
    HTTPStatus.TOO_MANY_REQUESTS: 120_000,
    HTTPStatus.IM_A_TEAPOT: 3 * 86_400_000,
}
# Where Retry-After is missing or unusable: the weight counters turn with the minute.
_USUAL_BLOCK_MS = 60_000
# Slept at once while blocked or out of weight, so that a lifted block is soon noticed.
_LONGEST_NAP_MS = 10_000
_DIGITS = re.compile(r"[0-9]{1,6}")  # ten days of seconds; 400 times the weight of a minute
# Most bytes of a reply, by the last part of its path: 499 candles have 100 kB, 900 symbols 2 MB.
_LARGEST_REPLY = {"klines": 2_000_000, "exchangeInfo": 64_000_000}
_LARGEST_OTHER = 1_000_000
# No candle of USD-M Futures is older than September 2019.
_EARLIEST_MS = 1_567_296_000_000
_LATEST_MS = 10**14  # the year 5138; a time beyond it is no time
_REFUSALS = 10  # each waits as told, so this is minutes; one more means that the limit is not ours
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 15.0
_WEIGHT_BATCH = 250  # reserved at once: few Redis calls, and little is lost when the minute turns
# How old the knowledge may be that no other process was refused: shorter than a request takes, so that
# a refusal elsewhere stops this process before one of its own would; long enough to cost nothing.
_LOOK_SECONDS = 0.05
# Said with HTTP 400, and yet the exchange's own trouble: disconnected, time-out, overloaded.
_TRANSIENT_CODES = {-1000, -1001, -1006, -1007, -1008}
# 403 is the web application firewall, 451 a country that may not trade: no symbol will be served.
_SHUT_OUT = {HTTPStatus.FORBIDDEN, HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS}
_ADVICE = {
    -1120: "The exchange does not know this interval.",
    -1121: "Remove the symbol from the list, or correct it: exchangeInfo names all there are.",
    -1122: "The symbol is delisted or not yet trading: remove it from the list.",
    -1130: "A parameter is out of range: this is a bug in the paging of this program.",
}


class ExchangeError(OutsideSystemError):
    """The exchange did not give what was asked. The message says what, why, and what to do.

    Attributes:
        code: the exchange's own error code (such as -1121), or None when it gave none.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class ExchangeUnreachableError(ExchangeError):
    """The exchange answers nobody: no symbol can be fetched until it does."""


class ExchangeBannedError(ExchangeError):
    """The exchange shut this address out for longer than a run should wait."""


class _Reply(NamedTuple):
    """An answer as received, and X-MBX-USED-WEIGHT-1M: what this address used in the minute."""

    status: int
    body: bytes
    used_weight: int
    retry_after: str | None
    date: str | None
    location: str | None


class _RefusedError(OutsideSystemError):
    """An answer other than 2xx."""

    def __init__(self, reply: _Reply, sent: float, received: float) -> None:
        self.status = reply.status
        self.code, self.text = _code_and_text(reply.body)
        self.retry_after_ms = _block_ms(reply.status, reply.retry_after)
        self.date_ms = _date_ms(reply.date)
        self.location = reply.location
        self.sent, self.received = sent, received
        super().__init__(
            f"HTTP {self.status}" + (f", {self.code} {self.text}" if self.code else "")
        )

    @property
    def refused_for_weight(self) -> bool:
        """Whether the exchange asks this address to be silent for a while."""
        return self.status in _LONGEST_BLOCK_MS

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return (
            self.status >= HTTPStatus.INTERNAL_SERVER_ERROR
            or self.status == HTTPStatus.REQUEST_TIMEOUT
            or self.code in _TRANSIENT_CODES
        )


def _code_and_text(body: bytes) -> tuple[int | None, str]:
    """The code and message of an error body; (None, "") for anything else, such as HTML."""
    try:
        decoded = loads(body)
    except (ValueError, RecursionError):
        return None, ""
    if not isinstance(decoded, dict) or not isinstance(decoded.get("code"), int):
        return None, ""
    return decoded["code"], printable(decoded.get("msg", ""))


def _number(header: str | None) -> int | None:
    """The number in a header; None for anything but one to six digits."""
    return int(header) if header and _DIGITS.fullmatch(header) else None


def _block_ms(status: int, retry_after: str | None) -> int:
    """How long a refusal blocks this address, by Retry-After in seconds and within reason."""
    seconds = _number(retry_after)
    if seconds is None:
        return _USUAL_BLOCK_MS
    # Not 0: the request would be repeated as fast as the exchange refuses.
    return min(1000 * max(seconds, 1), _LONGEST_BLOCK_MS.get(status, _USUAL_BLOCK_MS))


def _date_ms(header: str | None) -> int | None:
    """The Date header in ms since the epoch, or None where it is not one."""
    try:
        return to_milliseconds(parsedate_to_datetime(header or ""))
    except (ValueError, TypeError, OverflowError):
        return None


@cache
def _client_class() -> type:
    """python-binance's AsyncClient, changed in what it does with a reply.

    Built on first use, because importing binance takes half a second that only a run which fetches
    should pay.
    """
    from aiohttp import ClientResponse
    from binance.async_client import AsyncClient

    class Client(AsyncClient):  # type: ignore[misc]
        """Every method returns a `_Reply` with the body's BYTES, whatever its status.

        Candles are parsed for all symbols at once by market.replies; AsyncClient would decode each
        reply twice into lists that nobody reads. It also raises AttributeError on an error body
        that is JSON but no object, and calls an HTML error page code 0. The used weight is taken
        here, because all tasks share `client.response`. A reply is read up to a limit of its size.
        """

        async def _handle_response(self, response: ClientResponse) -> _Reply:
            limit = _LARGEST_REPLY.get(response.url.name, _LARGEST_OTHER)
            return _Reply(
                response.status,
                await read_within(response, limit, self.REQUEST_TIMEOUT),
                _number(response.headers.get("X-MBX-USED-WEIGHT-1M")) or 0,
                response.headers.get("Retry-After"),
                response.headers.get("Date"),
                response.headers.get("Location"),
            )

    return Client


class WeightAllowance:
    """The weight that this client may still spend in the exchange's current minute.

    Invariants: nothing is sent that was not reserved, in the shared budget, in the minute in which
    it is sent; and nothing that was reserved before a refusal is sent after it was heard of: of a
    refusal here at once, of one in another process within `_LOOK_SECONDS`. Nothing is sent while the
    error of the exchange's clock leaves open which minute it is. Weight is reserved in batches, so
    500 symbols cost a handful of Redis calls.

    Attributes:
        expected: weight that the caller still means to spend; the size of the next batch.
        spent: weight of all requests sent, repeated ones included.
    """

    def __init__(
        self,
        budget: "WeightBudget",
        priority: "Priority",
        clock: ExchangeClock,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.expected = 0
        self.spent = 0
        self._budget, self._priority, self._clock, self._sleep = budget, priority, clock, sleep
        self._turn = asyncio.Lock()
        self._minute = 0
        self._left = 0
        self._in_flight = 0
        self._carried = 0
        self._used_by_all = 0
        self._told = 0
        self._blocked_until_ms = 0
        self._telling = 0
        self._told_blocks = 0
        self._look_again = 0.0

    async def take(self, weight: int) -> int:
        """Wait until `weight` may be spent, and spend it; returns the minute it is spent in.

        Raises:
            ExchangeBannedError: that is further away than a run should wait.
            WeightBudgetError: Redis failed, so nothing may be sent.
        """
        async with self._turn:
            while True:
                if await self._blocked():
                    await self._reserve(weight)
                elif uncertain_ms := self._clock.until_certain_ms():
                    await self._sleep((uncertain_ms + 1) / 1000)
                elif self._left < weight or self._minute != self._clock.minute():
                    await self._reserve(weight)
                else:
                    break
            self._left -= weight
        self._in_flight += weight
        self.spent += weight
        self.expected = max(self.expected - weight, 0)
        return self._minute

    def settle(self, minute: int, weight: int) -> None:
        """The request for which `weight` was taken in `minute` is over."""
        self._in_flight -= weight
        if minute == self._minute != self._clock.latest_minute():
            self._carried += weight

    def observe(self, minute: int, used: int) -> None:
        """Note the used weight in the reply to a request that was sent in `minute`.

        A reply that came in another minute, or close to its turn, is passed over: nobody can tell
        which minute it counts.
        """
        certain = not self._clock.until_certain_ms()
        if certain and minute == self._minute == self._clock.minute():
            self._used_by_all = max(self._used_by_all, used)
            self._told = max(self._told, used)

    @property
    def used(self) -> int:
        """What the exchange last said was used in the minute that weight was last taken in."""
        return self._told

    @property
    def allowed(self) -> int:
        """What all processes at this address may use in a minute."""
        return self._budget.capacity

    async def correct(self) -> None:
        """Tell the shared budget what the exchange says was used, if it said anything."""
        used, self._used_by_all = self._used_by_all, 0
        if used:
            await asyncio.to_thread(self._budget.correct, MINUTE_MS * self._minute, used)

    async def block(self, wait_ms: int, cause: str) -> None:
        """Stop every process at this address for `wait_ms`, as the exchange asked.

        Args:
            wait_ms: for how long.
            cause: which reply asked for it, for people.
        """
        until_ms = self._clock.now_ms() + wait_ms
        self._blocked_until_ms = max(self._blocked_until_ms, until_ms)
        self._telling += 1
        try:
            await asyncio.to_thread(self._budget.block_until, until_ms, wait_ms, cause)
        finally:
            self._telling -= 1
            self._told_blocks += 1

    async def _blocked(self) -> bool:
        """Whether any process at this address was refused and has to wait, as far as is known."""
        if self._clock.monotonic() >= self._look_again:
            before = self._told_blocks
            told = await asyncio.to_thread(self._budget.blocked_until)
            # Redis decides, so that a block can be lifted; but not before it knows this process' own.
            if self._telling or before != self._told_blocks:
                told = max(self._blocked_until_ms, told)
            self._blocked_until_ms = told
            self._look_again = self._clock.monotonic() + _LOOK_SECONDS
        return self._clock.now_ms() < self._blocked_until_ms

    async def _reserve(self, weight: int) -> None:
        """Give up what is left and reserve anew, or wait until that may succeed.

        Asks while blocked too: that is how lower priorities learn what to leave alone afterwards.
        """
        self._left = 0
        await self.correct()
        now_ms = self._clock.now_ms()
        minute = now_ms // MINUTE_MS
        # What was sent before the minute turned (or before the exchange's clock was known) and
        # ended after that, or is still under way, may have been counted in this minute.
        carried = self._carried + self._in_flight if minute != self._minute else 0
        carried = min(carried, self._budget.capacity - weight)
        wanted = max(weight, min(self.expected, _WEIGHT_BATCH))
        grant = await asyncio.to_thread(
            self._budget.reserve,
            self._priority,
            wanted + carried,
            now_ms,
            weight + carried,
            later=max(self.expected - wanted, 0),
        )
        # Granted before this process' own block was written: the exchange will not honour it.
        blocked_ms = self._blocked_until_ms - now_ms
        if grant.weight and blocked_ms <= 0:
            if minute != self._minute:
                self._told = 0
            self._minute, self._left, self._carried = minute, grant.weight - carried, 0
            return
        wait_ms = max(grant.wait_ms, blocked_ms)
        if wait_ms > _LONGEST_WAIT_MS:
            raise _banned(now_ms + wait_ms)
        await self._sleep(min(wait_ms, _LONGEST_NAP_MS) / 1000)


def _banned(until_ms: int) -> ExchangeBannedError:
    until = from_milliseconds(until_ms).isoformat(timespec="seconds")
    return ExchangeBannedError(
        f"The exchange has banned this address until {until}, as told by Retry-After. Send nothing "
        "until then, find out what else at this address calls it, then repeat the run. "
        "`pipeline-assets status` names the reply; `pipeline-assets unblock` lifts the block if it "
        "was not the exchange's."
    )


@dataclass(frozen=True)
class _Question(Generic[T]):
    """Something to ask the exchange. `read` raises MalformedReplyError on a useless reply."""

    what: str
    weight: int
    send: Callable[[], Awaitable[_Reply]]
    read: Callable[[_Reply], T]
    one_of_many: bool = False  # its failure is no reason to think that the others fail


@dataclass
class _Trouble:
    """What has gone wrong with one question so far."""

    good: int  # good answers to anything, when it was first asked or last failed
    failures: int = 0
    refusals: int = 0
    since: float = 0.0  # monotonic, of the first failure
    cause: str = ""


class ExchangeRequests:
    """An open connection pool to the exchange, and the requests that are made of it.

    Every request waits for weight, waits as told after 429 and 418, and is repeated after 5xx, a
    time-out, a broken connection, a body that is truncated, too large or not what was asked for: with
    exponential backoff from 0.5 s to 15 s, without jitter, because no more than `concurrency`
    requests come back at once, which is what the exchange bore before.

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
        self._settings, self._patience = settings, patience
        self._sleep, self._monotonic = sleep, monotonic
        self._good = 0
        self._probing = asyncio.Lock()
        self._probes = 0
        self._proxied = False
        self._client: Any = None

    async def __aenter__(self) -> Self:
        """Open the pool; nothing is sent (AsyncClient.create would ping the spot exchange)."""
        from aiohttp import DummyCookieJar, TCPConnector

        proxy = proxy_for(self._settings.rest_url)
        connector = TCPConnector(limit=self._settings.concurrency, ttl_dns_cache=300)
        client = _client_class()(
            session_params={"connector": connector, "cookie_jar": DummyCookieJar()},
            requests_params={"allow_redirects": False},
            https_proxy=proxy,
        )
        self._proxied = proxy is not None
        client.FUTURES_URL = self._settings.rest_url + "/fapi"
        client.REQUEST_TIMEOUT = self._settings.timeout_seconds
        self._client = client
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections and report the weight used."""
        try:
            await self.weight.correct()
        finally:
            await self._client.close_connection()

    async def server_time(self) -> int:
        """The exchange's time in ms since the epoch, as it said; a sample for the clock, too.

        The exchange's clock stands later than that by now, never earlier, however slow the reply
        was: a candle that is closed by it is closed.
        """
        return await self._ask(self._time_question())

    async def exchange_info(self) -> dict[str, Any]:
        """The decoded body of exchangeInfo."""

        def read(reply: _Reply) -> dict[str, Any]:
            body = _object(reply.body)
            _member(body, "symbols", list)
            return body

        return await self._ask(
            _Question("exchangeInfo", 1, self._client.futures_exchange_info, read)
        )

    async def klines(
        self, symbol: str, interval: Interval, window: Window, limit: int
    ) -> tuple[bytes, int]:
        """The reply to one klines request, checked, and its number of rows.

        Args:
            symbol: as the exchange writes it; may hold any character.
            interval: of the candles.
            window: whose end is excluded, unlike the exchange's endTime.
            limit: 99 costs weight 1, 499 weight 2 (see `exchange.pages`).
        """

        def send() -> Awaitable[_Reply]:
            reply: Awaitable[_Reply] = self._client.futures_klines(
                symbol=symbol,
                interval=interval.value,
                startTime=to_milliseconds(window.start),
                endTime=to_milliseconds(window.end) - 1,
                limit=limit,
            )
            return reply

        def read(reply: _Reply) -> tuple[bytes, int]:
            return reply.body, check_reply(symbol, reply.body)

        await self._measure_again()
        what = f"{symbol} {interval.value} candles"
        return await self._ask(_Question(what, weight_of(limit), send, read, one_of_many=True))

    async def first_candle(self, symbol: str, start: datetime) -> datetime | None:
        """The open time of the first 1m candle that opens at `start` or later, or None without one.

        Args:
            symbol: as the exchange writes it; may hold any character.
            start: UTC.
        """

        def send() -> Awaitable[_Reply]:
            reply: Awaitable[_Reply] = self._client.futures_klines(
                symbol=symbol,
                interval=Interval.ONE_MINUTE.value,
                startTime=to_milliseconds(start),
                limit=1,
            )
            return reply

        def read(reply: _Reply) -> datetime | None:
            if not check_reply(symbol, reply.body):
                return None
            first_ms = loads(reply.body)[0][0]
            if not 0 <= first_ms < _LATEST_MS:
                raise MalformedReplyError(f"The reply's open time {first_ms} is not a time.")
            return Interval.ONE_MINUTE.floor(from_milliseconds(first_ms))

        await self._measure_again()
        return await self._ask(
            _Question(f"the first candle of {symbol}", weight_of(1), send, read, one_of_many=True)
        )

    def _time_question(self) -> _Question[int]:
        sent = 0.0

        def send() -> Awaitable[_Reply]:
            nonlocal sent
            sent = self._monotonic()
            reply: Awaitable[_Reply] = self._client.futures_time()
            return reply

        def read(reply: _Reply) -> int:
            server_ms = _member(_object(reply.body), "serverTime", int)
            # `true` is an int to Python.
            if isinstance(server_ms, bool) or not _EARLIEST_MS <= server_ms < _LATEST_MS:
                raise MalformedReplyError("The reply's serverTime is not a time.")
            self.clock.measure(server_ms, sent, self._monotonic())
            return server_ms

        return _Question("the server time", 1, send, read)

    async def _measure_again(self) -> None:
        """Take the exchange's time again where that is due; without an answer the old samples stay."""
        if not self.clock.due:
            return
        self.clock.postpone()
        question = self._time_question()
        try:
            await self._attempt(question)
        except _RefusedError as error:
            if error.refused_for_weight:
                await self._obey(question.what, error, 1)
        except _lost():
            return

    async def _ask(self, question: _Question[T]) -> T:
        """Send until there is a good answer or reason to give up.

        Raises:
            ExchangeError: this question cannot be answered.
            ExchangeUnreachableError, ExchangeBannedError: no question can.
        """
        trouble = _Trouble(self._good)
        while True:
            try:
                return await self._attempt(question)
            except _RefusedError as error:
                if error.refused_for_weight:
                    trouble.refusals += 1
                    await self._obey(question.what, error, trouble.refusals)
                    continue
                if not error.transient:
                    raise self._final(question.what, error) from error
                trouble.cause = str(error)
            except _lost() as error:
                trouble.cause = printable(f"{type(error).__name__}: {error}").removesuffix(":")
            await self._back_off(question, trouble)

    async def _attempt(self, question: _Question[T]) -> T:
        minute = await self.weight.take(question.weight)
        sent = self._monotonic()
        try:
            reply = await question.send()
            self.weight.observe(minute, reply.used_weight)
            if reply.status // 100 != 2:
                raise _RefusedError(reply, sent, self._monotonic())
            answer = question.read(reply)
        finally:
            self.weight.settle(minute, question.weight)
        self._good += 1
        return answer

    async def _obey(self, what: str, error: _RefusedError, refusals: int) -> None:
        """Wait as told, and make every other process at this address wait too."""
        if error.date_ms is not None and not self.clock.measured:
            # A block that other processes read must not depend on this machine's clock.
            # The header has whole seconds.
            self.clock.measure(error.date_ms, error.sent, error.received, resolution_ms=1000)
        await self.weight.block(error.retry_after_ms, f"{error} in the reply to {what}")
        if error.retry_after_ms > _LONGEST_WAIT_MS:
            raise _banned(self.clock.now_ms() + error.retry_after_ms) from error
        if refusals > _REFUSALS:
            raise ExchangeBannedError(
                f"The exchange refused {what} {refusals} times although each wait was kept ({error}). "
                "Something else at this address spends its weight: find it, or lower "
                "PIPELINE_BINANCE__WEIGHT_LIMIT, and repeat the run.",
                error.code,
            ) from error

    def _final(self, what: str, error: _RefusedError) -> ExchangeError:
        if error.status // 100 == 3:
            target = redirect_target(self._settings.rest_url, error.location)
            return ExchangeUnreachableError(
                f"{self._settings.rest_url} redirects {what} to {target} (HTTP {error.status}), "
                "which is not followed. Set PIPELINE_BINANCE__REST_URL to the exchange's own address, "
                "or look at what stands between here and the exchange."
            )
        if error.status in _SHUT_OUT:
            return ExchangeUnreachableError(
                f"{self._settings.rest_url} shuts this address out ({error}): its firewall or the "
                "country of this machine, or PIPELINE_BINANCE__REST_URL is not the exchange's address. No "
                "candle can be fetched from here."
            )
        advice = _ADVICE.get(
            error.code or 0, "The exchange will not answer this however often asked."
        )
        return ExchangeError(f"{what}: the exchange refused, {error}. {advice}", error.code)

    async def _back_off(self, question: _Question[T], trouble: _Trouble) -> None:
        """Wait before the next attempt, or give up."""
        delay = min(_FIRST_BACKOFF * 2**trouble.failures, _LONGEST_BACKOFF)
        trouble.failures += 1
        good_before, trouble.good = trouble.good, self._good
        if trouble.failures == 1:
            trouble.since = self._monotonic()
        waited = self._monotonic() - trouble.since
        impatient = waited + delay > self._patience
        exhausted = impatient or trouble.failures > self._settings.retries
        if question.one_of_many and exhausted and await self._exchange_answers(good_before):
            raise ExchangeError(
                f"{question.what}: no usable answer in {trouble.failures} attempts, the last: "
                f"{trouble.cause}. The exchange answers other requests: repeat the run later."
            )
        if impatient:
            raise ExchangeUnreachableError(
                f"The exchange at {self._settings.rest_url} gave no usable answer for {waited:.0f} "
                f"s ({question.what}, {trouble.failures} attempts, the last: {trouble.cause}). "
                f"Check the network{', the proxy' if self._proxied else ''} and "
                "PIPELINE_BINANCE__REST_URL, then repeat the run."
            )
        await self._sleep(delay)

    async def _exchange_answers(self, good_before: int) -> bool:
        """Whether anything has been answered well since then, or is when asked now.

        Forty requests that fail together ask once: while one asks the others wait for its result.
        """
        probes = self._probes
        async with self._probing:
            if self._good == good_before and self._probes == probes:
                try:
                    await self._attempt(self._time_question())
                except _unanswered():
                    return False
                finally:
                    self._probes += 1
        return self._good > good_before


def weight_of(limit: int) -> int:
    """The weight of a klines request (Binance USD-M Futures, Kline/Candlestick Data)."""
    if limit <= 99:
        return 1
    return 2 if limit <= 499 else 5 if limit <= 1000 else 10


def _member(body: dict[str, Any], name: str, kind: type[T]) -> T:
    value = body.get(name)
    if not isinstance(value, kind):
        found = printable(", ".join(body)[:60])
        raise MalformedReplyError(f"The reply has no {name}, but {found}.")
    return value


def _object(body: bytes) -> dict[str, Any]:
    try:
        decoded = loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedReplyError(f"The reply is not JSON: {body[:60]!r}.") from error
    if not isinstance(decoded, dict):
        raise MalformedReplyError(f"The reply is not an object: {body[:60]!r}.")
    return decoded


@cache
def _lost() -> tuple[type[Exception], ...]:
    """What is raised when a request got no usable answer and may get one when sent again."""
    from aiohttp import ClientError

    return (ClientError, TimeoutError, OSError, MalformedReplyError, ReplyLimitError)


@cache
def _unanswered() -> tuple[type[Exception], ...]:
    """What is raised when a question was not answered, whatever the reason."""
    return (_RefusedError, *_lost())
