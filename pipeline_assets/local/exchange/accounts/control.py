"""/control/trading: what a person or a test changes about accounts, and the truth about them. Faults that strike
by chance are set by /control/faults.
"""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

# This module is imported by the server process only, which is nothing without aiohttp.
from aiohttp import web  # noqa: TID253

from pipeline_assets.local.exchange.accounts.account_routes import set_leverage
from pipeline_assets.local.exchange.accounts.account_views import truth
from pipeline_assets.local.exchange.accounts.desk import DEFAULT_KEY
from pipeline_assets.local.exchange.accounts.matching import deleverage, liquidate
from pipeline_assets.local.exchange.accounts.model import CROSSED, ISOLATED, Account
from pipeline_assets.local.exchange.control import controlled
from pipeline_assets.local.exchange.errors import ApiError
from pipeline_assets.local.exchange.moments import parse_moment
from pipeline_assets.local.exchange.replies import compact, reply

if TYPE_CHECKING:
    from pipeline_assets.local.exchange.accounts.doors import Doors
    from pipeline_assets.local.exchange.accounts.trading import Trading

Document = dict[str, Any]


class TradingControl:
    """The handlers of /control/trading for one exchange."""

    def __init__(self, trading: "Trading", doors: "Doors") -> None:
        self._trading = trading
        self._doors = doors

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the interface's routes."""
        router.add_get("/control/trading", self.show)

    async def show(self, _request: web.Request) -> web.Response:
        """GET /control/trading."""
        self._doors.advance()
        desk = self._trading.desk
        shown = {key: truth(desk, account) for key, account in desk.accounts.items()}
        return reply(compact({"now_ms": desk.now, "accounts": shown}), 200, {})
