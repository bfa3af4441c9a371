"""The endpoints of funding rates: fundingRate, fundingInfo, and the archive's monthly files, with their
faults. The rates are funding.py's; everything that holds for each request is server.py's.
"""

from collections.abc import Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

# This module is imported by the server process only, which is nothing without aiohttp.
from aiohttp import web  # noqa: TID253

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.archive import (
    HOLE_ROWS,
    ArchiveFile,
    malformed_line,
    place_of,
    zipped,
)
from pipeline_assets.local.exchange.control import controlled
from pipeline_assets.local.exchange.parameters import moment, requested_limit
from pipeline_assets.local.exchange.replies import compact

if TYPE_CHECKING:
    from pipeline_assets.local.exchange.server import Exchange

KIND = "fundingRate"
HEADER = b"calc_time,funding_interval_hours,last_funding_rate"
DEFAULT_LIMIT, LARGEST_LIMIT, NEWEST = 100, 1000, 200
LOOK_BACK_MS = 35 * 24 * 3_600_000


class FundingRoutes:
    """The handlers of one exchange's funding rates."""

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange = exchange
        self._funding = exchange.funding

    def add_routes(self, router: web.UrlDispatcher, archive_path: str) -> None:
        """Add the public endpoints, the archive's files and /control/funding."""
        exchange = self._exchange
        for name, body in (("fundingRate", self.rates), ("fundingInfo", self.info)):
            # No request weight: their own limit counts them.
            handler = exchange.public(lambda _query: 0, body)
            router.add_get(f"/fapi/v1/{name}", handler, allow_head=False)
        files = partial(exchange.archived, self.month)
        router.add_get(
            archive_path + "/monthly/fundingRate/{symbol}/{name}",
            exchange.counted(lambda _request: archive_path, files),
            allow_head=False,
        )
        router.add_post("/control/funding", self.alter)

    async def alter(self, request: web.Request) -> web.Response:
        """POST /control/funding with what `FundingMarket.alter` takes."""
        return await controlled(request, self._funding.alter)

    def info(self, request: web.Request, now_ms: int) -> bytes:
        """GET /fapi/v1/fundingInfo."""
        self._funding.limit.admit(now_ms, request.remote or "127.0.0.1")
        return compact(self._funding.info(now_ms))

    def rates(self, request: web.Request, now_ms: int) -> bytes:
        """GET /fapi/v1/fundingRate."""
        self._funding.limit.admit(now_ms, request.remote or "127.0.0.1")
        query = request.query
        symbol = query.get("symbol")
        start, end = moment(query, "startTime"), moment(query, "endTime")
        limit = requested_limit(query, DEFAULT_LIMIT, LARGEST_LIMIT)
        if symbol is not None and symbol not in self._exchange.market.contracts:
            raise errors.invalid_symbol()
        if start is not None and end is not None and start > end:
            raise errors.reversed_times()
        last = now_ms if end is None else min(end, now_ms)
        first = max(0, last - LOOK_BACK_MS) if start is None else start
        symbols = self._exchange.market.contracts if symbol is None else [symbol]
        rows = [row for each in symbols for row in self._rows(each, first, last)]
        rows.sort(key=lambda row: (row["fundingTime"], row["symbol"]))
        if start is None:
            return compact(rows[-(limit if end is not None else min(limit, NEWEST)) :])
        return compact(rows[:limit])

    def _rows(self, symbol: str, first: int, last: int) -> list[dict[str, Any]]:
        found = self._funding.settlements(symbol, first, last)
        return [
            {
                "symbol": symbol,
                "fundingTime": each.time_ms,
                "fundingRate": each.rate,
                "markPrice": each.mark_price,
            }
            for each in islice(found, LARGEST_LIMIT)
        ]

    def month(self, parts: Mapping[str, str], zip_name: str) -> bytes | None:
        """Return a month's zip with the faults that it has, or None where there is none."""
        symbol, now_ms = parts["symbol"], self._exchange.clock.now_ms()
        wanted = ArchiveFile.parse("monthly", symbol, KIND, zip_name, kinds=(KIND,))
        if wanted is None or wanted.end_ms > now_ms:
            return None
        struck = self._exchange.plan.of_file(wanted.name, symbol)
        if "archive_missing" in struck:
            return None
        lines = [
            f"{each.time_ms},{each.hours},{each.rate}".encode()
            for each in self._funding.settlements(symbol, wanted.start_ms, wanted.end_ms - 1)
        ]
        if not lines:
            return None
        if "archive_holes" in struck:
            count = min(HOLE_ROWS, max(1, len(lines) // 4))
            first = place_of("archive_holes", wanted.name, lines, count)
            del lines[first : first + count]
        if "archive_malformed" in struck:
            lines[0] = malformed_line(lines[0], wanted.name)
        return zipped(f"{wanted.name}.csv", b"\n".join([HEADER, *lines, b""]), wanted.end_ms)
