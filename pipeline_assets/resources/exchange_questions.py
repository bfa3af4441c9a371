"""A question to the exchange, the parts that its reply must have, and the failures after which it may be
asked again. How questions are sent is in exchange_requests.py.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from json import loads
from typing import Any, Generic, Protocol, TypeVar

from pipeline_assets.market.intervals import Interval, from_milliseconds
from pipeline_assets.market.replies import MalformedReplyError, check_reply
from pipeline_assets.outside_text import printable
from pipeline_assets.resources.binance_client import Reply
from pipeline_assets.resources.bounded_replies import ReplyLimitError
from pipeline_assets.resources.exchange_refusals import RefusedError

T = TypeVar("T")


# No candle of USD-M Futures is older than September 2019.
_EARLIEST_MS = 1_567_296_000_000
_LATEST_MS = 10**14  # the year 5138; a time beyond it is no time


class Allowance(Protocol):
    """The limit that a request counts in: the request weight, or another one."""

    async def take(self, weight: int, /) -> int:
        """Wait until the request may be sent; returns the minute that it counts in."""

    def settle(self, minute: int, weight: int, /) -> None:
        """Note that the request is over."""

    def observe(self, minute: int, used: int, /) -> None:
        """Note the used weight in its reply."""

    async def block(self, wait_ms: int, cause: str, /) -> None:
        """Send nothing for so long."""


@dataclass(frozen=True)
class Question(Generic[T]):
    """Something to ask the exchange. `read` raises MalformedReplyError on a useless reply."""

    what: str
    weight: int
    send: Callable[[], Awaitable[Reply]]
    read: Callable[[Reply], T]
    one_of_many: bool = False  # its failure is no reason to think that the others fail
    allowance: Allowance | None = None  # None: the request weight


def member(body: dict[str, Any], name: str, kind: type[T]) -> T:
    """Return a member of a reply, which must be of this type.

    Raises:
        MalformedReplyError: the member is missing, or has another type.
    """
    value = body.get(name)
    if not isinstance(value, kind):
        found = printable(", ".join(body)[:60])
        raise MalformedReplyError(f"The reply has no {name}, but {found}.")
    return value


def json_object(body: bytes) -> dict[str, Any]:
    """Return a reply that must be a JSON object.

    Raises:
        MalformedReplyError: the reply is no JSON, or no object.
    """
    try:
        decoded = loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedReplyError(f"The reply is not JSON: {body[:60]!r}.") from error
    if not isinstance(decoded, dict):
        raise MalformedReplyError(f"The reply is not an object: {body[:60]!r}.")
    return decoded


def server_time_of(body: bytes) -> int:
    """Return the time that a reply tells, in ms since the epoch.

    Raises:
        MalformedReplyError: the reply has no time, or one that cannot be.
    """
    server_ms = member(json_object(body), "serverTime", int)
    # `true` is an int to Python.
    if isinstance(server_ms, bool) or not _EARLIEST_MS <= server_ms < _LATEST_MS:
        raise MalformedReplyError("The reply's serverTime is not a time.")
    return server_ms


def first_candle_of(symbol: str, body: bytes) -> datetime | None:
    """Return the open time of the first candle of a reply to klines of 1m; None without one.

    Raises:
        MalformedReplyError: the reply is no list of candles, or its open time is no time.
    """
    if not check_reply(symbol, body):
        return None
    first_ms = loads(body)[0][0]
    if not 0 <= first_ms < _LATEST_MS:
        raise MalformedReplyError(f"The reply's open time {first_ms} is not a time.")
    return Interval.ONE_MINUTE.floor(from_milliseconds(first_ms))


@cache
def lost() -> tuple[type[Exception], ...]:
    """Return what is raised when a request got no usable answer and may get one when sent again."""
    from aiohttp import ClientError

    return (ClientError, TimeoutError, OSError, MalformedReplyError, ReplyLimitError)


@cache
def unanswered() -> tuple[type[Exception], ...]:
    """Return what is raised when a question was not answered, whatever the reason."""
    return (RefusedError, *lost())
