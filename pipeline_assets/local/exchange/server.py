"""The exchange as an HTTP server: the public interface and the archive, with weights and faults. Rows are
market.py's, faults are faults.py's, and /control/ is control.py's.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from typing import Any

# This module is imported by the server process only, which is nothing without aiohttp.
from aiohttp import web  # noqa: TID253

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.accounts.trading import Trading
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
from pipeline_assets.local.exchange.control import Control
from pipeline_assets.local.exchange.faults import (
    ANYWHERE,
    ARCHIVE_FAULTS,
    ROW_FAULTS,
    FaultPlan,
    damaged,
)
from pipeline_assets.local.exchange.funding import FundingMarket
from pipeline_assets.local.exchange.funding_routes import FundingRoutes
from pipeline_assets.local.exchange.intervals import INTERVALS
from pipeline_assets.local.exchange.market import Market
from pipeline_assets.local.exchange.parameters import (
    mandatory,
    moment,
    requested_limit,
    requested_weight,
)
from pipeline_assets.local.exchange.replies import compact, guarded_by, reply, reset, truncated
from pipeline_assets.local.exchange.weights import (
    AddressBudgets,
    WeightBudget,
    seconds_to_next_minute,
)
from pipeline_assets.web_guard import WebGuard

ARCHIVE_PATH = "/data/futures/um"

Body = Callable[[web.Request, int], bytes]
ZipOf = Callable[[Mapping[str, str], str], bytes | None]


@dataclass
class Exchange:
    """A running exchange's state.

    Attributes:
        market: the candles and contracts.
        clock: what every answer follows.
        limits: what each address may spend; addresses count apart, also those of this machine.
        plan: the faults in force.
        form: what the archive's files look like.
        names: host names of this server beside the loopback ones.
        made_funding: the funding rates; by default made-up ones.
        answers: replies so far, by path and HTTP status ("none" where no whole reply was sent);
            all of the archive's files count as one path.
    """

    market: Market
    clock: ExchangeClock = field(default_factory=ExchangeClock)
    limits: WeightBudget = field(default_factory=WeightBudget)
    plan: FaultPlan = field(default_factory=FaultPlan)
    form: ArchiveForm = field(default_factory=ArchiveForm)
    names: tuple[str, ...] = ()
    made_funding: FundingMarket | None = None
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    _dates: tuple[int, str] = (0, "")

    def __post_init__(self) -> None:
        """Keep what the exchange started with, for /control/reset."""
        self.start = (self.clock.stepped_ms, self.plan.faults, self.market.outages)
        self.budgets = AddressBudgets(self.limits)
        self._archive = Archive(self.market, self.form)
        self.funding = self.made_funding or FundingMarket(self.market)
        self.trading = Trading(self)
        self.trading.replace_faults()

    def application(self) -> web.Application:
        """Return the routes: the public interface, the archive and /control/."""
        guard = WebGuard(names=self.names, json_paths=("/control/",))
        application = web.Application(middlewares=[guarded_by(guard)])
        routes: dict[str, tuple[Callable[[Mapping[str, str]], int], Body]] = {
            "/fapi/v1/ping": (lambda _query: 1, self.ping),
            "/fapi/v1/time": (lambda _query: 1, self.time),
            "/fapi/v1/exchangeInfo": (lambda _query: 1, self.exchange_info),
            "/fapi/v1/klines": (requested_weight, self.klines),
        }
        for path, (weight, body) in routes.items():
            application.router.add_get(path, self.public(weight, body), allow_head=False)
        application.router.add_get(
            ARCHIVE_PATH + "/{period}/klines/{symbol}/{interval}/{name}",
            self.counted(lambda _request: ARCHIVE_PATH, partial(self.archived, self._candles_zip)),
            allow_head=False,
        )
        FundingRoutes(self).add_routes(application.router, ARCHIVE_PATH)
        self.trading.add_routes(application)
        Control(self).add_routes(application.router)
        application.router.add_route("*", "/{unknown:.*}", self.unknown_path)
        return application

    # The public interface

    def public(
        self, weight: Callable[[Mapping[str, str]], int], body: Body
    ) -> Callable[[web.Request], Any]:
        """Return a handler of the public interface: everything that holds for each of its calls."""

        async def answer(request: web.Request) -> web.StreamResponse:
            return await self.answer(request, weight(request.query), body)

        return self.counted(lambda request: request.path, answer)

    def counted(
        self,
        name: Callable[[web.Request], str],
        answer: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> Callable[[web.Request], Any]:
        """Return a handler whose replies are counted under a name."""

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

    async def answer(self, request: web.Request, weight: int, body: Body) -> web.StreamResponse:
        """Return the reply to one call, whatever becomes of it.

        The faults know a signed request by `request["drawn"]` in place of its path and query, in which
        time and signature differ each time; `request["headers"]` has the headers of its own.
        """
        plan = self.plan
        named, symbol = request.get("drawn", (request.path_qs, request.query.get("symbol")))
        struck = plan.draw(named, symbol)
        if await self._cut_off(request, struck):
            return reset(request)

        now_ms = self.clock.now_ms()
        address = request.remote or "127.0.0.1"
        headers = {
            "X-MBX-USED-WEIGHT-1M": str(self.budgets.of(address).spend(weight, now_ms)),
            "Date": self._date(now_ms),
        }
        try:
            self._refuse(now_ms, address)
            self._fail(struck)
            answer = body(request, now_ms)
        except errors.ConnectionCut:
            return reset(request)
        except errors.ApiError as error:
            headers |= request.get("headers", {}) | error.headers()
            return reply(error.body(), error.status, headers, error.content_type)
        headers |= request.get("headers", {})
        if struck.intersection(ROW_FAULTS):
            answer = damaged(request.path, answer, struck, now_ms)
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
        """Raise the refusal of the call just counted, if it is refused."""
        budget = self.budgets.of(address)
        seconds = self.plan.take_ban()
        if seconds:
            budget.ban(now_ms, seconds)
        refusal = budget.refusal(now_ms, address)
        if refusal is not None:
            raise refusal
        if self.plan.take_refusal():
            wait = seconds_to_next_minute(now_ms)
            raise errors.too_many_requests(address, budget.limit or 2400, wait)

    def _fail(self, struck: frozenset[str]) -> None:
        """Raise the exchange's own failure that this request meets, if any."""
        down = self.plan.faults.down
        for name in ([] if down is None else [down]) + sorted(struck):
            if name in errors.SERVER_FAILURES:
                raise errors.SERVER_FAILURES[name]

    def _date(self, now_ms: int) -> str:
        """Return the Date header, by the exchange's clock."""
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
        contracts = self.market.contracts.values()
        return compact(exchange_info(contracts, now_ms, self.limits.limit or 2400))

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

    # The archive, whose requests have no weight

    async def archived(self, zip_of: ZipOf, request: web.Request) -> web.StreamResponse:
        """GET of a zip of the archive or of its .CHECKSUM."""
        symbol, name = request.match_info["symbol"], request.match_info["name"]
        zip_name = name.removesuffix(".CHECKSUM")
        own = ARCHIVE_FAULTS[name != zip_name]
        struck = self.plan.draw(request.path, symbol, (*ANYWHERE, own))
        if await self._cut_off(request, struck):
            return reset(request)
        try:
            self._fail(struck)
        except errors.ApiError as error:
            return reply(error.body(), error.status, error.headers(), error.content_type)
        body = zip_of(request.match_info, zip_name)
        if body is None:
            return reply(NO_SUCH_KEY, 404, {}, "application/xml")
        if name != zip_name:
            reported = checksum(body, zip_name, wrong="archive_checksum" in struck)
            return reply(reported, 200, {}, "binary/octet-stream")
        if "archive_corrupt" in struck:
            body = corrupted(body)
        if "truncated" in struck:
            return await truncated(request, body, {})
        return reply(body, 200, {}, "application/zip")

    def _candles_zip(self, parts: Mapping[str, str], zip_name: str) -> bytes | None:
        """Return the file with the faults that it has, or None."""
        period, symbol, interval = (parts[part] for part in ("period", "symbol", "interval"))
        wanted = ArchiveFile.parse(period, symbol, interval, zip_name)
        if wanted is None:
            return None
        struck = self.plan.of_file(wanted.name, wanted.symbol)
        if "archive_missing" in struck:
            return None
        return self._archive.zip_bytes(wanted, self.clock.now_ms(), struck)

    async def unknown_path(self, request: web.Request) -> web.Response:
        """Any other path or method."""
        error = errors.unknown_path(request.method, request.path)
        return reply(error.body(), error.status, {})
