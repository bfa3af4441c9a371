"""The /control/ interface, by which a person or a test reads and changes the replay exchange. Its requests
have no weight, and no fault strikes them.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

# This module is imported by the server process only, which is nothing without aiohttp.
from aiohttp import web  # noqa: TID253

from pipeline_assets.local.exchange.faults import Faults
from pipeline_assets.local.exchange.intervals import MINUTE
from pipeline_assets.local.exchange.moments import format_moment
from pipeline_assets.local.exchange.outages import Outage
from pipeline_assets.local.exchange.replies import compact, reply

if TYPE_CHECKING:
    from pipeline_assets.local.exchange.server import Exchange


class Control:
    """The handlers of /control/ for one exchange."""

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange = exchange

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the interface's routes."""
        router.add_get("/control/state", self.show_state)
        router.add_post("/control/clock", self.move_clock)
        router.add_post("/control/faults", self.replace_faults)
        router.add_post("/control/outages", self.replace_outages)
        router.add_post("/control/reset", self.reset)

    async def show_state(self, _request: web.Request) -> web.Response:
        """GET /control/state."""
        return reply(compact(self.state()), 200, {})

    def state(self) -> dict[str, Any]:
        """Return what the exchange stands at; times are ISO 8601 or ms, weights by UTC minute."""
        requests: dict[str, dict[str, int]] = {}
        for (path, status), count in self._exchange.answers.items():
            requests.setdefault(path, {})[status] = count
        now_ms, budgets = self._exchange.clock.now_ms(), self._exchange.budgets
        used = budgets.used()
        return {
            "now_ms": now_ms,
            "now": format_moment(now_ms),
            "clock": self._exchange.clock.kind,
            "symbols": len(self._exchange.market.contracts),
            "candles": self._exchange.market.source.description(),
            "outages": [outage.text() for outage in self._exchange.market.outages],
            "weight": {
                "limit": budgets.limit,
                "used": _by_moment(sum(map(Counter, used.values()), Counter())),
                "by_address": {address: _by_moment(held) for address, held in used.items()},
            },
            "banned_until_ms": budgets.banned_until_ms(),
            "requests": requests,
            "funding": self._exchange.funding.state(),
            "sent_429": self._sent("429"),
            "sent_418": self._sent("418"),
            "faults": self._exchange.plan.faults.document(),
            "faults_struck": dict(self._exchange.plan.struck),
        }

    def _sent(self, status: str) -> int:
        """Return how many replies had this status."""
        return sum(count for (_, sent), count in self._exchange.answers.items() if sent == status)

    async def move_clock(self, request: web.Request) -> web.Response:
        """POST /control/clock with {"set_ms": …} or {"advance_ms": …}.

        The reply counts the private streams' events so far, so that a client knows when all have come.
        """

        def move(document: dict[str, Any]) -> dict[str, Any]:
            match document:
                case {"set_ms": int(value)}:
                    self._exchange.clock.set_ms(value)
                case {"advance_ms": int(value)}:
                    self._exchange.clock.set_ms(self._exchange.clock.now_ms() + value)
                case _:
                    raise ValueError('Send {"set_ms": 1763640000000} or {"advance_ms": 60000}')
            self._exchange.trading.doors.advance()
            made = self._exchange.trading.streams.made.total()
            return {"now_ms": self._exchange.clock.now_ms(), "events": made}

        return await controlled(request, move)

    async def replace_faults(self, request: web.Request) -> web.Response:
        """POST /control/faults with the fields of `Faults`; {} ends all faults."""

        def replace(document: dict[str, Any]) -> dict[str, Any]:
            self._exchange.plan.replace(Faults.parse(document))
            self._exchange.trading.replace_faults()
            return self._exchange.plan.faults.document()

        return await controlled(request, replace)

    async def replace_outages(self, request: web.Request) -> web.Response:
        """POST /control/outages with {"outages": ["START/END", "START/END/SYMBOL,SYMBOL"]}."""

        def replace(document: dict[str, Any]) -> dict[str, Any]:
            match document:
                case {"outages": [*texts]}:
                    self._exchange.market.set_outages([Outage.parse(str(text)) for text in texts])
                    self._exchange.trading.desk.prices.forget()
                case _:
                    raise ValueError('Send {"outages": ["START/END", "START/END/SYMBOL,SYMBOL"]}')
            return {"outages": [outage.text() for outage in self._exchange.market.outages]}

        return await controlled(request, replace)

    async def reset(self, request: web.Request) -> web.Response:
        """POST /control/reset with {}: clock, weights, counts, faults, outages as at the start."""

        def restart(_document: dict[str, Any]) -> dict[str, Any]:
            stepped_ms, faults, outages = self._exchange.start
            self._exchange.clock.stepped_ms = stepped_ms
            if outages != self._exchange.market.outages:
                self._exchange.market.set_outages(outages)
            self._exchange.plan.replace(faults)
            self._exchange.budgets.forget()
            self._exchange.funding.forget()
            self._exchange.answers.clear()
            self._exchange.trading.restart()
            return {"now_ms": self._exchange.clock.now_ms()}

        return await controlled(request, restart)


def _by_moment(used: Mapping[int, int]) -> dict[str, int]:
    return {format_moment(minute * MINUTE): used[minute] for minute in sorted(used)}


async def controlled(
    request: web.Request, act: Callable[[dict[str, Any]], dict[str, Any]]
) -> web.Response:
    """Do what a control request asks; a request that makes no sense gets HTTP 400 and the reason."""
    try:
        match await request.json():
            case dict() as document:
                return reply(compact(act(document)), 200, {})
            case _:
                raise ValueError("Send a JSON object")
    except ValueError as error:
        return reply(compact({"error": str(error)}), 400, {})
