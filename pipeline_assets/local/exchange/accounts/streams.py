"""The private streams: listen keys, connections, and the events that each connection gets, with faults."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

# This module is imported by the server process only, which is nothing without aiohttp.
from aiohttp import WSMsgType, web  # noqa: TID253

from pipeline_assets.local.exchange.accounts.events import listen_key_expired
from pipeline_assets.local.exchange.accounts.faults import EVENT_FAULTS
from pipeline_assets.local.exchange.accounts.refusals import refused
from pipeline_assets.local.exchange.replies import compact

if TYPE_CHECKING:
    from pipeline_assets.local.exchange.accounts.faults import TradingFaultPlan
    from pipeline_assets.local.exchange.accounts.model import Account

VALID_MS = 3_600_000
PING_SECONDS = 180.0
HELD_TICKS = 40
"""Ticks of trading.py that a swapped event waits for the next one, which may never come."""

Document = dict[str, Any]


@dataclass
class ListenKey:
    """A listen key of an account, valid until `expires_ms`."""

    text: str
    account: str
    expires_ms: int


@dataclass
class Held:
    """An event that is to come after the one that follows it, and the ticks that it has waited."""

    document: Document
    ticks: int = 0


@dataclass(eq=False)
class Connection:
    """One open private stream.

    Attributes:
        events: the types of events that it asked for; empty for all.
        combined: each event is wrapped in the name of its stream.
        waiting: events not sent yet; None ends the connection.
    """

    listen_key: str
    events: frozenset[str]
    combined: bool
    waiting: "asyncio.Queue[Document | None]" = field(default_factory=asyncio.Queue)

    def offer(self, document: Document) -> None:
        """Queue an event if the connection asked for its type."""
        if self.events and document["e"] not in self.events | {"listenKeyExpired"}:
            return
        if self.combined:
            document = {"stream": self.listen_key, "data": document}
        self.waiting.put_nowait(document)


class Streams:
    """The listen keys and connections of all accounts.

    Attributes:
        made: the number of events by account and type, before faults.
    """

    def __init__(self, plan_of: Callable[[], "TradingFaultPlan"]) -> None:
        self._plan_of = plan_of
        self.keys: dict[str, ListenKey] = {}
        self.connections: list[Connection] = []
        self.made: Counter[tuple[str, str]] = Counter()
        self._held: dict[str, Held] = {}
        self._opened = 0

    # Listen keys

    def open_key(self, account: str, now_ms: int) -> str:
        """Return the account's listen key, the same one while it is valid, valid for an hour from now."""
        for key in self.keys.values():
            if key.account == account:
                key.expires_ms = now_ms + VALID_MS
                return key.text
        self._opened += 1
        seed = f"{account}:{self._opened}:{now_ms}".encode()
        text = hashlib.blake2b(seed, digest_size=32).hexdigest()
        self.keys[text] = ListenKey(text, account, now_ms + VALID_MS)
        return text

    def keep(self, account: str, now_ms: int) -> str:
        """Keep the account's listen key valid for another hour.

        Raises:
            ApiError: -1125, there is none.
        """
        if not any(key.account == account for key in self.keys.values()):
            raise refused(-1125)
        return self.open_key(account, now_ms)

    def close_key(self, account: str) -> None:
        """End the account's listen key; its connections bring nothing more."""
        self.keys = {text: key for text, key in self.keys.items() if key.account != account}

    def expire(self, now_ms: int, account: str | None = None) -> None:
        """End the listen keys whose hour is over, or those of an account, and tell their connections."""
        for key in list(self.keys.values()):
            if key.expires_ms <= now_ms or key.account == account:
                del self.keys[key.text]
                for connection in self.connections:
                    if connection.listen_key == key.text:
                        connection.offer(listen_key_expired(key.text, now_ms))

    # Events

    def emit(self, account: "Account", document: Document) -> None:
        """Send an event to the account's connections, as far as the faults let it."""
        self.made[account.key, document["e"]] += 1
        plan = self._plan_of()
        if plan.faults.stream_silent:
            return
        struck = plan.draw(f"{account.key}:{document['e']}", EVENT_FAULTS)
        if struck == "event_lost":
            return
        held = self._held.pop(account.key, None)
        if struck == "event_swapped" and held is None:
            self._held[account.key] = Held(document)
            return
        self._deliver(account.key, document)
        if struck == "event_duplicated":
            self._deliver(account.key, document)
        if held is not None:
            self._deliver(account.key, held.document)

    def tick(self) -> None:
        """Send the events that wait for the one that follows them, and have waited too long."""
        for account, held in list(self._held.items()):
            held.ticks += 1
            if held.ticks > HELD_TICKS:
                self._deliver(account, self._held.pop(account).document)

    def _deliver(self, account: str, document: Document) -> None:
        for connection in self.connections:
            key = self.keys.get(connection.listen_key)
            if key is not None and key.account == account:
                connection.offer(document)

    def cut(self, account: str | None = None) -> int:
        """Close the connections of an account, or all; return how many."""
        count = 0
        for connection in self.connections:
            key = self.keys.get(connection.listen_key)
            if account is None or (key is not None and key.account == account):
                connection.waiting.put_nowait(None)
                count += 1
        return count

    def forget(self) -> None:
        """Begin anew: no keys, no connections."""
        self.cut()
        self.keys.clear()
        self.made.clear()
        self._held.clear()

    # The connections

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the addresses of private streams: routed and legacy, single and combined."""
        for path in ("/private/ws", "/private/ws/{key}", "/ws/{key}", "/private/stream", "/stream"):
            router.add_get(path, self.connect, allow_head=False)

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection; with an unknown listen key it brings nothing, as on the real exchange."""
        query = request.query
        key = request.match_info.get("key") or query.get("listenKey") or query.get("streams", "")
        names = query.get("events", "").replace("/", ",").split(",")
        connection = Connection(
            key, frozenset(filter(None, names)), request.path.endswith("/stream")
        )
        socket = web.WebSocketResponse(heartbeat=PING_SECONDS)
        await socket.prepare(request)
        self.connections.append(connection)
        writer = asyncio.create_task(write(socket, connection))
        try:
            async for message in socket:
                if message.type is WSMsgType.ERROR:
                    break
        finally:
            self.connections.remove(connection)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return socket


async def write(socket: web.WebSocketResponse, connection: Connection) -> None:
    """Send what waits for a connection until it is closed."""
    while True:
        document = await connection.waiting.get()
        if document is None:
            await socket.close()
            return
        try:
            await socket.send_str(compact(document).decode())
        except ConnectionError:
            return
