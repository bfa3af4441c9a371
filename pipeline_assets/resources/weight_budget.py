"""The request weight that all processes at one address may spend, in Redis, and who goes first.

The exchange client decides how much a request weighs, and waits while no weight is left.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.resources.redis_client import REPEAT, RedisConnection

if TYPE_CHECKING:
    import redis

    from pipeline_assets.market.intervals import Interval
    from pipeline_assets.settings import RedisSettings

_MINUTE_MS = 60_000
# At the turn of the minute the exchange's clock may be a little behind the estimate of it, and its
# counter of the old minute still full: a waiting request comes back this much later.
_AFTER_THE_TURN_MS = 250
_SECONDS_MINUTE_KEPT = 600
_PERIODS_EXPECTED = 3  # after this many missed ingest runs no room is kept for them any more
_SECONDS_DEMAND_KEPT = 86_400
_LONGEST_BAN_MS = 3 * 86_400_000  # Binance: an IP ban lasts from two minutes to three days
# A block is kept for its length by Redis' own clock and a little longer: a moment far in the future,
# by an exchange's clock that was wrong, must not block for days.
_MARGIN_MS = 5_000


class WeightBudgetError(OutsideSystemError):
    """Redis failed, so no weight may be spent. The message names the address and what to do."""


class Priority(IntEnum):
    """Who goes first when weight is short: the greater goes before the smaller."""

    BACKFILL = 0
    FINALIZE = 1
    INGEST_OTHER = 2
    INGEST_1M = 3
    GATEWAY = 4


@dataclass(frozen=True)
class Grant:
    """The answer to a reservation.

    `weight` may be spent in the minute of the `now_ms` it was reserved at, and not later. If it is
    less than was wanted, `wait_ms` is how long to wait before asking for the rest, else 0.
    """

    weight: int
    wait_ms: int


@dataclass(frozen=True)
class Block:
    """Why nothing may be sent to the exchange now.

    Attributes:
        until_ms: when the block ends, by the exchange's clock, in milliseconds since the epoch.
        left_ms: how much longer it lasts, by Redis' clock.
        cause: the exchange's reply that asked for it.
    """

    until_ms: int
    left_ms: int
    cause: str


@dataclass(frozen=True)
class WeightUse:
    """How a minute stands: `used` of `capacity` weight, blocked for `blocked_ms` more (0: not)."""

    used: int
    capacity: int
    blocked_ms: int


class WeightBudget:
    """One budget for an egress address, shared by every process that uses the same Redis.

    The exchange counts weight by UTC minute, so this does. All times are the exchange's, in
    milliseconds since the epoch. Connects on first use; safe to share between threads.

    Two invariants hold. The weight granted in a minute, with the weight that the exchange reports as
    used, never exceeds `limit - margin`. A priority never takes weight that is reserved for a higher one
    in that minute. The reserved weight is the greater of

    * the weight that the higher priority still wanted when it last asked, in this minute or the one before;
    * the weight that its ingest runs are expected to use (`expect`) and have not taken yet. It counts in
      the minute that begins an ingest run's period and in the following one, because a full hour of a
      large universe does not fit into one; at other times it holds no other priority back. The gateway's
      share is such a weight, expected in every minute.

    So a backfill has the whole capacity while nothing is ingested. In most minutes it has the capacity
    less one ingest run of 1m, and at a quarter hour the rest, perhaps nothing.

    A process that dies takes its grant with it until the minute ends: less is spent, never more.
    """

    def __init__(
        self,
        settings: "RedisSettings",
        egress: str,
        limit: int,
        margin: int,
        client: "redis.Redis | redis.RedisCluster | None" = None,
        then: str = REPEAT,
    ) -> None:
        """One budget.

        Args:
            settings: where Redis is.
            egress: names the address from which the exchange is called, and the exchange.
            limit: the weight that the exchange allows a minute (2,400 on USD-M futures).
            margin: how much of it is never granted.
            client: a connection of one's own, such as a cluster's.
            then: what a person does once Redis works again, for the errors' text.

        Raises:
            ValueError: the margin leaves nothing of the limit, or `egress` holds a brace.
        """
        if not 0 <= margin < limit:
            raise ValueError(
                f"The weight margin {margin} must be at least 0 and less than the limit {limit}: "
                "set PIPELINE_BINANCE__WEIGHT_MARGIN lower"
            )
        if not egress or "{" in egress or "}" in egress:
            raise ValueError(f"The egress address {egress!r} must be a name without braces")
        self.capacity = limit - margin
        self._redis = RedisConnection(settings, WeightBudgetError, client, then)
        # The braces are part of the key: a cluster then keeps all of a budget on one node.
        self._prefix = f"weight:{{{egress}}}:"

    def reserve(
        self, priority: Priority, wanted: int, now_ms: int, minimum: int = 1, *, later: int = 0
    ) -> Grant:
        """Reserve as much of `wanted` weight as there is for `priority` in the minute of `now_ms`.

        One atomic step. Two calls reserve twice, but one call reserves once even where the
        connection repeats it after a lost answer: the server remembers what it granted to the call.
        A failover may lose the newest reservations, because a replica follows a moment behind; the
        exchange's header (`correct`) brings them back.

        Args:
            priority: whose weight it is.
            wanted: the most that is of use now; more than a minute's capacity is no error.
            now_ms: the exchange's time.
            minimum: the least that is of use, such as one request's weight; less is not granted.
            later: what the caller will want after this, which lower priorities then leave alone in
                this minute and the next. Without it, work that asks in small steps would share the
                budget with lower priorities, step by step.

        Raises:
            ValueError: `minimum` is below 1, above `wanted`, or above a minute's capacity, so that
                waiting would never end.
            WeightBudgetError: Redis failed; nothing may be sent.
        """
        if not 1 <= minimum <= wanted:
            raise ValueError(f"Cannot reserve {wanted} weight, or {minimum} at least")
        if minimum > self.capacity:
            raise ValueError(
                f"{minimum} weight at once is more than the {self.capacity} a minute allows: lower "
                "PIPELINE_BINANCE__CONCURRENCY or the weight margin"
            )
        minute = now_ms // _MINUTE_MS
        granted, blocked_until = self._run(
            "reserve_weight",
            keys=[
                self._minute_key(minute),
                self._minute_key(minute - 1),
                self._demand,
                self._block,
            ],
            args=[
                now_ms,
                int(priority),
                wanted,
                minimum,
                later,
                self.capacity,
                int(max(Priority)),
                _SECONDS_MINUTE_KEPT,
                uuid4().hex,
            ],
        )
        if granted == wanted:
            return Grant(granted, 0)
        next_minute = (minute + 1) * _MINUTE_MS + _AFTER_THE_TURN_MS
        return Grant(granted, (blocked_until or next_minute) - now_ms)

    def expect(self, priority: Priority, interval: "Interval", weight: int, now_ms: int) -> None:
        """Say that each ingest run of `interval` uses `weight`, so that lower priorities leave room.

        To be called by every ingest run, with what it takes in the ordinary course (one request a
        symbol), not with what it takes to catch up; and by the gateway, for every minute. It holds
        for three periods after it was last said, and a smaller weight replaces a greater only then.
        Safe to repeat.

        Raises:
            WeightBudgetError: Redis failed.
        """
        period = interval.milliseconds // _MINUTE_MS
        self._run(
            "expect_weight",
            keys=[self._demand],
            args=[
                f"{int(priority)}:{period}",
                weight,
                now_ms // _MINUTE_MS,
                _PERIODS_EXPECTED * period,
                _SECONDS_DEMAND_KEPT,
            ],
        )

    def correct(self, minute_ms: int, used_weight: int) -> None:
        """Take over the exchange's count (`X-MBX-USED-WEIGHT-1M`) where it is above this budget's.

        `minute_ms` is any moment of the minute in which the request was reserved. Only to be called
        when the reply came in that same minute: at the turn of a minute it is unknown which of the two
        the header counts. Safe to repeat, in any order: the greatest count stays.

        Raises:
            WeightBudgetError: Redis failed.
        """
        self._run(
            "correct_weight",
            keys=[self._minute_key(minute_ms // _MINUTE_MS)],
            args=[used_weight, _SECONDS_MINUTE_KEPT],
        )

    def block_until(self, until_ms: int, wait_ms: int = _LONGEST_BAN_MS, cause: str = "") -> None:
        """Keep every process from reserving until then, after 429 or 418, as Retry-After says.

        Safe to repeat, in any order: the latest moment stays.

        Args:
            until_ms: the end of the block, by the exchange's clock.
            wait_ms: the length of the block; it ends by then even if the exchange's clock was wrong.
            cause: which reply asked for it, for people.

        Raises:
            WeightBudgetError: Redis failed.
        """
        self._run(
            "block_weight",
            keys=[self._block, self._block_cause],
            args=[until_ms, wait_ms + _MARGIN_MS, cause],
        )

    def block(self) -> Block | None:
        """Return what keeps every process from sending, or None.

        Raises:
            WeightBudgetError: Redis failed.
        """
        return self._read_block(lift=False)

    def unblock(self) -> Block | None:
        """Lift the block; return what was lifted, or None if there was none. Safe to repeat.

        A process that waits goes on within ten seconds. If the exchange does ban this address, the
        next request is refused, and the block is there again.

        Raises:
            WeightBudgetError: Redis failed.
        """
        return self._read_block(lift=True)

    def _read_block(self, *, lift: bool) -> Block | None:
        until_ms, kept_ms, cause = self._run(
            "read_block", keys=[self._block, self._block_cause], args=[int(lift)]
        )
        left_ms = kept_ms - _MARGIN_MS
        if left_ms <= 0:
            return None
        text = cause if isinstance(cause, str) else cause.decode("utf-8", "replace")
        return Block(until_ms, left_ms, text)

    def blocked_until(self) -> int:
        """Return the latest moment passed to `block_until`, perhaps past; 0 if there was none recently.

        Raises:
            WeightBudgetError: Redis failed.
        """
        return int(self._redis.run(lambda client: client.get(self._block)) or 0)

    def use(self, now_ms: int) -> WeightUse:
        """Return how the minute of `now_ms` stands, for a person to see.

        Raises:
            WeightBudgetError: Redis failed.
        """
        minute = self._minute_key(now_ms // _MINUTE_MS)
        used = self._redis.run(lambda client: client.hget(minute, "used"))
        blocked_ms = max(self.blocked_until() - now_ms, 0)
        return WeightUse(int(used or 0), self.capacity, blocked_ms)

    @property
    def _demand(self) -> str:
        return self._prefix + "expected"

    @property
    def _block(self) -> str:
        return self._prefix + "blocked_until"

    @property
    def _block_cause(self) -> str:
        return self._prefix + "block_cause"

    def _minute_key(self, minute: int) -> str:
        return f"{self._prefix}minute:{minute}"

    def _run(self, name: str, keys: list[str], args: list[str | int]) -> Any:
        return self._redis.run_script(name, [(len(keys), *keys, *args)])[0]
