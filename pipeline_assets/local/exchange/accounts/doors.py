"""The rules of every request of an account: who sent it, order limits, faults of orders, and how the answer
is found. Each endpoint by itself is in the route modules.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

# This module is imported by the server process only, which is nothing without aiohttp.
from aiohttp import web  # noqa: TID253

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.accounts import refusals, signing
from pipeline_assets.local.exchange.accounts.desk import Desk
from pipeline_assets.local.exchange.accounts.faults import CANCEL_FAULTS, ORDER_FAULTS, OVERLOADED
from pipeline_assets.local.exchange.accounts.fields import Query
from pipeline_assets.local.exchange.accounts.matching import Matching
from pipeline_assets.local.exchange.accounts.model import Account
from pipeline_assets.local.exchange.accounts.order_limits import OrderLimits
from pipeline_assets.local.exchange.accounts.streams import Streams
from pipeline_assets.local.exchange.replies import compact

if TYPE_CHECKING:
    from pipeline_assets.local.exchange.server import Exchange

CLIENT_IDS = ("newClientOrderId", "clientAlgoId", "origClientOrderId")


@dataclass(frozen=True)
class Call:
    """One request of an account that may have what it asks for."""

    account: Account
    query: Query
    desk: Desk
    streams: Streams
    limits: OrderLimits


@dataclass(frozen=True)
class Route:
    """One endpoint.

    Attributes:
        weight: by the request's parameters.
        answer: makes the JSON document of the reply.
        kind: `read`; `order` for what the order limits count; `cancel`; `key` for what needs no signature.
    """

    method: str
    path: str
    weight: Callable[[Query], int]
    answer: Callable[[Call], Any]
    kind: str = "read"


class Doors:
    """The endpoints of accounts on one exchange."""

    def __init__(self, exchange: "Exchange", desk: Desk, streams: Streams) -> None:
        self._exchange = exchange
        self._desk = desk
        self._streams = streams
        self._matching = Matching(desk)
        self.limits = OrderLimits()

    def advance(self) -> None:
        """Let everything happen that is due by the exchange's clock."""
        now_ms = self._exchange.clock.now_ms()
        self._matching.advance(now_ms)
        self._streams.expire(now_ms)

    def handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return the handler of an endpoint."""

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.text()
            sent = request.raw_path.partition("?")[2]
            query = dict(parse_qsl(f"{sent}&{body}", keep_blank_values=True))
            self._count_post(route, request, query)
            name = next((query[key] for key in CLIENT_IDS if query.get(key)), query.get("symbol"))
            request["drawn"] = f"{route.method} {route.path} {name}", query.get("symbol")
            request["headers"] = {}

            def answer(_request: web.Request, now_ms: int) -> bytes:
                return compact(self._answer(route, request, query, sent + body, now_ms))

            return await self._exchange.answer(request, route.weight(query), answer)

        return self._exchange.counted(lambda request: f"{route.method} {request.path}", handle)

    def _count_post(self, route: Route, request: web.Request, query: Query) -> None:
        """Count a new order as seen on the wire, whatever becomes of it."""
        account = self._desk.accounts.get(request.headers.get(signing.KEY_HEADER, ""))
        if route.kind == "order" and account is not None:
            client_id = query.get("newClientOrderId") or query.get("clientAlgoId") or ""
            account.posts[client_id] = account.posts.get(client_id, 0) + 1

    def _answer(
        self, route: Route, request: web.Request, query: Query, payload: str, now_ms: int
    ) -> Any:
        self.advance()
        account = signing.account_of(self._desk.accounts, request.headers.get(signing.KEY_HEADER))
        struck = self._strike(route, query)
        if struck in ("order_cut_before", "cancel_cut_before"):
            raise errors.ConnectionCut
        if route.kind != "key":
            signing.check_signature(account, query, payload, now_ms)
        if route.kind in ("order", "cancel") and not account.can_trade:
            raise refusals.refused(-2015)
        if route.kind == "order":
            request["headers"].update(self.limits.count(account.key, now_ms))
            self.limits.refuse(account.key, now_ms)
        if struck in LOST:
            raise LOST[struck]
        try:
            return route.answer(Call(account, query, self._desk, self._streams, self.limits))
        finally:
            if struck is not None:
                raise ACCEPTED.get(struck, errors.ConnectionCut())

    def _strike(self, route: Route, query: Query) -> str | None:
        names = {"order": ORDER_FAULTS, "cancel": CANCEL_FAULTS}.get(route.kind)
        endpoint = self._desk.plan.faults.endpoint
        if names is None or (endpoint and not route.path.endswith(f"/{endpoint}")):
            return None
        if query.get("reduceOnly") == "true":
            # As the text of -1008 says.
            names = tuple(each for each in names if each != OVERLOADED)
        order = next((query[key] for key in CLIENT_IDS if query.get(key)), "")
        number = query.get("orderId") or query.get("algoId") or query.get("symbol", "")
        return self._desk.plan.draw(order or number, names)


TIMEOUT = errors.SERVER_FAILURES["http_408"]
LOST = {
    "order_503_lost": refusals.status_unknown(),
    "order_503_failed": refusals.unavailable(),
    OVERLOADED: refusals.overloaded(),
    "order_408_lost": TIMEOUT,
}
ACCEPTED: dict[str, Exception] = {
    "order_503_accepted": refusals.status_unknown(),
    "order_408_accepted": TIMEOUT,
    "cancel_503_accepted": refusals.status_unknown(),
}
