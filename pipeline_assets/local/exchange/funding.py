"""Funding rates of the exchange: when each contract settles, at which rate and mark price.

Rates are a pure function of seed, symbol and time, or come from a person's own files (funding_files.py). How
they are served is in funding_routes.py.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.contracts import Contract, decimal_string
from pipeline_assets.local.exchange.intervals import DAY, HOUR, MINUTE
from pipeline_assets.local.exchange.market import Market
from pipeline_assets.local.exchange.moments import format_moment, parse_moment

USUAL_HOURS = 8
HOURS = (1, 2, 4, 8)
USUAL_RATE = 10_000
"""The rate of a quiet market, in units of 10^-8: 0.01 %."""

LATEST_BY_MS = 13
"""A settlement is stamped up to so many milliseconds after its hour, as on the real exchange."""

PLACES = 8


@dataclass(frozen=True, slots=True)
class Settlement:
    """One funding rate as served; `mark_price` is empty where the exchange has none.

    Attributes:
        time_ms: some milliseconds after the full hour.
        hours: the length of the interval that ended.
    """

    time_ms: int
    rate: str
    mark_price: str
    hours: int


@dataclass
class RequestLimit:
    """The limit that fundingRate and fundingInfo share: requests an address in any five minutes."""

    limit: int = 500
    span_ms: int = 5 * MINUTE
    refused: int = 0

    def __post_init__(self) -> None:
        """Begin with nothing sent."""
        self._sent: deque[int] = deque()

    @property
    def used(self) -> int:
        """How many requests count now."""
        return len(self._sent)

    def admit(self, now_ms: int, address: str) -> None:
        """Count a request.

        Raises:
            ApiError: HTTP 429, the limit is used up.
        """
        while self._sent and self._sent[0] <= now_ms - self.span_ms:
            self._sent.popleft()
        if self.limit and len(self._sent) >= self.limit:
            self.refused += 1
            wait = -(-(self._sent[0] + self.span_ms - now_ms) // 1000)
            raise errors.too_many_requests(address, self.limit, max(1, wait))
        self._sent.append(now_ms)

    def forget(self) -> None:
        """Begin anew."""
        self._sent.clear()
        self.refused = 0


class FundingMarket:
    """The funding rates of a market.

    Attributes:
        limit: the requests that its endpoints allow.
        changes: by symbol, from which time (ms) on the interval has how many hours, ascending.
        missing: by symbol the hours (ms) of which the exchange has no rate.
    """

    def __init__(
        self,
        market: Market,
        seed: int = 1,
        own: Mapping[str, list[Settlement]] | None = None,
        limit: int = 500,
    ) -> None:
        self.market = market
        self.seed = seed
        self.own = own or {}
        self.limit = RequestLimit(limit)
        self.changes: dict[str, list[tuple[int, int]]] = {}
        self.missing: dict[str, set[int]] = {}

    def alter(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the changes of intervals and the missing rates; {} ends both.

        Args:
            document: `intervals`: by symbol hours by ISO time, e.g. {"ETHUSDT": {"2026-11-18T08:00Z": 4}};
                `missing`: by symbol ISO times.

        Raises:
            ValueError: it cannot be read.
        """
        match document:
            case (
                {"intervals": dict(), "missing": dict()}
                | {"intervals": dict()}
                | {"missing": dict()}
            ):
                pass
            case _ if document:
                raise ValueError(
                    'Send {"intervals": {"ETHUSDT": {"2026-11-18T08:00:00Z": 4}}, '
                    '"missing": {"ETHUSDT": ["2026-11-18T16:00:00Z"]}}'
                )
        changes = {
            symbol: sorted((parse_moment(since), hours) for since, hours in held.items())
            for symbol, held in document.get("intervals", {}).items()
        }
        if any(hours not in HOURS for held in changes.values() for _, hours in held):
            raise ValueError(f"A funding interval has {', '.join(map(str, HOURS))} hours")
        self.missing = {
            symbol: set(map(parse_moment, held))
            for symbol, held in document.get("missing", {}).items()
        }
        self.changes = changes
        return self.state()

    def state(self) -> dict[str, Any]:
        """Return what `alter` takes, and the requests that count now."""
        return {
            "intervals": {
                symbol: {format_moment(since): hours for since, hours in held}
                for symbol, held in self.changes.items()
            },
            "missing": {
                symbol: [format_moment(moment) for moment in sorted(held)]
                for symbol, held in self.missing.items()
            },
            "limit": self.limit.limit,
            "used": self.limit.used,
            "refused": self.limit.refused,
        }

    def forget(self) -> None:
        """Begin anew: no changes, nothing missing, nothing sent."""
        self.alter({})
        self.limit.forget()

    def hours(self, symbol: str, moment_ms: int) -> int:
        """Return the length of the interval that is under way just before a time."""
        found = default_hours(symbol)
        for since, hours in self.changes.get(symbol, ()):
            if since < moment_ms:
                found = hours
        return found

    def settlements(self, symbol: str, low_ms: int, high_ms: int) -> Iterator[Settlement]:
        """Return the settlements with low_ms <= time <= high_ms, ascending."""
        contract = self.market.contracts.get(symbol)
        if contract is None or contract.contract_type != "PERPETUAL":
            return
        absent = self.missing.get(symbol, set())
        for each in self._all(contract, low_ms, high_ms):
            if low_ms <= each.time_ms <= high_ms and each.time_ms // HOUR * HOUR not in absent:
                yield each

    def _all(self, contract: Contract, low_ms: int, high_ms: int) -> Iterator[Settlement]:
        symbol = contract.symbol
        if symbol in self.own:
            yield from self.own[symbol]
            return
        first = max(low_ms - LATEST_BY_MS, contract.onboard_ms + 1)
        last = min(high_ms, contract.delivery_ms - 1)
        for hour in range(first + -first % HOUR, last + 1, HOUR):
            hours = self.hours(symbol, hour)
            if hour % (hours * HOUR) == 0:
                bits = self._bits(symbol, hour)
                yield Settlement(
                    hour + bits % LATEST_BY_MS,
                    made_up(bits, hours),
                    self.mark_price(symbol, hour),
                    hours,
                )

    def _bits(self, symbol: str, hour: int) -> int:
        text = f"funding:{self.seed}:{symbol}:{hour}".encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())

    def mark_price(self, symbol: str, hour: int) -> str:
        """Return the price with which the hour opens; empty where the market has no candle then."""
        block = self.market.minutes(symbol, hour, hour + MINUTE)
        if not len(block.open_times):
            return ""
        places = self.market.source.decimals(symbol, "1m", hour - hour % DAY).price
        units = int(block.values[0, 0]) * 10 ** max(0, PLACES - places)
        return decimal_string(units, max(places, PLACES))

    def info(self, now_ms: int) -> list[dict[str, Any]]:
        """Return the fundingInfo reply: the contracts whose interval is not the usual one."""
        found = []
        for symbol, contract in self.market.contracts.items():
            hours = self.hours(symbol, now_ms + 1)
            trades = contract.status(now_ms) == "TRADING"
            if trades and contract.contract_type == "PERPETUAL" and hours != USUAL_HOURS:
                found.append(
                    {
                        "symbol": symbol,
                        "adjustedFundingRateCap": "0.02000000",
                        "adjustedFundingRateFloor": "-0.02000000",
                        "fundingIntervalHours": hours,
                        "disclaimer": False,
                    }
                )
        return found


def default_hours(symbol: str) -> int:
    """Return the interval of a contract that never changed: four hours for every fourth contract."""
    digest = hashlib.blake2b(symbol.encode(), digest_size=1).digest()
    return 4 if digest[0] % 4 == 0 else USUAL_HOURS


def made_up(bits: int, hours: int) -> str:
    """Return a rate as the exchange writes it; a third are the rate of a quiet market."""
    units = USUAL_RATE if bits % 3 == 0 else (bits >> 8) % 80_001 - 30_000
    units = units * hours // USUAL_HOURS
    sign = "-" if units < 0 else ""
    return sign + decimal_string(abs(units), PLACES)
