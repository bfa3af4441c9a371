"""A gateway's process that opens a position, moves its stop and closes it, and kills itself on the way.

    python -m pipeline_assets_tests.trading.killed_gateway EXCHANGE REDIS DIRECTORY STEP

ends by SIGKILL at a step of the gateway, or prints the number of steps and ends well.
"""

import asyncio
import sys
from pathlib import Path

import pytest

from pipeline_assets.market.trading_rules import UNIT, units
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


async def trade(world: FaultWorld, kill_at: int) -> int:
    """Trade with a gateway that is killed at a step; return how many steps it took without that."""
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
    return world.switch.steps


async def recover(world: FaultWorld) -> History:
    """Start over the journal of a killed gateway, take its decisions again and new ones, and settle."""
    history = FaultHistory(world)
    world.start()
    history.decide(ENTRY)
    await history.step()
    history.decide(LATE)
    return await history.finish()


async def _main(url: str, redis_url: str, directory: str, kill_at: str) -> None:
    exchange = ExchangeHandle(url, None)  # type: ignore[arg-type]
    async with FaultWorld(exchange, settings_at(exchange, redis_url), Path(directory), 1) as world:
        print(await trade(world, int(kill_at)))


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        shorten_waits(patch)
        asyncio.run(_main(*sys.argv[1:]))
