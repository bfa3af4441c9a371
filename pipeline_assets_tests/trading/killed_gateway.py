"""Gateways that open a position, move its stop and close it, each in a process that is killed on the way.

    python -m pipeline_assets_tests.trading.killed_gateway EXCHANGE REDIS DIRECTORY FIRST LAST

kills one by SIGKILL at each step from FIRST to LAST, starts another over its journal, and checks every
promise. The exit status is 1 if one is broken. A gateway and its successor are forks of a process that only
waits, so that a step does not cost the start of Python.
"""

import asyncio
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import aiohttp  # noqa: F401 - a fork would import it anew
import binance.async_client  # noqa: F401 - likewise
import pytest
import redis

from pipeline_assets.market.trading_rules import UNIT, units
from pipeline_assets.settings import Settings
from pipeline_assets.trading.order_types import Order
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.trading.binance_bench import new_order, settings_at
from pipeline_assets_tests.trading.fault_history import FaultHistory
from pipeline_assets_tests.trading.fault_promises import History
from pipeline_assets_tests.trading.fault_world import FaultWorld, shorten_waits

ENTRY: Order = new_order("entry-1", decision_id="decision-1", stop_part=UNIT // 50)
LATE: Order = new_order(
    "entry-2", decision_id="decision-2", quantity=units("0.02"), stop_part=UNIT // 50
)


async def trade(world: FaultWorld, kill_at: int) -> None:
    """Trade with a gateway that is killed at a step; return if it took fewer steps."""
    await world.begin_anew()
    history = FaultHistory(world)
    world.start(kill_at, hard=True)
    world.tell_prices()
    for act in (lambda: history.decide(ENTRY), history.trail, history.close):
        for _ in range(3):
            await history.step()
        done = act()
        if done is not None:
            await done
    for _ in range(6):
        await history.step()


async def recover(world: FaultWorld) -> History:
    """Start over the journal of a killed gateway, take its decisions again and new ones, and settle."""
    history = FaultHistory(world)
    world.start()
    history.decide(ENTRY)
    await history.step()
    history.decide(LATE)
    return await history.finish()


class _Trials:
    """Kills one gateway after another on one exchange."""

    def __init__(self, exchange: ExchangeHandle, settings: Settings, directory: Path) -> None:
        self._exchange, self._settings, self._directory = exchange, settings, directory

    def kill_at(self, step: int) -> list[str] | None:
        """Return what is broken after a kill at a step; None if the gateway ends before this step."""
        directory = self._directory / str(step)
        directory.mkdir(parents=True)
        ended = _in_fork(lambda: self._trade(directory, step))
        if ended == 0:
            return None
        if ended != -signal.SIGKILL:
            return [f"the gateway ended with status {ended}"]
        return ["its successor did not keep a promise"] if self._recover(directory) else []

    def _recover(self, directory: Path) -> int:
        return _in_fork(lambda: asyncio.run(self._recovered(directory)))

    def _trade(self, directory: Path, step: int) -> int:
        redis.Redis.from_url(self._settings.redis.url).flushall()
        asyncio.run(self._traded(directory, step))
        return 0

    async def _traded(self, directory: Path, step: int) -> None:
        async with FaultWorld(self._exchange, self._settings, directory, 1) as world:
            await trade(world, step)

    async def _recovered(self, directory: Path) -> int:
        async with FaultWorld(self._exchange, self._settings, directory, 1) as world:
            broken = (await recover(world)).broken
        for each in broken:
            print(each)
        return 1 if broken else 0


def _in_fork(work: Callable[[], int]) -> int:
    """Do work in a fork of this process; return the exit status, negative for a signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 2
    try:
        status = work()
    except Exception:  # noqa: BLE001 - the parent sees the status, a person the text
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main(url: str, redis_url: str, directory: str, first: str, last: str) -> int:
    """Kill gateways at the steps from first to last; return the exit status."""
    exchange = ExchangeHandle(url, None)  # type: ignore[arg-type]
    trials = _Trials(exchange, settings_at(exchange, redis_url), Path(directory))
    killed = failed = 0
    for step in range(int(first), int(last) + 1):
        broken = trials.kill_at(step)
        if broken is None:
            break
        killed, failed = killed + 1, failed + bool(broken)
        print(f"step {step}: {'; '.join(broken) or 'every promise is kept'}", flush=True)
    print(f"{killed} gateways killed, {failed} with a broken promise", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        shorten_waits(patch)
        sys.exit(main(*sys.argv[1:]))
