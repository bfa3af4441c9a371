"""The requests for funding rates that all processes at one address may send: a limit apart from the weight.

fundingRate and fundingInfo share 500 requests in five minutes; they have no request weight. The budget is
in Redis. A ban of the address holds here too; it is kept with the weight (weight_allowance.py).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from pipeline_assets.resources.exchange_errors import banned_until
from pipeline_assets.resources.redis_client import RedisConnection
from pipeline_assets.resources.weight_allowance import LONGEST_WAIT_MS, WeightAllowance
from pipeline_assets.resources.weight_budget import Priority, WeightBudgetError

if TYPE_CHECKING:
    from pipeline_assets.resources.exchange_clock import ExchangeClock
    from pipeline_assets.settings import RedisSettings

SPAN_MS = 300_000
# Never granted: another program at this address may ask for a rate now and then.
_MARGIN = 0.04
# A backfill leaves so much to the hourly run, which asks at most for the symbols that settled.
_LEFT_BY_BACKFILLS = 0.4
_BATCH = 20
_LONGEST_NAP_MS = 10_000


class FundingBudget:
    """The requests that may still be sent in the span that ends now, counted for all processes.

    Invariant: in no span of five minutes are more granted than the limit less a margin. A process that
    dies takes its grant with it until the span has passed: fewer are sent, never more.
    """

    def __init__(self, settings: "RedisSettings", egress: str, limit: int) -> None:
        self._redis = RedisConnection(settings, WeightBudgetError)
        self._key = f"funding_requests:{{{egress}}}"
        self._capacity = max(1, int(limit * (1 - _MARGIN)))

    def reserve(self, priority: Priority, wanted: int, now_ms: int) -> tuple[int, int]:
        """Reserve up to `wanted` requests; returns how many, and the milliseconds to wait if none.

        Raises:
            WeightBudgetError: Redis failed; nothing may be sent.
        """
        share = 1 - _LEFT_BY_BACKFILLS if priority is Priority.BACKFILL else 1.0
        capacity = max(1, int(self._capacity * share))
        call = (1, self._key, now_ms, wanted, capacity, SPAN_MS, uuid4().hex)
        [(granted, wait_ms)] = self._redis.run_script("reserve_requests", [call])
        return int(granted), int(wait_ms)


@dataclass
class FundingAllowance:
    """The funding requests that one client may send now; takes the place of the weight in a `Question`.

    Attributes:
        budget: shared by all processes at this address.
        priority: whose requests these are.
        clock: the exchange's.
        weight: knows whether the address is banned.
        sleep: how to wait, in seconds.
        expected: requests that the caller still means to send; the size of the next reservation.
        spent: requests sent, repeated ones included.
    """

    budget: FundingBudget
    priority: Priority
    clock: "ExchangeClock"
    weight: WeightAllowance
    sleep: Callable[[float], Awaitable[None]]
    expected: int = 0
    spent: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _left: list[int] = field(default_factory=list)
    _blocked_until_ms: int = 0

    async def take(self, _weight: int) -> int:
        """Wait until a request may be sent; returns 0, the number of no minute. Raises as WeightAllowance."""
        async with self._turn:
            while True:
                await self.weight.wait_until_unblocked()
                now_ms = self.clock.now_ms()
                # A reservation counts from when it was made: sent much later, it would count twice.
                self._left = [each for each in self._left if now_ms - each < SPAN_MS // 2]
                wait_ms = self._blocked_until_ms - now_ms
                if wait_ms <= 0 and self._left:
                    break
                if wait_ms <= 0:
                    wait_ms = await self._reserve(now_ms)
                if wait_ms > LONGEST_WAIT_MS:
                    raise banned_until(now_ms + wait_ms)
                if wait_ms > 0:
                    await self.sleep(min(wait_ms, _LONGEST_NAP_MS) / 1000)
            self._left.pop()
        self.spent += 1
        self.expected = max(self.expected - 1, 0)
        return 0

    def settle(self, _minute: int, _weight: int) -> None:
        """See `WeightAllowance`; a request counts from when it was reserved."""

    def observe(self, _minute: int, _used: int) -> None:
        """See `WeightAllowance`; replies do not state how much of this limit is used."""

    async def block(self, wait_ms: int, _cause: str) -> None:
        """Wait before the next request, as HTTP 429 asked; the weight and its requests go on."""
        self._blocked_until_ms = max(self._blocked_until_ms, self.clock.now_ms() + wait_ms)

    async def _reserve(self, now_ms: int) -> int:
        wanted = max(1, min(self.expected, _BATCH))
        granted, wait_ms = await asyncio.to_thread(
            self.budget.reserve, self.priority, wanted, now_ms
        )
        self._left = [now_ms] * granted
        return wait_ms
