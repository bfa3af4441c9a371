"""The weight that one client of the exchange may spend now, reserved in batches from the shared budget.

The budget that all processes share is in weight_budget.py, and what a request weighs in exchange_pages.py.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pipeline_assets.resources.exchange_clock import MINUTE_MS, ExchangeClock
from pipeline_assets.resources.exchange_errors import banned_until

if TYPE_CHECKING:
    from pipeline_assets.resources.weight_budget import Priority, WeightBudget

# The longest that a reply may make us wait. A ban lasts from 2 minutes to 3 days ("Limits" there);
# a run that slept for hours would hold its place in the queue without a message.
LONGEST_WAIT_MS = 300_000
# Slept at once while blocked or out of weight, so that a lifted block is soon noticed.
_LONGEST_NAP_MS = 10_000
_WEIGHT_BATCH = 250  # reserved at once: few Redis calls, and little is lost when the minute turns
# How old the knowledge may be that no other process was refused: shorter than a request takes, so that
# a refusal elsewhere stops this process before one of its own would; long enough to cost nothing.
_LOOK_SECONDS = 0.05


class WeightAllowance:
    """The weight that this client may still spend in the exchange's current minute.

    Invariants: nothing is sent that was not reserved, in the shared budget, in the minute in which
    it is sent; and nothing that was reserved before a refusal is sent after it was heard of: of a
    refusal here at once, of one in another process within `_LOOK_SECONDS`. Nothing is sent while the
    error of the exchange's clock leaves open which minute it is. Weight is reserved in batches, so
    500 symbols cost a handful of Redis calls.

    Attributes:
        expected: weight that the caller still means to spend; the size of the next batch.
        spent: weight of all requests sent, repeated ones included.
    """

    def __init__(
        self,
        budget: "WeightBudget",
        priority: "Priority",
        clock: ExchangeClock,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.expected = 0
        self.spent = 0
        self._budget, self._priority, self._clock, self._sleep = budget, priority, clock, sleep
        self._turn = asyncio.Lock()
        self._minute = 0
        self._left = 0
        self._in_flight = 0
        self._carried = 0
        self._used_by_all = 0
        self._reported = 0
        self._blocked_until_ms = 0
        self._telling = 0
        self._reported_blocks = 0
        self._look_again = 0.0

    async def take(self, weight: int) -> int:
        """Wait until `weight` may be spent, and spend it; returns the minute it is spent in.

        Raises:
            ExchangeBannedError: that is further away than a run should wait.
            WeightBudgetError: Redis failed, so nothing may be sent.
        """
        async with self._turn:
            while True:
                if await self._blocked():
                    await self._reserve(weight)
                elif uncertain_ms := self._clock.until_certain_ms():
                    await self._sleep((uncertain_ms + 1) / 1000)
                elif self._left < weight or self._minute != self._clock.minute():
                    await self._reserve(weight)
                else:
                    break
            self._left -= weight
        self._in_flight += weight
        self.spent += weight
        self.expected = max(self.expected - weight, 0)
        return self._minute

    async def wait_until_unblocked(self) -> None:
        """Wait while this address may send nothing, for a request that counts in another limit.

        Raises:
            ExchangeBannedError: that lasts longer than a run should wait.
        """
        while await self._blocked():
            wait_ms = self._blocked_until_ms - self._clock.now_ms()
            if wait_ms > LONGEST_WAIT_MS:
                raise banned_until(self._blocked_until_ms)
            await self._sleep(max(1, min(wait_ms, _LONGEST_NAP_MS)) / 1000)

    def settle(self, minute: int, weight: int) -> None:
        """The request for which `weight` was taken in `minute` is over."""
        self._in_flight -= weight
        if minute == self._minute != self._clock.latest_minute():
            self._carried += weight

    def observe(self, minute: int, used: int) -> None:
        """Note the used weight in the reply to a request that was sent in `minute`.

        A reply that came in another minute, or close to its turn, is passed over: it is unknown
        which minute it counts.
        """
        certain = not self._clock.until_certain_ms()
        if certain and minute == self._minute == self._clock.minute():
            self._used_by_all = max(self._used_by_all, used)
            self._reported = max(self._reported, used)

    @property
    def used(self) -> int:
        """Return what the exchange last said was used in the minute that weight was last taken in."""
        return self._reported

    @property
    def allowed(self) -> int:
        """Return what all processes at this address may use in a minute."""
        return self._budget.capacity

    async def correct(self) -> None:
        """Tell the shared budget what the exchange says was used, if it said anything."""
        used, self._used_by_all = self._used_by_all, 0
        if used:
            await asyncio.to_thread(self._budget.correct, MINUTE_MS * self._minute, used)

    async def block(self, wait_ms: int, cause: str) -> None:
        """Stop every process at this address for `wait_ms`, as the exchange asked.

        Args:
            wait_ms: for how long.
            cause: which reply asked for it, for people.
        """
        until_ms = self._clock.now_ms() + wait_ms
        self._blocked_until_ms = max(self._blocked_until_ms, until_ms)
        self._telling += 1
        try:
            await asyncio.to_thread(self._budget.block_until, until_ms, wait_ms, cause)
        finally:
            self._telling -= 1
            self._reported_blocks += 1

    async def _blocked(self) -> bool:
        """Whether any process at this address was refused and has to wait, as far as is known."""
        if self._clock.monotonic() >= self._look_again:
            before = self._reported_blocks
            reported = await asyncio.to_thread(self._budget.blocked_until)
            # Redis decides, so that a block can be lifted; but not before it knows this process' own.
            if self._telling or before != self._reported_blocks:
                reported = max(self._blocked_until_ms, reported)
            self._blocked_until_ms = reported
            self._look_again = self._clock.monotonic() + _LOOK_SECONDS
        return self._clock.now_ms() < self._blocked_until_ms

    async def _reserve(self, weight: int) -> None:
        """Give up what is left and reserve anew, or wait until that may succeed.

        Asks while blocked too: that is how lower priorities learn what to leave alone afterwards.
        """
        self._left = 0
        await self.correct()
        now_ms = self._clock.now_ms()
        minute = now_ms // MINUTE_MS
        # A request that was sent before the minute turned (or before the exchange's clock was known) and
        # ended after that, or is still under way, may have been counted in this minute.
        carried = self._carried + self._in_flight if minute != self._minute else 0
        carried = min(carried, self._budget.capacity - weight)
        wanted = max(weight, min(self.expected, _WEIGHT_BATCH))
        grant = await asyncio.to_thread(
            self._budget.reserve,
            self._priority,
            wanted + carried,
            now_ms,
            weight + carried,
            later=max(self.expected - wanted, 0),
        )
        # Granted before this process' own block was written: the exchange will not honour it.
        blocked_ms = self._blocked_until_ms - now_ms
        if grant.weight and blocked_ms <= 0:
            if minute != self._minute:
                self._reported = 0
            self._minute, self._left, self._carried = minute, grant.weight - carried, 0
            return
        wait_ms = max(grant.wait_ms, blocked_ms)
        if wait_ms > LONGEST_WAIT_MS:
            raise banned_until(now_ms + wait_ms)
        await self._sleep(min(wait_ms, _LONGEST_NAP_MS) / 1000)
