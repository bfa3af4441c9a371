"""/control/trading: what a person or a test changes about accounts, and the truth about them. Faults that
strike by chance are set by /control/faults.
"""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import TYPE_CHECKING, Any

# This module is imported by the server process only, which is nothing without aiohttp.
from aiohttp import web  # noqa: TID253

from pipeline_assets.local.exchange.accounts.account_views import truth
from pipeline_assets.local.exchange.accounts.desk import DEFAULT_KEY
from pipeline_assets.local.exchange.accounts.matching import deleverage, liquidate
from pipeline_assets.local.exchange.accounts.model import CROSSED, ISOLATED, Account
from pipeline_assets.local.exchange.accounts.placing import place, read_order
from pipeline_assets.local.exchange.accounts.setting_routes import set_leverage
from pipeline_assets.local.exchange.control import controlled
from pipeline_assets.local.exchange.errors import ApiError
from pipeline_assets.local.exchange.moments import parse_moment
from pipeline_assets.local.exchange.replies import compact, reply

if TYPE_CHECKING:
    from pipeline_assets.local.exchange.accounts.trading import Trading

Document = dict[str, Any]
Act = Callable[[Document], Document]
FLAGS = (
    "can_trade",
    "can_withdraw",
    "ip_restricted",
    "revoked",
    "dual_side",
    "multi_assets",
    "fee_burn",
)


class TradingControl:
    """The handlers of /control/trading for one exchange."""

    def __init__(self, trading: "Trading") -> None:
        self._trading = trading
        self._desk = trading.desk

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the interface's routes."""
        router.add_get("/control/trading", self.show)
        acts: dict[str, Act] = {
            "account": self.change_account,
            "order": self.send_order,
            "close": self.close_position,
            "streams": self.end_streams,
            "contract": self.change_contract,
        }
        for name, act in acts.items():
            router.add_post(f"/control/trading/{name}", partial(self._controlled, act))

    async def _controlled(self, act: Act, request: web.Request) -> web.Response:
        def acted(document: Document) -> Document:
            self._trading.doors.advance()
            try:
                return act(document)
            except ApiError as error:
                raise ValueError(f"The exchange refuses: {error.code} {error.message}") from error

        return await controlled(request, acted)

    async def show(self, _request: web.Request) -> web.Response:
        """GET /control/trading: the truth, hidden orders too; secrets are not shown."""
        self._trading.doors.advance()
        desk = self._desk
        shown = {key: truth(desk, account) for key, account in desk.accounts.items()}
        for (key, kind), count in self._trading.streams.made.items():
            shown[key].setdefault("events", {})[kind] = count
        document = {
            "now_ms": desk.now,
            "faults_struck": dict(desk.plan.struck),
            "connections": len(self._trading.streams.connections),
            "accounts": shown,
        }
        return reply(compact(document), 200, {})

    def _account(self, document: Document) -> Account:
        key = document.get("key", DEFAULT_KEY)
        account = self._desk.accounts.get(str(key))
        if account is None:
            raise ValueError(f"There is no account with the key {str(key)[:8]}…")
        return account

    def change_account(self, document: Document) -> Document:
        """POST account: open an account by "key", "secret" and "balances", or change one.

        Fields: the flags of `FLAGS`; "leverage" and "margin_type" by symbol; "balances" by asset on opening.
        """
        known = {"key", "secret", "balances", "leverage", "margin_type", *FLAGS}
        if not document.keys() <= known:
            raise ValueError(f"Send these fields: {', '.join(sorted(known))}")
        if "secret" in document:
            key, balances = (
                str(document.get("key", "")),
                document.get("balances", {"USDT": "10000"}),
            )
            if not key or not isinstance(balances, dict):
                raise ValueError('Send {"key": "…", "secret": "…", "balances": {"USDT": "10000"}}')
            amounts = {asset: amount_of(text) for asset, text in balances.items()}
            self._desk.open_account(key, str(document["secret"]), amounts)
        account = self._account(document)
        for name in FLAGS:
            if name in document:
                if not isinstance(document[name], bool):
                    raise ValueError(f"{name} must be true or false, not {document[name]!r}")
                setattr(account, name, document[name])
        for symbol, leverage in document.get("leverage", {}).items():
            set_leverage(self._desk, account, self._desk.contract(symbol).symbol, int(leverage))
        for symbol, margin_type in document.get("margin_type", {}).items():
            if margin_type not in (CROSSED, ISOLATED):
                raise ValueError(
                    f"margin_type must be {CROSSED} or {ISOLATED}, not {margin_type!r}"
                )
            account.position(self._desk.contract(symbol).symbol).margin_type = margin_type
        return truth(self._desk, account)

    def send_order(self, document: Document) -> Document:
        """POST order: an order that a person sends by the app, {"key"?, "order": {parameters}}."""
        account = self._account(document)
        match document:
            case {"order": dict(sent)}:
                query = {str(name): str(value) for name, value in sent.items()}
            case _:
                raise ValueError('Send {"order": {"symbol": "BTCUSDT", "side": "BUY", …}}')
        order = read_order(self._desk, account, query)
        order.client_id = order.client_id or f"web_{order.time}_{len(account.orders)}"
        return place(self._desk, account, order).accepted

    def close_position(self, document: Document) -> Document:
        """POST close: {"key"?, "symbol", "by": "liquidation" or "adl", "quantity"?} at the price now."""
        account = self._account(document)
        symbol = self._desk.contract(str(document.get("symbol", ""))).symbol
        amount = abs(account.position(symbol).amount)
        if not amount:
            raise ValueError(f"There is no position of {symbol}")
        if document.get("by") == "liquidation":
            liquidate(self._desk, account, symbol, self._desk.price(symbol))
        elif document.get("by") == "adl":
            deleverage(self._desk, account, symbol, amount_of(document.get("quantity", amount)))
        else:
            raise ValueError('Send {"symbol": "BTCUSDT", "by": "liquidation"} or "by": "adl"')
        return truth(self._desk, account)

    def end_streams(self, document: Document) -> Document:
        """POST streams: {"key"?, "end": "connections"} cuts them, "end": "listen_key" lets the key expire."""
        account, streams = self._account(document), self._trading.streams
        match document.get("end"):
            case "connections":
                return {"ended": streams.cut(account.key)}
            case "listen_key":
                streams.expire(self._desk.now, account.key)
                return {"ended": 1}
        raise ValueError('Send {"end": "connections"} or {"end": "listen_key"}')

    def change_contract(self, document: Document) -> Document:
        """POST contract: {"symbol", "tick_size"?: "1.00", "delivery"?: ISO time at which trading ends}."""
        contract = self._desk.contract(str(document.get("symbol", "")))
        if "tick_size" in document:
            units = amount_of(document["tick_size"]).scaleb(contract.price_precision)
            if units < 1 or units % 1:
                raise ValueError(f"The tick size must be a multiple of {contract.price(1)}")
            contract = replace(contract, tick_units=int(units))
        if "delivery" in document:
            contract = replace(contract, delivery_ms=parse_moment(str(document["delivery"])))
        self._trading.replace_contracts({contract.symbol: contract})
        self._trading.doors.advance()
        return contract.info(self._desk.now)


def amount_of(value: object) -> Decimal:
    """Return a decimal number of a control request.

    Raises:
        ValueError: the value is no decimal number, or below 0.
    """
    try:
        amount = Decimal(str(value))
    except InvalidOperation as error:
        raise ValueError(f"{value!r} is no decimal number") from error
    if not amount.is_finite() or amount < 0:
        raise ValueError(f"{value!r} is no decimal number from 0 on")
    return amount
