"""The exchange as an HTTP server: parameters, weights, faults and the /control/ interface.

Which rows a request gets is in market.py; what can go wrong is in faults.py.
"""

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

# This module is imported by the server process only, which is nothing without aiohttp.
from aiohttp import web  # noqa: TID253
from aiohttp.typedefs import Middleware  # noqa: TID253

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.archive import (
    NO_SUCH_KEY,
    Archive,
    ArchiveFile,
    ArchiveForm,
    checksum,
    corrupted,
)
from pipeline_assets.local.exchange.clock import ExchangeClock
from pipeline_assets.local.exchange.contracts import exchange_info
from pipeline_assets.local.exchange.faults import (
    ANYWHERE,
    ARCHIVE_FAULTS,
    ROW_FAULTS,
    FaultPlan,
    Faults,
    damaged_rows,
)
from pipeline_assets.local.exchange.intervals import INTERVALS, MINUTE
from pipeline_assets.local.exchange.market import Market, Outage
from pipeline_assets.local.exchange.moments import format_moment
from pipeline_assets.local.exchange.weights import (
    WeightBudget,
    klines_weight,
    seconds_to_next_minute,
)
from pipeline_assets.web_guard import WebGuard

DEFAULT_LIMIT = 500
LARGEST_LIMIT = 1500
LARGEST_TIME = 10**17
ARCHIVE_PATH = "/data/futures/um"

Body = Callable[[web.Request, int], bytes]


