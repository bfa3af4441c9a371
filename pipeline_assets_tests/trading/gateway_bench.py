"""A gateway over a journal file, a scripted venue and a price of 100, in the running event loop. No tests
here.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from pipeline_assets.market.trading_rules import UNIT, TradingRules
from pipeline_assets.resources.journal import Journal, SqliteJournal
from pipeline_assets.trading import messages
from pipeline_assets.trading.core import GatewayCore
from pipeline_assets.trading.gateway import Gateway
from pipeline_assets.trading.limits import RiskLimits
from pipeline_assets.trading.records import GATEWAY_RECORDS
from pipeline_assets.trading.venue import Venue
from pipeline_assets.trading.work import Timing
from pipeline_assets_tests.trading.test_core import _RULES, LIMITS
from pipeline_assets_tests.trading.virtual_world import BEGIN


class _Lease:
    held = True

    def holds(self) -> bool:
        return self.held


class GatewayBench:
    """A gateway that can be stopped and begun again over the same file."""

    def __init__(
        self,
        path: Path,
        venue: Venue,
        journal: Journal | None = None,
        limits: RiskLimits = LIMITS,
        clock: Callable[[], int] = lambda: BEGIN,
        rules: Mapping[str, TradingRules] | None = None,
        timing: Timing | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.journal = journal or SqliteJournal(path)
        stored = [GATEWAY_RECORDS.decode(seq, body) for seq, body in self.journal.read()]
        self.core = GatewayCore(limits, rules or {"BTCUSDT": _RULES}, timing, stored)
        self.lease, self.alarms = _Lease(), list[str]()
        self.gateway = Gateway(
            self.core, self.journal, venue, clock, self.lease, self.alarms.append, monotonic
        )
        self.gateway.hear(messages.PriceSeen("BTCUSDT", 100 * UNIT, BEGIN))
        self.task = asyncio.create_task(self.gateway.run())

    async def stop(self) -> None:
        self.task.cancel()
        try:
            with suppress(asyncio.CancelledError):
                await self.task
        finally:
            self.journal.close()
