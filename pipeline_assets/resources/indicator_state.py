"""Each symbol's indicator state in Redis, and the candles it has not folded yet. The content of a state is
defined in market/indicators; signals/evaluation.py decides who may advance it.

A symbol's state is one hash, `indicators:1m:{SYMBOL}` with literal braces, beside its slots:
`open_time` (ms since the epoch, UTC) is that of the newest minute that is folded, evaluated and
published; `state` is the indicators' own bytes. The slots' script (write_slots.lua) marks it:
`changed` (ms) is the oldest open time whose candle was replaced or came late since the state was
written, `changes` counts how often that happened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.candles import empty_candles
from pipeline_assets.market.intervals import from_milliseconds, to_milliseconds
from pipeline_assets.resources.redis_client import RedisConnection
from pipeline_assets.resources.slots import STATE_TTL_SECONDS, decoded_slots, slot_key, state_key
from pipeline_assets.resources.write_guard import require_lease

if TYPE_CHECKING:
    import polars as pl
    import redis

    from pipeline_assets.settings import RedisSettings


class IndicatorStateError(OutsideSystemError):
    """Redis failed. The message says where and what to do."""


@dataclass(frozen=True)
class HeldState:
    """One symbol's state as read from Redis.

    Attributes:
        open_time: the newest minute that is evaluated; None if there is no state.
        changed: the oldest open time that changed since the state was written; None if none did.
        state: the bytes; None if there are none, if no candle is newer, or if it is `stale`.
        version: what a write compares, so that nothing that happened since is overwritten.
    """

    open_time: datetime | None
    changed: datetime | None
    state: bytes | None
    version: tuple[bytes, bytes]

    @property
    def stale(self) -> bool:
        """Whether a candle that the state has folded, or passed over, is another one now."""
        return (
            self.open_time is not None
            and self.changed is not None
            and self.changed <= self.open_time
        )


class IndicatorStateStore:
    """The states of all symbols. Connects on first use; safe to share between threads.

    Invariant: a state is replaced only by who read it, and only while no slot was marked since.
    """

    def __init__(
        self, settings: "RedisSettings", client: "redis.Redis | redis.RedisCluster | None" = None
    ) -> None:
        """`client` is for a connection of one's own, such as a cluster's."""
        self._redis = RedisConnection(settings, IndicatorStateError, client)

    def read_due(self, symbols: Sequence[str]) -> "tuple[dict[str, HeldState], pl.DataFrame]":
        """Return each symbol's state, and a candle frame of the slots that are newer than it.

        State and slots of a symbol are read in one step of the server. A symbol without a state, or
        with a stale one, comes with all its slots. The frame is sorted by symbol and open time.

        Raises:
            IndicatorStateError: Redis failed.
            SlotsError: a slot holds no candle.
        """
        symbols = list(dict.fromkeys(symbols))
        if not symbols:
            return {}, empty_candles()
        calls = [(2, state_key(symbol), slot_key(symbol)) for symbol in symbols]
        replies = self._redis.run_script("read_due", calls)
        held = {
            symbol: HeldState(
                _moment(reply[0]), _moment(reply[2]), reply[3], (reply[0] or b"", reply[1] or b"")
            )
            for symbol, reply in zip(symbols, replies, strict=True)
        }
        candles = decoded_slots(symbols, [reply[4:] for reply in replies])
        return held, candles.sort("symbol", "open_time")

    def write(
        self, states: Mapping[str, tuple[datetime, bytes]], held: Mapping[str, HeldState]
    ) -> frozenset[str]:
        """Replace states by newer ones (open time, bytes) where they still are as they were read.

        Clears the mark, which the new state has taken into account. Safe to repeat: a second call, by
        another sensor or by this one after a lost answer, changes nothing.

        Returns:
            The symbols whose state was written. The others' was written by another sensor, lost, or
            marked since: they are read again, which repeats minutes under the same candidate ids.

        Raises:
            IndicatorStateError: Redis failed. Some states may have been written; go on as after a
                crash, by reading them again.
        """
        require_lease()
        if not states:
            return frozenset()
        calls = [
            (
                *(1, state_key(symbol), *held[symbol].version),
                *(STATE_TTL_SECONDS, to_milliseconds(open_time), state),
            )
            for symbol, (open_time, state) in states.items()
        ]
        outcomes = self._redis.run_script("write_state", calls)
        return frozenset(
            symbol for symbol, written in zip(states, outcomes, strict=True) if written
        )


def _moment(milliseconds: bytes | None) -> datetime | None:
    return from_milliseconds(int(milliseconds)) if milliseconds else None
