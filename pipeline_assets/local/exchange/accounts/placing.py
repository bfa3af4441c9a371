"""New orders, cancellations and queries of the matching engine: checks in the exchange's order, then the
first match. Conditional orders are in algos.py.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.accounts import fields
from pipeline_assets.local.exchange.accounts.desk import Desk
from pipeline_assets.local.exchange.accounts.execution import accept, end, match
from pipeline_assets.local.exchange.accounts.filters import Filters
from pipeline_assets.local.exchange.accounts.margin import largest_notional
from pipeline_assets.local.exchange.accounts.model import ONE_WAY, ZERO, Account, Order
from pipeline_assets.local.exchange.accounts.refusals import refused
from pipeline_assets.local.exchange.accounts.views import order_view
from pipeline_assets.local.exchange.contracts import Contract
from pipeline_assets.local.exchange.parameters import mandatory

CONDITIONAL = ("STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")
REMEMBERED_MS = 3 * fields.DAY_MS
"""An order that ended without a fill is forgotten after so long."""

SHORTEST_GTD_MS = 600_000


@dataclass(frozen=True)
class Placed:
    """A new order and its state when it was accepted, before any fill."""

    order: Order
    accepted: dict[str, Any]


def read_order(desk: Desk, account: Account, query: fields.Query) -> Order:
    """Return the order that a request describes, after all checks that need no margin.

    Raises:
        ApiError: the exchange refuses it.
    """
    contract = tradable(desk, mandatory(query, "symbol"))
    side, kind = fields.side_of(query), mandatory(query, "type")
    if kind in CONDITIONAL:
        raise refused(-4120)
    if kind not in ("LIMIT", "MARKET"):
        raise refused(-1116)
    check_side(account, query)
    limit = kind == "LIMIT"
    force = fields.time_in_force(query) if limit else "GTC"
    for name in ("price", "timeInForce"):
        if not limit and name in query:
            raise refused(-1106, name)
    if fields.flag(query, "closePosition"):
        raise refused(-4136, kind)
    quantity, price = fields.number(query, "quantity"), fields.number(query, "price")
    mandatory(query, "quantity")
    filters = Filters(contract)
    filters.check_quantity(quantity, market=not limit)
    mark = desk.price(contract.symbol)
    if limit:
        mandatory(query, "price")
        filters.check_price(price)
        filters.check_percent(side, price, mark)
    if not fields.flag(query, "reduceOnly"):
        filters.check_notional(quantity * (price or mark))
    common = common_terms(query, desk.now, "newClientOrderId", force)
    shape: dict[str, Any] = {
        "symbol": contract.symbol,
        "side": side,
        "quantity": quantity,
        "price": price,
    }
    return Order(kind=kind, original_kind=kind, **shape, **common)


def common_terms(query: fields.Query, now_ms: int, client_id: str, force: str) -> dict[str, Any]:
    """Return the terms that orders and conditional orders read alike, whatever the contract."""
    prevention = fields.choice(query, "selfTradePreventionMode", fields.PREVENTION, "EXPIRE_MAKER")
    working = fields.choice(query, "workingType", fields.WORKING_TYPES, "CONTRACT_PRICE")
    return {
        "client_id": fields.client_id(query, client_id),
        "reduce_only": fields.flag(query, "reduceOnly"),
        "self_trade_prevention": prevention,
        "working_type": working,
        "time": now_ms,
    } | {"time_in_force": force, "good_till": good_till(query, now_ms) if force == "GTD" else 0}


def good_till(query: fields.Query, now_ms: int) -> int:
    """Return when a GTD order expires, a whole second.

    Raises:
        ApiError: the time is missing, or too soon.
    """
    text = mandatory(query, "goodTillDate")
    value = fields.whole(query, "goodTillDate") or 0
    if value // 1000 * 1000 <= now_ms + SHORTEST_GTD_MS:
        raise errors.ApiError(400, -4184, f"Invalid goodTillDate: {text}.")
    return value // 1000 * 1000


def tradable(desk: Desk, symbol: str) -> Contract:
    """Return a contract that trades now.

    Raises:
        ApiError: it does not exist, or is not listed yet or no longer.
    """
    contract = desk.contract(symbol)
    status = contract.status(desk.now)
    if status != "TRADING":
        raise refused(-4141 if status == "SETTLING" else -4140)
    return contract


def check_side(account: Account, query: fields.Query) -> None:
    """Check positionSide; only one-way accounts can trade here, and others refuse every order with -4061."""
    if fields.choice(query, "positionSide", (ONE_WAY, "LONG", "SHORT"), ONE_WAY) != ONE_WAY:
        raise refused(-4061)
    if account.dual_side:
        raise refused(-4061)


def check_account(desk: Desk, account: Account, order: Order) -> None:
    """Check what the account holds: client id, number of orders, position to reduce, margin.

    Raises:
        ApiError: the exchange refuses the order.
    """
    if any(each.client_id == order.client_id for each in account.open_orders.values()):
        raise refused(-4116)
    own = [each for each in account.open_orders.values() if each.symbol == order.symbol]
    if len(own) >= Filters(desk.contract(order.symbol)).value("MAX_NUM_ORDERS", "limit"):
        raise refused(-2025)
    position = account.position(order.symbol)
    if order.reduce_only:
        reducible = max(ZERO, -position.amount * order.sign)
        if not reducible:
            raise refused(-2022)
        resting = sum(
            (each.remaining for each in own if each.reduce_only and each.side == order.side), ZERO
        )
        if resting and order.quantity + resting > reducible:
            raise refused(-4118)
        order.quantity = min(order.quantity, reducible)
        return
    check_margin(desk, account, order)


def check_margin(desk: Desk, account: Account, order: Order) -> None:
    """Check that the account can pay for what the order would open.

    Raises:
        ApiError: -2019, or -2027 for a position too large for its leverage.
    """
    position, margin = account.position(order.symbol), desk.margin(account)
    price = order.price or desk.price(order.symbol)
    enlarging = max(ZERO, order.quantity - max(ZERO, -position.amount * order.sign))
    if not enlarging:
        return
    after = position.amount + order.quantity * order.sign
    if abs(after) * price > largest_notional(position.leverage):
        raise refused(-2027)
    if enlarging * price / position.leverage > margin.available(desk.asset_of(order.symbol)):
        raise refused(-2019)


def place(desk: Desk, account: Account, order: Order) -> Placed:
    """Accept a new order and match it for the first time.

    Raises:
        ApiError: the exchange refuses the order, and there is no trace of it.
    """
    check_account(desk, account, order)
    price = desk.price(order.symbol)
    crosses = order.kind == "MARKET" or (price - order.price) * order.sign <= 0
    if order.time_in_force == "GTX" and crosses:
        raise refused(-5022)
    if order.time_in_force == "FOK" and not crosses:
        raise refused(-5021)
    order.order_id = desk.number("order")
    order.client_id = order.client_id or f"auto_{order.order_id}"
    order.time = desk.now
    accept(desk, account, order)
    accepted = order_view(order, desk.contract(order.symbol))
    if crosses:
        match(desk, account, order, price, maker=False)
    elif order.time_in_force == "IOC":
        end(desk, account, order, "EXPIRED")
    return Placed(order, accepted)


def cancel(desk: Desk, account: Account, query: fields.Query) -> Order:
    """Cancel one open order.

    Raises:
        ApiError: -2011, it is not open.
    """
    symbol = desk.contract(mandatory(query, "symbol")).symbol
    wanted = wanted_by(query, "orderId", "origClientOrderId")
    for order in reversed(list(account.open_orders.values())):
        if order.symbol == symbol and wanted in (order.order_id, order.client_id):
            end(desk, account, order, "CANCELED")
            return order
    raise refused(-2011)


def cancel_all(desk: Desk, account: Account, symbol: str) -> None:
    """Cancel the open orders of a symbol."""
    for order in list(account.open_orders.values()):
        if order.symbol == symbol:
            end(desk, account, order, "CANCELED")


def find(desk: Desk, account: Account, query: fields.Query, *, only_open: bool = False) -> Order:
    """Return the order that a query names; of several with one client id the newest.

    Raises:
        ApiError: -2013, queries do not find it.
    """
    symbol = desk.contract(mandatory(query, "symbol")).symbol
    wanted = wanted_by(query, "orderId", "origClientOrderId")
    for order in reversed(account.orders.values()):
        if order.symbol == symbol and wanted in (order.order_id, order.client_id):
            if visible(order, desk.now) and (order.is_open or not only_open):
                return order
            break
    raise refused(-2013)


def wanted_by(query: fields.Query, number: str, text: str) -> int | str:
    """Return the order id, or else the client id, that a request names.

    Raises:
        ApiError: the request names neither.
    """
    order_id = fields.whole(query, number)
    if order_id is not None:
        return order_id
    client_id = query.get(text)
    if not client_id:
        raise errors.ApiError(
            400, -1102, f"Param '{text}' or '{number}' must be sent, but both were empty/null!"
        )
    return client_id


def visible(order: Order, now_ms: int) -> bool:
    """Return whether queries find an order."""
    if now_ms < order.hidden_until_ms:
        return False
    return order.is_open or bool(order.executed) or now_ms - order.time < REMEMBERED_MS


def exchange_order(
    desk: Desk, account: Account, symbol: str, client_id: str, quantity: Decimal, price: Decimal
) -> Order:
    """Close a part of a position by an order of the exchange's own: liquidation, deleveraging, settlement."""
    amount = account.position(symbol).amount
    kind = "LIQUIDATION" if client_id.startswith("autoclose-") else "MARKET"
    shape: dict[str, Any] = {
        "symbol": symbol,
        "side": "SELL" if amount > 0 else "BUY",
        "kind": kind,
    }
    shape |= {"quantity": min(quantity, abs(amount)), "price": price, "original_kind": kind}
    order = Order(
        client_id=client_id, time_in_force="IOC", time=desk.now, reduce_only=True, **shape
    )
    order.order_id, order.by_exchange = desk.number("order"), True
    accept(desk, account, order)
    match(desk, account, order, price, maker=False)
    return order
