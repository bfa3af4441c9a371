"""The endpoints of orders, conditional orders and trades."""

from typing import Any

from pipeline_assets.local.exchange import errors
from pipeline_assets.local.exchange.accounts import fields
from pipeline_assets.local.exchange.accounts.algos import (
    cancel_algo,
    find_algo,
    place_algo,
    read_algo,
)
from pipeline_assets.local.exchange.accounts.doors import Call, Route
from pipeline_assets.local.exchange.accounts.execution import end_algo
from pipeline_assets.local.exchange.accounts.faults import HIDDEN
from pipeline_assets.local.exchange.accounts.model import AlgoOrder, Order
from pipeline_assets.local.exchange.accounts.placing import (
    cancel,
    cancel_all,
    check_account,
    find,
    place,
    read_order,
    visible,
)
from pipeline_assets.local.exchange.accounts.views import (
    algo_cancelled,
    algo_view,
    order_view,
    trade_view,
)
from pipeline_assets.local.exchange.parameters import mandatory, requested_limit

LARGEST_LIMIT = 1000
Rows = list[dict[str, Any]]


def hidden_until(call: Call, client_id: str) -> int:
    """Return until when a new order is hidden from queries, 0 for not at all."""
    plan = call.desk.plan
    struck = plan.draw(client_id, (HIDDEN,))
    return call.desk.now + plan.faults.hidden_ms if struck else 0


def new_order(call: Call) -> dict[str, Any]:
    """POST order: ACK shows it before any fill, RESULT of a market, IOC or FOK order its end."""
    desk, account = call.desk, call.account
    result = fields.choice(call.query, "newOrderRespType", ("ACK", "RESULT"), "ACK") == "RESULT"
    order = read_order(desk, account, call.query)
    order.hidden_until_ms = hidden_until(call, order.client_id)
    placed = place(desk, account, order)
    if result and (order.kind == "MARKET" or order.time_in_force in ("IOC", "FOK")):
        return order_view(order, desk.contract(order.symbol))
    return placed.accepted


def try_order(call: Call) -> dict[str, Any]:
    """POST order/test: check an order and place none."""
    order = read_order(call.desk, call.account, call.query)
    check_account(call.desk, call.account, order)
    return order_view(order, call.desk.contract(order.symbol))


def one_order(call: Call) -> dict[str, Any]:
    """GET order."""
    return seen(call, find(call.desk, call.account, call.query))


def open_order(call: Call) -> dict[str, Any]:
    """GET openOrder."""
    return seen(call, find(call.desk, call.account, call.query, only_open=True))


def seen(call: Call, order: Order) -> dict[str, Any]:
    """Return an order as queries show it."""
    return order_view(order, call.desk.contract(order.symbol), queried=True)


def cancel_order(call: Call) -> dict[str, Any]:
    """DELETE order."""
    order = cancel(call.desk, call.account, call.query)
    return order_view(order, call.desk.contract(order.symbol))


def cancel_orders(call: Call) -> dict[str, Any]:
    """DELETE allOpenOrders."""
    cancel_all(call.desk, call.account, call.desk.contract(mandatory(call.query, "symbol")).symbol)
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def open_orders(call: Call) -> Rows:
    """GET openOrders."""
    symbol = wanted_symbol(call)
    return [
        seen(call, order)
        for order in call.account.open_orders.values()
        if symbol in (None, order.symbol) and visible(order, call.desk.now)
    ]


def all_orders(call: Call) -> Rows:
    """GET allOrders."""
    symbol, now_ms = call.desk.contract(mandatory(call.query, "symbol")).symbol, call.desk.now
    limit, first = (
        requested_limit(call.query, 500, LARGEST_LIMIT),
        fields.whole(call.query, "orderId"),
    )
    orders = [
        order
        for order in call.account.orders.values()
        if order.symbol == symbol and visible(order, now_ms)
    ]
    if first is not None:
        return [seen(call, order) for order in orders if order.order_id >= first][:limit]
    start, end = fields.window(call.query, now_ms)
    rows = [seen(call, order) for order in orders if start <= order.time <= end]
    return rows[:limit] if "startTime" in call.query else rows[-limit:]


def wanted_symbol(call: Call) -> str | None:
    """Return the symbol that a request names, if it names one."""
    symbol = call.query.get("symbol")
    return call.desk.contract(symbol).symbol if symbol else None


def new_algo(call: Call) -> dict[str, Any]:
    """POST algoOrder."""
    algo = read_algo(call.desk, call.account, call.query)
    algo.hidden_until_ms = hidden_until(call, algo.client_id)
    return seen_algo(call, place_algo(call.desk, call.account, algo))


