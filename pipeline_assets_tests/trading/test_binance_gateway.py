"""The gateway's core on the venue `demo` of the replay exchange: one POST an order, and a ledger that is the
exchange's, whatever an answer says.
"""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from pipeline_assets.market.trading_rules import UNIT, decimal, units
from pipeline_assets.trading import messages
from pipeline_assets.trading.order_types import Status
from pipeline_assets_tests.fixtures.exchange import ExchangeHandle
from pipeline_assets_tests.trading.binance_bench import (
    VenueBench,
    new_order,
    posts,
    prepared,
    settings_at,
)
from pipeline_assets_tests.trading.gateway_bench import GatewayBench
from pipeline_assets_tests.trading.test_core import LIMITS

_WIDE = dataclasses.replace(
    LIMITS, order_notional=10**6 * UNIT, symbol_notional=10**6 * UNIT, gross_notional=10**6 * UNIT
)


@pytest.mark.parametrize(
    "fault",
    ["order_503_accepted", "order_cut_after", "order_408_accepted", "event_lost", "event_swapped"],
)
def test_ledger_is_the_exchanges(
    fault: str, running: ExchangeHandle, redis_url: str, tmp_path: Path
) -> None:
    """An entry and its close; the gateway is not informed of what went wrong."""

    async def scene() -> None:
        settings = settings_at(running, redis_url)
        await prepared(settings)
        venue = VenueBench(settings)
        await venue.account.open()
        await venue.account.synchronize()
        await venue.account.close()
        running.faults(trading={fault: 1})
        bench = GatewayBench(
            *(tmp_path / "journal.sqlite", venue.venue), limits=_WIDE, clock=venue.time
        )
        state = bench.core.state
        bench.gateway.hear(messages.PriceSeen("BTCUSDT", units("90000"), venue.now()))
        try:
            reply = await bench.gateway.ask(messages.Place(new_order("a-1", quantity=UNIT // 100)))
            assert reply.refusal is None
            await _until(lambda: state.ledger.positions == {"BTCUSDT": UNIT // 100})
            await _until(lambda: state.orders["a-1"].status is Status.FILLED)
            await bench.gateway.ask(messages.Close("BTCUSDT", "c-1", "enough"))
            await _until(lambda: not state.closes)
            assert state.ledger.positions == {}
            (account,) = running.trading()["accounts"].values()
            assert float(account["wallets"]["USDT"]) == 100_000 + float(decimal(state.ledger.cash))
            assert set(posts(running).values()) == {1}
        finally:
            await bench.stop()

    asyncio.run(scene())


async def _until(done) -> None:
    """Wait for the state; the test's own time limit ends the waiting."""
    while not done():
        await asyncio.sleep(0.05)