@dataclass
class Exchange:
    """A running exchange's state.

    Attributes:
        market: the candles and contracts.
        clock: what every answer follows.
        budget: the weight of the one address that all clients on this machine share.
        plan: the faults in force.
        form: what the archive's files look like.
        names: host names of this server beside the loopback ones.
        answers: replies so far, by path and HTTP status ("none" where no whole reply was sent);
            all of the archive's files count as one path.
    """

    market: Market
    clock: ExchangeClock = field(default_factory=ExchangeClock)
    budget: WeightBudget = field(default_factory=WeightBudget)
    plan: FaultPlan = field(default_factory=FaultPlan)
    form: ArchiveForm = field(default_factory=ArchiveForm)
    names: tuple[str, ...] = ()
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    _dates: tuple[int, str] = (0, "")

    def __post_init__(self) -> None:
        """Keep what the exchange started with, for /control/reset."""
        self._start = (self.clock.stepped_ms, self.plan.faults, self.market.outages)
        self._archive = Archive(self.market, self.form)

    def application(self) -> web.Application:
        """The routes: the public interface, the archive and /control/."""
        guard = WebGuard(names=self.names, json_paths=("/control/",))
        application = web.Application(middlewares=[guarded_by(guard)])
        routes: dict[str, tuple[Callable[[Mapping[str, str]], int], Body]] = {
            "/fapi/v1/ping": (lambda _query: 1, self.ping),
            "/fapi/v1/time": (lambda _query: 1, self.time),
            "/fapi/v1/exchangeInfo": (lambda _query: 1, self.exchange_info),
            "/fapi/v1/klines": (requested_weight, self.klines),
        }
        for path, (weight, body) in routes.items():
            application.router.add_get(path, self._public(weight, body), allow_head=False)
        application.router.add_get(
            ARCHIVE_PATH + "/{period}/klines/{symbol}/{interval}/{name}",
            self._counted(lambda _request: ARCHIVE_PATH, self.archived),
            allow_head=False,
        )
        application.router.add_get("/control/state", self.show_state)
        application.router.add_post("/control/clock", self.move_clock)
        application.router.add_post("/control/faults", self.replace_faults)
        application.router.add_post("/control/outages", self.replace_outages)
        application.router.add_post("/control/reset", self.reset)
        application.router.add_route("*", "/{unknown:.*}", self.unknown_path)
        return application

    # The public interface

    def _public(
        self, weight: Callable[[Mapping[str, str]], int], body: Body
    ) -> Callable[[web.Request], Any]:
        """A handler of the public interface: everything that holds for each of its calls."""

        async def answer(request: web.Request) -> web.StreamResponse:
            return await self._answer(request, weight(request.query), body)

        return self._counted(lambda request: request.path, answer)

    def _counted(
        self,
        name: Callable[[web.Request], str],
        answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> Callable[[web.Request], Any]:
        """A handler whose replies are counted under a name."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                response = await answer(request)
            except asyncio.CancelledError:
                self.answers[name(request), "none"] += 1
                raise
            status = "none" if request.transport is None else str(response.status)
            self.answers[name(request), status] += 1
            return response

        return handle

    async def _answer(self, request: web.Request, weight: int, body: Body) -> web.StreamResponse:
        """The reply to one call, whatever becomes of it."""
        plan = self.plan
        symbol = request.query.get("symbol")
        struck = plan.draw(request.path_qs, symbol)
        if await self._cut_off(request, struck):
            return reset(request)

        now_ms = self.clock.now_ms()
        headers = {
            "X-MBX-USED-WEIGHT-1M": str(self.budget.spend(weight, now_ms)),
            "Date": self._date(now_ms),
        }
        try:
            self._refuse(now_ms, request.remote or "127.0.0.1")
            self._fail(struck)
            answer = body(request, now_ms)
        except errors.ApiError as error:
            return reply(error.body(), error.status, headers | error.headers(), error.content_type)
        if struck.intersection(ROW_FAULTS) and request.path.endswith("/klines"):
            answer = damaged(answer, struck, now_ms)
        if "cut_json" in struck:
            answer = answer[: len(answer) // 2]
        if "truncated" in struck:
            return await truncated(request, answer, headers)
        return reply(answer, 200, headers)

    async def _cut_off(self, request: web.Request, struck: frozenset[str]) -> bool:
        """Wait as the faults ask; whether the request then gets no reply at all."""
        faults = self.plan.faults
        if faults.latency_ms:
            await asyncio.sleep(faults.latency_ms / 1000)
        if "hang" in struck:
            await asyncio.sleep(faults.hang_seconds)
        return "hang" in struck or "reset" in struck or faults.down == "reset"

    def _refuse(self, now_ms: int, address: str) -> None:
        """Raise what the call just counted is refused with, if it is."""
        seconds = self.plan.take_ban()
        if seconds:
            self.budget.ban(now_ms, seconds)
        refusal = self.budget.refusal(now_ms, address)
        if refusal is not None:
            raise refusal
        if self.plan.take_refusal():
            wait = seconds_to_next_minute(now_ms)
            raise errors.too_many_requests(address, self.budget.limit or 2400, wait)

    def _fail(self, struck: frozenset[str]) -> None:
        """Raise the exchange's own failure that this request meets, if any."""
        down = self.plan.faults.down
        for name in ([] if down is None else [down]) + sorted(struck):
            if name in errors.SERVER_FAILURES:
                raise errors.SERVER_FAILURES[name]

    def _date(self, now_ms: int) -> str:
        """The Date header, by the exchange's clock."""
        second = now_ms // 1000
        if second != self._dates[0]:
            self._dates = second, formatdate(second, usegmt=True)
        return self._dates[1]

    def ping(self, _request: web.Request, _now_ms: int) -> bytes:
        """GET /fapi/v1/ping."""
        return b"{}"

    def time(self, _request: web.Request, now_ms: int) -> bytes:
        """GET /fapi/v1/time."""
        return compact({"serverTime": now_ms})

    def exchange_info(self, _request: web.Request, now_ms: int) -> bytes:
        """GET /fapi/v1/exchangeInfo."""
        return compact(
            exchange_info(self.market.contracts.values(), now_ms, self.budget.limit or 2400)
        )

    def klines(self, request: web.Request, now_ms: int) -> bytes:
        """GET /fapi/v1/klines."""
        query = request.query
        symbol, interval = mandatory(query, "symbol"), mandatory(query, "interval")
        start, end = moment(query, "startTime"), moment(query, "endTime")
        limit = requested_limit(query)
        if symbol not in self.market.contracts:
            raise errors.invalid_symbol()
        if interval not in INTERVALS:
            raise errors.invalid_interval()
        if start is not None and end is not None and start > end:
            raise errors.reversed_times()
        settling_ms = self.plan.faults.settling_ms
        page = self.market.page(symbol, interval, start, end, limit, now_ms, settling_ms)
        return b"[" + b",".join(page) + b"]"

    # The archive, which nobody weighs

    async def archived(self, request: web.Request) -> web.StreamResponse:
        """GET of a zip of the archive or of its .CHECKSUM."""
        period, symbol, interval, name = (
            request.match_info[part] for part in ("period", "symbol", "interval", "name")
        )
        zip_name = name.removesuffix(".CHECKSUM")
        own = ARCHIVE_FAULTS[name != zip_name]
        struck = self.plan.draw(request.path, symbol, (*ANYWHERE, own))
        if await self._cut_off(request, struck):
            return reset(request)
        try:
            self._fail(struck)
        except errors.ApiError as error:
            return reply(error.body(), error.status, error.headers(), error.content_type)
        wanted = ArchiveFile.parse(period, symbol, interval, zip_name)
        body = self._archived_zip(wanted) if wanted else None
        if body is None:
            return reply(NO_SUCH_KEY, 404, {}, "application/xml")
        if name != zip_name:
            told = checksum(body, zip_name, wrong="archive_checksum" in struck)
            return reply(told, 200, {}, "binary/octet-stream")
        if "archive_corrupt" in struck:
            body = corrupted(body)
        if "truncated" in struck:
            return await truncated(request, body, {})
        return reply(body, 200, {}, "application/zip")

    def _archived_zip(self, wanted: ArchiveFile) -> bytes | None:
        """The file with the faults that it has, or None."""
        struck = self.plan.of_file(wanted.name, wanted.symbol)
        if "archive_missing" in struck:
            return None
        return self._archive.zip_bytes(wanted, self.clock.now_ms(), struck)

    async def unknown_path(self, request: web.Request) -> web.Response:
        """Any other path or method."""
        error = errors.unknown_path(request.method, request.path)
        return reply(error.body(), error.status, {})

    # The control interface, which nobody weighs and no fault strikes

    async def show_state(self, _request: web.Request) -> web.Response:
        """GET /control/state."""
        return reply(compact(self.state()), 200, {})

    def state(self) -> dict[str, Any]:
        """Return what the exchange stands at; times are ISO 8601 or ms, weights by UTC minute."""
        requests: dict[str, dict[str, int]] = {}
        for (path, status), count in self.answers.items():
            requests.setdefault(path, {})[status] = count
        now_ms = self.clock.now_ms()
        return {
            "now_ms": now_ms,
            "now": format_moment(now_ms),
            "clock": self.clock.kind,
            "symbols": len(self.market.contracts),
            "candles": self.market.source.description(),
            "outages": [outage.text() for outage in self.market.outages],
            "weight": {
                "limit": self.budget.limit,
                "used": {
                    format_moment(minute * MINUTE): used
                    for minute, used in sorted(self.budget.used.items())
                },
            },
            "banned_until_ms": self.budget.banned_until_ms,
            "requests": requests,
            "sent_429": self._sent("429"),
            "sent_418": self._sent("418"),
            "faults": self.plan.faults.document(),
            "faults_struck": dict(self.plan.struck),
        }

    def _sent(self, status: str) -> int:
        """How many replies had this status."""
        return sum(count for (_, sent), count in self.answers.items() if sent == status)

    async def move_clock(self, request: web.Request) -> web.Response:
        """POST /control/clock with {"set_ms": …} or {"advance_ms": …}."""

        def move(document: dict[str, Any]) -> dict[str, Any]:
            match document:
                case {"set_ms": int(value)}:
                    self.clock.set_ms(value)
                case {"advance_ms": int(value)}:
                    self.clock.set_ms(self.clock.now_ms() + value)
                case _:
                    raise ValueError('Send {"set_ms": 1763640000000} or {"advance_ms": 60000}')
            return {"now_ms": self.clock.now_ms()}

        return await controlled(request, move)

    async def replace_faults(self, request: web.Request) -> web.Response:
        """POST /control/faults with the fields of `Faults`; {} ends all faults."""

        def replace(document: dict[str, Any]) -> dict[str, Any]:
            self.plan.replace(Faults.parse(document))
            return self.plan.faults.document()

        return await controlled(request, replace)

    async def replace_outages(self, request: web.Request) -> web.Response:
        """POST /control/outages with {"outages": ["START/END", "START/END/SYMBOL,SYMBOL"]}."""

        def replace(document: dict[str, Any]) -> dict[str, Any]:
            match document:
                case {"outages": [*texts]}:
                    self.market.set_outages([Outage.parse(str(text)) for text in texts])
                case _:
                    raise ValueError('Send {"outages": ["START/END", "START/END/SYMBOL,SYMBOL"]}')
            return {"outages": [outage.text() for outage in self.market.outages]}

        return await controlled(request, replace)

    async def reset(self, request: web.Request) -> web.Response:
        """POST /control/reset with {}: clock, weights, counts, faults, outages as at the start."""

        def restart(_document: dict[str, Any]) -> dict[str, Any]:
            stepped_ms, faults, outages = self._start
            self.clock.stepped_ms = stepped_ms
            if outages != self.market.outages:
                self.market.set_outages(outages)
            self.plan.replace(faults)
            self.budget.forget()
            self.answers.clear()
            return {"now_ms": self.clock.now_ms()}

        return await controlled(request, restart)


def guarded_by(guard: WebGuard) -> Middleware:
    """Return the middleware that refuses what other sites' pages send, before a fault strikes it."""

    @web.middleware
    async def check(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        port = None
        if request.transport is not None:
            port = request.transport.get_extra_info("sockname")[1]
        refusal = guard.refusal(request.method, request.path, request.raw_headers, port)
        if refusal is None:
            return await handler(request)
        return reply(compact({"error": refusal.message}), refusal.status, {})

    return check


def compact(document: object) -> bytes:
    """JSON without blanks, other scripts' characters as themselves."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def reply(
    body: bytes, status: int, headers: Mapping[str, str], content_type: str = errors.CONTENT_TYPE
) -> web.Response:
    """A whole reply."""
    return web.Response(body=body, status=status, headers={"Content-Type": content_type, **headers})


def mandatory(query: Mapping[str, str], name: str) -> str:
    """A parameter that must be there."""
    value = query.get(name)
    if not value:
        raise errors.missing_parameter(name)
    return value


def moment(query: Mapping[str, str], name: str) -> int | None:
    """An optional time in ms."""
    text = query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        raise errors.missing_parameter(name)
    if int(text) > LARGEST_TIME:
        raise errors.invalid_parameter(name)
    return int(text)


def requested_limit(query: Mapping[str, str]) -> int:
    """The number of rows asked for."""
    text = query.get("limit", str(DEFAULT_LIMIT))
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= LARGEST_LIMIT:
        raise errors.invalid_parameter("limit")
    return int(text)


def requested_weight(query: Mapping[str, str]) -> int:
    """Return what a klines call costs; a malformed one as much as one without a limit."""
    try:
        return klines_weight(requested_limit(query))
    except errors.ApiError:
        return klines_weight(DEFAULT_LIMIT)


def damaged(answer: bytes, struck: frozenset[str], now_ms: int) -> bytes:
    """A klines reply after the row faults that struck it."""
    rows = [json.dumps(row, separators=(",", ":")).encode() for row in json.loads(answer)]
    return b"[" + b",".join(damaged_rows(rows, struck, now_ms)) + b"]"


def reset(request: web.Request) -> web.Response:
    """Reset the connection: no reply, not even an orderly end."""
    transport = request.transport
    if transport is not None:
        # Without linger the kernel ends the connection in order, which clients see otherwise.
        linger = struct.pack("ii", 1, 0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        transport.abort()
    return web.Response()


async def truncated(
    request: web.Request, answer: bytes, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Half of a reply whose Content-Length promised all of it, then the end of the connection."""
    response = web.StreamResponse(headers={"Content-Type": errors.CONTENT_TYPE, **headers})
    response.content_length = len(answer)
    await response.prepare(request)
    await response.write(answer[: len(answer) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


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


async def serve(exchange: Exchange, port: int, ready: Callable[[int], None]) -> None:
    """Serve on 127.0.0.1 until SIGTERM or SIGINT.

    Args:
        exchange: what to serve.
        port: 0 takes a free one.
        ready: called with the port once connections are accepted.

    Raises:
        OSError: the port cannot be had.
    """
    import signal

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Handlers are cancelled with their client: a hanging reply would outlive it otherwise.
    runner = web.AppRunner(
        exchange.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.5
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
        await site.start()
        ready(runner.addresses[0][1])
        await stop.wait()
    finally:
        await runner.cleanup()
