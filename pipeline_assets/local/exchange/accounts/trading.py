"""Trading on an exchange, put together: accounts, endpoints, streams, the task that follows the clock."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

# This module is imported by the server process only, which is nothing without aiohttp.
from aiohttp import web  # noqa: TID253

from pipeline_assets.local.exchange.accounts import (
    account_routes,
    order_routes,
    setting_routes,
)
from pipeline_assets.local.exchange.accounts.control import TradingControl
from pipeline_assets.local.exchange.accounts.desk import Desk
from pipeline_assets.local.exchange.accounts.doors import Doors
from pipeline_assets.local.exchange.accounts.faults import TradingFaults
from pipeline_assets.local.exchange.accounts.streams import Streams
from pipeline_assets.local.exchange.contracts import Contract

if TYPE_CHECKING:
    from pipeline_assets.local.exchange.server import Exchange

TICK_SECONDS = 0.05
"""How often the clock is followed without a request, so that fills reach the private streams in time."""


class Trading:
    """The accounts of one exchange and all that serves them."""

    def __init__(self, exchange: "Exchange") -> None:
        self._exchange = exchange
        self.streams = Streams(lambda: self.desk.plan)
        self.desk = Desk(exchange.market, exchange.funding, self.streams.emit)
        self.doors = Doors(exchange, self.desk, self.streams)
        self._contracts = dict(exchange.market.contracts)
        self.desk.restart(exchange.clock.now_ms())

    def add_routes(self, application: web.Application) -> None:
        """Add endpoints, streams and /control/trading, and the task that follows the clock."""
        for route in (*order_routes.ROUTES, *account_routes.ROUTES, *setting_routes.ROUTES):
            application.router.add_route(route.method, route.path, self.doors.handler(route))
        self.streams.add_routes(application.router)
        TradingControl(self).add_routes(application.router)
        application.cleanup_ctx.append(self._following)

    def replace_faults(self) -> None:
        """Take over the faults that the exchange's plan names."""
        self.desk.plan.replace(TradingFaults.parse(self._exchange.plan.faults.trading))

    def replace_contracts(self, contracts: Mapping[str, Contract]) -> None:
        """Change contracts while they trade: tick size, end of trading."""
        market = self._exchange.market
        market.contracts.update(contracts)
        market.set_outages(market.outages)
        self.desk.prices.forget()

    def restart(self) -> None:
        """Begin anew: the default account only, contracts and faults as at the start."""
        if self._exchange.market.contracts != self._contracts:
            self.replace_contracts(self._contracts)
        self.streams.forget()
        self.doors.limits.forget()
        self.desk.restart(self._exchange.clock.now_ms())
        self.replace_faults()

    async def _following(self, _application: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._follow())
        task.add_done_callback(report_failure)
        yield
        self.streams.cut()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.doors.advance()
            self.streams.tick()
            if self._exchange.plan.faults.down:
                self.streams.cut()


def report_failure(task: "asyncio.Task[None]") -> None:
    """Report a task that ended by an error: private streams would fall silent without a word."""
    if not task.cancelled() and task.exception() is not None:
        failure = {
            "message": "The task that follows the clock has ended",
            "exception": task.exception(),
        }
        task.get_loop().call_exception_handler(failure)