def seen_algo(call: Call, algo: AlgoOrder) -> dict[str, Any]:
    """Return a conditional order as queries show it."""
    sent = call.account.orders.get(algo.order_id)
    return algo_view(algo, call.desk.contract(algo.symbol), sent)


def one_algo(call: Call) -> dict[str, Any]:
    """GET algoOrder."""
    return seen_algo(call, find_algo(call.desk, call.account, call.query))


def remove_algo(call: Call) -> dict[str, Any]:
    """DELETE algoOrder."""
    return algo_cancelled(cancel_algo(call.desk, call.account, call.query))


def remove_algos(call: Call) -> dict[str, Any]:
    """DELETE algoOpenOrders."""
    symbol = call.desk.contract(mandatory(call.query, "symbol")).symbol
    for algo in list(call.account.open_algos.values()):
        if algo.symbol == symbol:
            end_algo(call.desk, call.account, algo, "CANCELED")
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def open_algos(call: Call) -> Rows:
    """GET openAlgoOrders."""
    symbol, now_ms = wanted_symbol(call), call.desk.now
    return [
        seen_algo(call, algo)
        for algo in call.account.open_algos.values()
        if symbol in (None, algo.symbol) and now_ms >= algo.hidden_until_ms
    ]


def all_algos(call: Call) -> Rows:
    """GET allAlgoOrders."""
    symbol, now_ms = call.desk.contract(mandatory(call.query, "symbol")).symbol, call.desk.now
    limit, first = (
        requested_limit(call.query, 500, LARGEST_LIMIT),
        fields.whole(call.query, "algoId"),
    )
    start, end = fields.window(call.query, now_ms)
    rows = [
        seen_algo(call, algo)
        for algo in call.account.algos.values()
        if algo.symbol == symbol
        and now_ms >= algo.hidden_until_ms
        and (algo.algo_id >= first if first is not None else start <= algo.time <= end)
    ]
    return rows[:limit] if first is not None else rows[-limit:]


def user_trades(call: Call) -> Rows:
    """GET userTrades: from an id on, or in a time span of at most seven days."""
    query, now_ms = call.query, call.desk.now
    contract = call.desk.contract(mandatory(query, "symbol"))
    limit, first = requested_limit(query, 500, LARGEST_LIMIT), fields.whole(query, "fromId")
    order_id = fields.whole(query, "orderId")
    timed = "startTime" in query or "endTime" in query
    if first is not None and timed:
        raise errors.ApiError(400, -1128, "Combination of optional parameters invalid.")
    start, end = fields.window(query, now_ms)
    oldest = now_ms - 90 * fields.DAY_MS
    rows = []
    for trade in call.account.trades:
        order = call.account.orders[trade.order_id]
        wanted = trade.symbol == contract.symbol and order_id in (None, trade.order_id)
        span = trade.trade_id >= first if first is not None else start <= trade.time <= end
        if wanted and span and trade.time >= oldest and now_ms >= order.hidden_until_ms:
            rows.append(trade_view(trade, contract))
    return rows[:limit] if first is not None or "startTime" in query else rows[-limit:]


def of_symbol(one: int, every: int) -> Any:
    """Return a weight that is larger without a symbol."""
    return lambda query: one if query.get("symbol") else every


def always(weight: int) -> Any:
    """Return a weight that does not depend on the request."""
    return lambda _query: weight


ROUTES = [
    Route("POST", "/fapi/v1/order", always(0), new_order, "order"),
    Route("POST", "/fapi/v1/order/test", always(0), try_order),
    Route("GET", "/fapi/v1/order", always(1), one_order),
    Route("DELETE", "/fapi/v1/order", always(1), cancel_order, "cancel"),
    Route("DELETE", "/fapi/v1/allOpenOrders", always(1), cancel_orders, "cancel"),
    Route("GET", "/fapi/v1/openOrder", always(1), open_order),
    Route("GET", "/fapi/v1/openOrders", of_symbol(1, 40), open_orders),
    Route("GET", "/fapi/v1/allOrders", always(5), all_orders),
    Route("POST", "/fapi/v1/algoOrder", always(0), new_algo, "order"),
    Route("GET", "/fapi/v1/algoOrder", always(1), one_algo),
    Route("DELETE", "/fapi/v1/algoOrder", always(1), remove_algo, "cancel"),
    Route("DELETE", "/fapi/v1/algoOpenOrders", always(1), remove_algos, "cancel"),
    Route("GET", "/fapi/v1/openAlgoOrders", of_symbol(1, 40), open_algos),
    Route("GET", "/fapi/v1/allAlgoOrders", always(5), all_algos),
    Route("GET", "/fapi/v1/userTrades", always(5), user_trades),
]
