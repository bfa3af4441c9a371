"""The exchange as a Dagster resource: clients by priority, all under one weight budget. The client itself is
in exchange.py.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import cached_property

from pipeline_assets.market.intervals import Interval, to_milliseconds
from pipeline_assets.resources.exchange import BACKFILL_PATIENCE, INGEST_PATIENCE, ExchangeClient
from pipeline_assets.resources.exchange_funding import FundingClient
from pipeline_assets.resources.redis_client import REPEAT
from pipeline_assets.resources.weight_budget import Priority, WeightBudget
from pipeline_assets.settings import Settings


class Exchange:
    """Makes clients of the exchange in the settings; nothing is connected before one is used."""

    def __init__(self, settings: Settings, then: str = REPEAT) -> None:
        """Take over addresses and limits.

        Args:
            settings: of the exchange and of Redis.
            then: what a person does once Redis works again, for the errors' text.
        """
        self._settings, self._then = settings, then
        self._binance = settings.binance
        self._redis = settings.redis

    @property
    def settle(self) -> timedelta:
        """How long after its close time a candle counts as closed."""
        return self._binance.settle

    @cached_property
    def budget(self) -> WeightBudget:
        """The weight that every process behind this address shares."""
        return WeightBudget(
            self._redis,
            self._binance.budget_name,
            self._binance.weight_limit,
            self._binance.weight_margin,
            then=self._then,
        )

    def client(
        self,
        priority: Priority,
        *,
        patient: bool,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> ExchangeClient:
        """Return a client to enter as a context.

        Args:
            priority: whose weight it spends.
            patient: whether to outlast an outage of minutes, because a backfill is not repeated by
                itself. An ingest run gives up soon, and the next one fetches what it missed.
            sleep: how to wait for weight and between attempts, in seconds; raises to give up.
        """
        patience = BACKFILL_PATIENCE if patient else INGEST_PATIENCE
        return ExchangeClient(self._binance, self.budget, priority, patience, sleep=sleep)

    def funding_client(
        self,
        priority: Priority,
        *,
        patient: bool,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> FundingClient:
        """Return a client that asks for funding rates too; see `client`."""
        patience = BACKFILL_PATIENCE if patient else INGEST_PATIENCE
        return FundingClient(
            self._settings, priority, budget=self.budget, patience=patience, sleep=sleep
        )

    def server_time(self) -> datetime:
        """Return the exchange's time, UTC.

        It costs a weight of 1, asked for before all others': a backfill that spends every minute's
        weight must not hold up who only wants to know the time.

        Raises:
            ExchangeUnreachableError: no answer within the deadline of an ingest run.
        """
        with self.client(Priority.INGEST_1M, patient=False) as client:
            return client.server_time()

    def expect_ingest_run(
        self, priority: Priority, interval: Interval, weight: int, server_time: datetime
    ) -> None:
        """Make others leave room for the next ingest runs of this interval, each of this weight."""
        self.budget.expect(priority, interval, weight, to_milliseconds(server_time))

    def reserve_gateway_share(self, weight: int, now_ms: int) -> None:
        """Keep this weight of each minute for the gateway; it lapses three minutes after the last call.

        At most half of a minute is kept, so that a low limit stops no other work.

        Raises:
            WeightBudgetError: Redis failed.
        """
        share = min(weight, self.budget.capacity // 2)
        self.budget.expect(Priority.GATEWAY, Interval.ONE_MINUTE, share, now_ms)
