"""Signed requests of one account at Binance, by python-binance: how a request is signed, sent once, and
counted in the weight budget. The meaning of an answer is decided in trading/.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from http import HTTPStatus
from math import ceil
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlencode

from pipeline_assets.errors import InputError, OutsideSystemError
from pipeline_assets.market.replies import MalformedReplyError
from pipeline_assets.private_apis import require_names
from pipeline_assets.proxies import proxy_for
from pipeline_assets.resources.binance_client import Reply, client_class, number_of, open_client
from pipeline_assets.resources.binance_endpoints import KEY_RIGHTS, TIME, Endpoint
from pipeline_assets.resources.bounded_replies import ReplyLimitError
from pipeline_assets.resources.exchange_clock import ExchangeClock
from pipeline_assets.resources.exchange_questions import server_time_of
from pipeline_assets.resources.redis_client import REPEAT
from pipeline_assets.resources.weight_allowance import WeightAllowance
from pipeline_assets.resources.weight_budget import Priority, WeightBudget

if TYPE_CHECKING:
    from pipeline_assets.settings import Settings

T = TypeVar("T")
Parameters = Mapping[str, str | int]
# Members of AsyncClient that are overridden, set or called here, beside those of binance_client.py.
_USED = (
    "_get_request_kwargs",
    "_hmac_signature",
    "_request_futures_api",
    "_request_margin_api",
    "MARGIN_API_URL",
)
# How long after its timestamp a query may arrive; an order brings its own window.
_RECV_WINDOW = 5_000
_REFUSED_FOR_WEIGHT = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.IM_A_TEAPOT)
_USUAL_BLOCK_SECONDS = 60
_MEASUREMENTS, _GOOD_ERROR_MS = 10, 100.0
_WAITS = (0.25, 0.5, 1.0, 2.0)
_ADVICE = "Check the network and PIPELINE_TRADING__REST_URL."


class CredentialsMissingError(InputError):
    """The settings have no key for the venue. The message names the settings."""


class UnansweredError(OutsideSystemError):
    """No whole answer came. Whether the request was carried out is not known."""


class AccountClient:
    """One account's connection pool. A request is sent at most once, except questions within `patient`.

    python-binance repeats nothing, and aiohttp repeats a request on a connection that the server had
    closed except POST, so an order is one POST at most. Redirects are not followed: a repeated POST at
    another address would be a second order.

    Attributes:
        clock: the venue's clock.
    """

    def __init__(
        self,
        settings: "Settings",
        *,
        priority: Priority = Priority.GATEWAY,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        then: str = REPEAT,
    ) -> None:
        """Take over addresses and keys; nothing is sent.

        Args:
            settings: of the account and the addresses.
            priority: of the questions; only the gateway's own may spend its share of the weight.
            monotonic: the local clock.
            sleep: waits for weight, and before a question is repeated.
            then: what a person does once Redis works again, for the errors' text.

        Raises:
            CredentialsMissingError: the settings have no key.
        """
        trading = settings.trading
        if trading.api_key is None or trading.api_secret is None:
            raise CredentialsMissingError(
                f"PIPELINE_TRADING__VENUE={trading.venue} needs the account's key: set "
                "PIPELINE_TRADING__API_KEY and PIPELINE_TRADING__API_SECRET in the environment or .env."
            )
        self._key, self._secret = trading.api_key, trading.api_secret
        self.addresses = trading.addresses
        self._binance = settings.binance.model_copy(update={"rest_url": self.addresses.rest_url})
        self._budget = WeightBudget(
            settings.redis,
            self._binance.budget_name,
            self._binance.weight_limit,
            self._binance.weight_margin,
            then=then,
        )
        self.clock = ExchangeClock(monotonic)
        self._weight = WeightAllowance(self._budget, priority, self.clock, sleep)
        self._sleep, self._waits = sleep, tuple[float, ...]()
        self._client: Any = None
        self._block = 0

    async def __aenter__(self) -> Self:
        """Open the connection pool for the length of a block."""
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections, however the block ended."""
        await self.close()

    async def open(self) -> None:
        """Open the connection pool; the caller closes it."""
        credentials = {
            "api_key": self._key.get_secret_value(),
            "api_secret": self._secret.get_secret_value(),
        }
        proxy = proxy_for(self.addresses.rest_url)
        self._client = open_client(self._binance, proxy, _signing_class(), **credentials)
        self._client.MARGIN_API_URL = f"{self.addresses.key_url}/sapi"

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close_connection()

    def now(self) -> int:
        """Return the venue's time in milliseconds."""
        return self.clock.now_ms()

    def earliest(self) -> int:
        """Return the earliest time that it can be at the venue, for timestamps.

        Binance accepts one that is seconds old, and refuses one that is a second ahead (-1021).
        """
        return self.clock.now_ms() - ceil(self.clock.error_ms())

    async def synchronize(self) -> None:
        """Take the venue's time until it is known well: a process that starts is slow to read replies.

        Raises:
            UnansweredError, WeightBudgetError: the venue does not say its time.
        """
        for _ in range(_MEASUREMENTS):
            await self._patiently(self.measure, lambda _: True)
            if self.clock.error_ms() < _GOOD_ERROR_MS:
                return

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Repeat questions without a whole answer, or with one of status 5xx, a few times within the block.

        A start asks a dozen: one lost reply in five, and almost no start came to its end.
        """
        self._waits = _WAITS
        try:
            yield
        finally:
            self._waits = ()

    async def _patiently(
        self, question: Callable[[], Awaitable[T]], is_whole: Callable[[T], bool]
    ) -> T:
        """Return the first whole answer, or whatever the last try gives or raises."""
        for wait in self._waits:
            with suppress(UnansweredError):
                answer = await question()
                if is_whole(answer):
                    return answer
            await self._sleep(wait)
        return await question()

    async def measure(self) -> None:
        """Take the venue's time.

        Raises:
            UnansweredError, WeightBudgetError: it does not say its time.
        """
        self.clock.postpone()
        sent = self.clock.monotonic()
        reply = await self._once(TIME, {})
        received = self.clock.monotonic()
        if reply.status != HTTPStatus.OK:
            await self._heed(reply)
            raise UnansweredError(f"{self._place(TIME)} answers HTTP {reply.status}. {_ADVICE}")
        try:
            server_ms = server_time_of(reply.body)
        except MalformedReplyError as error:
            raise UnansweredError(f"{self._place(TIME)}: {error} {_ADVICE}") from error
        self.clock.measure(server_ms, sent, received)

    async def ask(self, endpoint: Endpoint, parameters: Parameters | None = None) -> Reply:
        """Wait for weight, and send a request that may be repeated; return the answer of any status.

        Raises:
            UnansweredError: no whole answer came.
            ExchangeBannedError: the address is shut out for longer than a caller should wait.
            WeightBudgetError: Redis failed; nothing was sent.
        """
        return await self._patiently(lambda: self._ask(endpoint, parameters), _is_whole)

    async def _ask(self, endpoint: Endpoint, parameters: Parameters | None) -> Reply:
        sent = dict(parameters or {})
        minute = await self._weight.take(endpoint.weight) if endpoint.weight else 0
        try:
            if endpoint.signed:
                sent |= {"timestamp": self.earliest(), "recvWindow": _RECV_WINDOW}
            reply = await self._once(endpoint, sent)
        finally:
            self._weight.settle(minute, endpoint.weight)
        self._weight.observe(minute, reply.used_weight)
        await self._heed(reply)
        return reply

    async def send(
        self, endpoint: Endpoint, parameters: Parameters, timestamp: int, recv_window: int
    ) -> Reply:
        """Send an order at once, and once; return the answer of any status.

        Args:
            endpoint: of the order.
            parameters: of the order.
            timestamp: by the venue's clock, in milliseconds.
            recv_window: how long after that the venue may accept the order.

        Raises:
            UnansweredError: no whole answer came; the order may exist.
        """
        window = {"timestamp": timestamp, "recvWindow": recv_window}
        reply = await self._once(endpoint, {**parameters, **window})
        await self._heed(reply)
        return reply

    @property
    def blocked_until(self) -> int:
        """Until when this address may send nothing, by the venue's clock; 0 if it may.

        A refusal of a request here is known at once, one in another process since the last `read_block`.
        """
        return self._block if self._block > self.now() else 0

    async def read_block(self) -> None:
        """Read whether a process at this address was refused, or a person lifted the block.

        Raises:
            WeightBudgetError: Redis failed.
        """
        self._block = await asyncio.to_thread(self._budget.blocked_until)

    async def _once(self, endpoint: Endpoint, parameters: Parameters) -> Reply:
        """Send one request; the error names the endpoint only: addresses and bodies are signed."""
        from aiohttp import ClientError

        client = self._client
        call = client._request_margin_api if endpoint is KEY_RIGHTS else client._request_futures_api
        version = {} if endpoint is KEY_RIGHTS else {"version": endpoint.version}
        try:
            reply: Reply = await call(
                endpoint.method, endpoint.path, endpoint.signed, data=dict(parameters), **version
            )
        except ReplyLimitError as error:
            raise UnansweredError(str(error)) from None
        except (ClientError, TimeoutError, OSError, ValueError) as error:
            # The text of these errors may hold the signed address; `from None` keeps it out of logs.
            setting = "KEY_URL" if endpoint is KEY_RIGHTS else "REST_URL"
            raise UnansweredError(
                f"{self._place(endpoint)} gave no whole answer ({type(error).__name__}): check the network "
                f"and PIPELINE_TRADING__{setting}."
            ) from None
        return reply

    def _place(self, endpoint: Endpoint) -> str:
        host = self.addresses.key_url if endpoint is KEY_RIGHTS else self.addresses.rest_url
        return f"{endpoint.method.upper()} {endpoint.path} of {host}"

    async def _heed(self, reply: Reply) -> None:
        """Stop every process of this address after 429 and 418, as Retry-After says."""
        if reply.status not in _REFUSED_FOR_WEIGHT:
            return
        seconds = number_of(reply.retry_after) or _USUAL_BLOCK_SECONDS
        self._block = max(self._block, self.now() + 1000 * seconds)
        await self._weight.block(1000 * seconds, f"HTTP {reply.status} to the order gateway")


def _is_whole(reply: Reply) -> bool:
    """Return whether a reply is the exchange's answer: no server is in trouble, and nothing was cut."""
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return False
    with suppress(UnansweredError):
        json_of(reply)
        return True
    return False


