"""The connection to Binance's private stream: its listen key, and connecting again. How events are read is in
binance_events.py.

The stream is a hint. Each connection is reported, so that queries find what came before it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.proxies import proxy_for
from pipeline_assets.resources.binance_account import (
    AccountClient,
)
from pipeline_assets.resources.binance_endpoints import (
    KEEP_LISTEN_KEY,
    NEW_LISTEN_KEY,
)
from pipeline_assets.trading.binance_answers import json_object, problem_of
from pipeline_assets.trading.binance_events import KeyExpired, StreamEvent, read_event
from pipeline_assets.trading.binance_replies import TriggeredOrders, VenueReplyError

if TYPE_CHECKING:
    from aiohttp import ClientSession, ClientWebSocketResponse

# A key lives for 60 minutes after it was last kept alive.
_KEEP_SECONDS = 1_800.0
# An event follows its order within a second. Connections were seen that were open and said nothing.
_SILENCE_SECONDS = 10.0
_LOOK_SECONDS = 1.0
# aiohttp closes a connection that does not answer a ping within half of this.
_PING_SECONDS = 20.0
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0
_LARGEST_MESSAGE = 1_000_000
_logger = logging.getLogger(__name__)


class StreamError(OutsideSystemError):
    """A connection to the private stream failed or ended. The message never holds the listen key."""


class PrivateStream:
    """Keeps one connection open, and hands its events on.

    Attributes:
        triggered: the stops that were triggered.
    """

    def __init__(
        self,
        account: AccountClient,
        triggered: TriggeredOrders,
        hear: Callable[[StreamEvent], None],
        on_connected: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Join the parts.

        Args:
            account: asks for listen keys.
            triggered: shared with the queries.
            hear: takes each event.
            on_connected: called when a connection is open, and when an event was lost.
            sleep: how to wait between two connections.
        """
        self._account, self.triggered = account, triggered
        self._hear, self._on_connected, self._sleep = hear, on_connected, sleep
        self._expected: dict[str, float] = {}
        self._heard = False

    def announce(self, client_id: str) -> None:
        """Note that an order is being sent: its event may come before the answer, and no other after."""
        self._expected[client_id] = inf

    def expect(self, client_id: str) -> None:
        """Note that an announced order was accepted: without an event of it, the connection is silent."""
        if client_id in self._expected:
            self._expected[client_id] = self._account.clock.monotonic() + _SILENCE_SECONDS

    def forget(self, client_id: str) -> None:
        """Note that an announced order was not accepted, or perhaps not."""
        self._expected.pop(client_id, None)

    async def run(self) -> None:
        """Stay connected until cancelled, with waits of up to half a minute after failures."""
        wait = _FIRST_WAIT
        while True:
            self._heard = False
            try:
                await self._once()
            except OutsideSystemError as error:
                _logger.warning("The private stream ended: %s It is connected again.", error)
            wait = _FIRST_WAIT if self._heard else min(2 * wait, _LONGEST_WAIT)
            await self._sleep(wait)

    async def _once(self) -> None:
        """Connect and listen until the connection ends.

        Raises:
            OutsideSystemError: it could not be made, or was lost.
        """
        from aiohttp import ClientError, ClientSession, DummyCookieJar, WSServerHandshakeError

        url = self._account.addresses.stream_url
        key = await self._listen_key()
        try:
            async with ClientSession(cookie_jar=DummyCookieJar()) as session:
                await self._listen(session, url, key)
        except WSServerHandshakeError as error:
            # The text of aiohttp's errors has the address, and with it the key.
            raise StreamError(f"{url} refuses the connection (HTTP {error.status}).") from None
        except (ClientError, TimeoutError, OSError) as error:
            raise StreamError(f"{url} cannot be reached ({type(error).__name__}).") from None

    async def _listen(self, session: "ClientSession", url: str, key: str) -> None:
        connecting = session.ws_connect(
            f"{url}?listenKey={key}",
            proxy=proxy_for(url),
            heartbeat=_PING_SECONDS,
            max_msg_size=_LARGEST_MESSAGE,
        )
        async with connecting as socket:
            # Queries find now whatever an earlier connection was expected to say.
            self._expected.clear()
            self._on_connected()
            keeping = asyncio.create_task(self._keep(key, socket))
            try:
                await self._receive(socket)
            finally:
                keeping.cancel()

    async def _receive(self, socket: "ClientWebSocketResponse") -> None:
        from aiohttp import WSMsgType

        while True:
            try:
                message = await socket.receive(timeout=_LOOK_SECONDS)
            except TimeoutError:
                self._require_events()
                continue
            if message.type is not WSMsgType.TEXT:
                raise StreamError("the connection was closed.")
            if self._take(message.data):
                raise StreamError("the listen key expired.")
            self._require_events()

    def _take(self, text: str) -> bool:
        """Hand the messages of an event on; return whether the key expired."""
        try:
            events = read_event(json_object(text.encode()) or {}, self.triggered)
        except VenueReplyError as error:
            _logger.warning("%s Queries find what it said.", error)
            self._on_connected()
            return False
        for event in events:
            self._heard = True
            self._expected.pop(getattr(event, "client_id", ""), None)
            if isinstance(event, KeyExpired):
                return True
            self._hear(event)
        return False

    def _require_events(self) -> None:
        now = self._account.clock.monotonic()
        overdue = [each for each, until in self._expected.items() if until < now]
        if overdue:
            raise StreamError(f"it is silent: no event of order {overdue[0]} came.")

    async def _listen_key(self) -> str:
        reply = await self._account.ask(NEW_LISTEN_KEY)
        key = (json_object(reply.body) or {}).get("listenKey")
        if reply.status != HTTPStatus.OK or not isinstance(key, str) or not key.isalnum():
            raise StreamError(f"no listen key: {problem_of(reply.status, reply.body)}.")
        return key

    async def _keep(self, key: str, socket: "ClientWebSocketResponse") -> None:
        """Keep the key alive until cancelled; a key that is gone ends the connection."""
        while True:
            await self._sleep(_KEEP_SECONDS)
            try:
                reply = await self._account.ask(KEEP_LISTEN_KEY, {"listenKey": key})
            except OutsideSystemError as error:
                # The key lives for another half hour, in which the next try comes.
                _logger.warning("The listen key was not kept alive: %s", error)
                continue
            if reply.status != HTTPStatus.OK:
                await socket.close()
                return
