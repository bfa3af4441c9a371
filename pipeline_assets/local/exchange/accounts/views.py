"""Orders, conditional orders, trades and income as the REST replies show them. Positions and balances are in
account_views.py, events of the private stream in events.py.
"""

from typing import Any

from pipeline_assets.local.exchange.accounts.model import (
    ONE_WAY,
    AlgoOrder,
    Income,
    Order,
    Trade,
    fixed,
)
from pipeline_assets.local.exchange.contracts import Contract


def order_view(order: Order, contract: Contract, *, queried: bool = False) -> dict[str, Any]:
    """Return the reply to a new, queried or cancelled order."""
    price, quantity = contract.price_precision, contract.quantity_precision
    shown: dict[str, Any] = {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": order.status,
        "clientOrderId": order.client_id,
        "price": fixed(order.price, price),
        "avgPrice": fixed(order.average, max(2, price + 3)) if order.executed else "0.00",
        "origQty": fixed(order.quantity, quantity),
        "executedQty": fixed(order.executed, quantity),
        "cumQuote": fixed(order.quote, price + quantity),
        "timeInForce": order.time_in_force,
        "type": order.kind,
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "side": order.side,
        "positionSide": ONE_WAY,
        "stopPrice": fixed(order.stop_price, price),
        "workingType": order.working_type,
        "priceProtect": False,
        "origType": order.original_kind,
        "priceMatch": "NONE",
        "selfTradePreventionMode": order.self_trade_prevention,
        "goodTillDate": order.good_till,
        "updateTime": order.updated,
    }
    if queried:
        return shown | {"time": order.time}
    return shown | {"cumQty": fixed(order.executed, quantity)}


def algo_view(algo: AlgoOrder, contract: Contract, sent: Order | None = None) -> dict[str, Any]:
    """Return the reply to a new or queried conditional order; `sent` is the order that it has sent."""
    price, quantity = contract.price_precision, contract.quantity_precision
    trailing = algo.kind == "TRAILING_STOP_MARKET"
    return {
        "algoId": algo.algo_id,
        "clientAlgoId": algo.client_id,
        "symbol": algo.symbol,
        "algoType": "CONDITIONAL",
        "orderType": algo.kind,
        "positionSide": ONE_WAY,
        "side": algo.side,
        "timeInForce": algo.time_in_force,
        "quantity": fixed(algo.quantity, quantity),
        "algoStatus": algo.status,
        "actualOrderId": str(sent.order_id) if sent else "",
        "actualPrice": fixed(sent.average, price + 3) if sent else "0.00000",
        "actualQty": fixed(sent.executed, quantity) if sent else "0",
        "actualType": sent.kind if sent else "",
        "triggerPrice": fixed(algo.trigger_price, price),
        "price": fixed(algo.price, price),
        "icebergQuantity": None,
        "tpTriggerPrice": fixed(algo.price * 0, price),
        "tpPrice": fixed(algo.price * 0, price),
        "slTriggerPrice": fixed(algo.price * 0, price),
        "slPrice": fixed(algo.price * 0, price),
        "tpOrderType": "",
        "selfTradePreventionMode": algo.self_trade_prevention,
        "workingType": algo.working_type,
        "priceMatch": "NONE",
        "closePosition": algo.close_position,
        "priceProtect": algo.price_protect,
        "reduceOnly": algo.reduce_only,
        "activatePrice": fixed(algo.activation_price, price) if trailing else "",
        "callbackRate": str(algo.callback_rate) if trailing else "",
        "createTime": algo.time,
        "updateTime": algo.updated,
        "triggerTime": algo.triggered,
        "goodTillDate": algo.good_till,
    }


def algo_cancelled(algo: AlgoOrder) -> dict[str, Any]:
    """Return the reply to the cancellation of a conditional order."""
    return {
        "algoId": algo.algo_id,
        "clientAlgoId": algo.client_id,
        "code": "200",
        "msg": "success",
    }


def trade_view(trade: Trade, contract: Contract) -> dict[str, Any]:
    """Return one row of userTrades."""
    price, quantity = contract.price_precision, contract.quantity_precision
    return {
        "symbol": trade.symbol,
        "id": trade.trade_id,
        "orderId": trade.order_id,
        "side": trade.side,
        "price": fixed(trade.price, price),
        "qty": fixed(trade.quantity, quantity),
        "realizedPnl": fixed(trade.realized, 8),
        "quoteQty": fixed(trade.price * trade.quantity, price + quantity),
        "commission": fixed(trade.commission, 8),
        "commissionAsset": trade.commission_asset,
        "time": trade.time,
        "positionSide": ONE_WAY,
        "buyer": trade.side == "BUY",
        "maker": trade.maker,
    }


def income_view(income: Income) -> dict[str, Any]:
    """Return one row of income."""
    return {
        "symbol": income.symbol,
        "incomeType": income.kind,
        "income": fixed(income.amount, 8),
        "asset": income.asset,
        "time": income.time,
        "info": income.trade_id or income.kind,
        "tranId": income.transaction_id,
        "tradeId": income.trade_id,
    }