def json_of(reply: Reply) -> Any:
    """Return the decoded body.

    Raises:
        UnansweredError: the body is no JSON.
    """
    from orjson import JSONDecodeError, loads

    try:
        return loads(reply.body)
    except JSONDecodeError:
        raise UnansweredError(
            f"Binance's answer is no JSON: it was cut, or another server made it. {_ADVICE}"
        ) from None


@cache
def _signing_class() -> type:
    """Return the class of the client that signs exactly the text that it sends.

    python-binance signs the parameters before they are encoded, so that a `/` or `:` in a client id gives
    another signature than the exchange's. It also sets the timestamp itself: an order that waited in this
    process would be accepted later than its window says.
    """
    base = client_class()
    require_names("python-binance", base, _USED, __name__)
    from aiohttp import ClientTimeout

    class SigningClient(base):  # type: ignore[misc, valid-type]
        """Signs the encoded parameters; an order's are in the body, where no log of addresses has them."""

        def _get_request_kwargs(
            self, method: str, signed: bool, force_params: bool = False, **kwargs: Any
        ) -> dict[str, Any]:
            del force_params
            text = urlencode(kwargs.get("data") or {})
            if signed:
                text += f"&signature={self._hmac_signature(text)}"
            sent: dict[str, Any] = {
                "timeout": ClientTimeout(total=self.REQUEST_TIMEOUT),
                "allow_redirects": False,
            }
            if text:
                sent["params" if method == "get" else "data"] = text
            return sent

    return SigningClient
