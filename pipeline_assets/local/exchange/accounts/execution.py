"""Fills: what they do to order, position, balance, trades and private stream; and how an order ends. When an
order is filled is decided in placing.py and matching.py.
"""

from decimal import ROUND_DOWN, Decimal

from pipeline_assets.local.exchange.accounts import events
from pipeline_assets.local.exchange.accounts.desk import MAKER_FEE, TAKER_FEE, Desk
from pipeline_assets.local.exchange.accounts.faults import FILL_FAULTS
from pipeline_assets.local.exchange.accounts.model import (
    ZERO,
    Account,
    AlgoOrder,
    Order,
    Trade,
)

LIQUIDATION_FEE = Decimal("0.0125")


def accept(desk: Desk, account: Account, order: Order) -> None:
    """Record a new order and report it."""
    order.updated = desk.now
    account.orders[order.order_id] = account.open_orders[order.order_id] = order
    report(desk, account, order, "NEW")


def report(
    desk: Desk, account: Account, order: Order, execution: str, trade: Trade | None = None
) -> None:
    """Send an order's event."""
    contract = desk.contract(order.symbol)
    desk.emit(account, events.order_update(order, contract, execution, desk.now, trade))


def match(desk: Desk, account: Account, order: Order, price: Decimal, *, maker: bool) -> None:
    """Fill what is left of an order, as far as the faults and, for a reduce-only one, the position allow."""
    quantity = order.remaining
    reducible = ZERO
    if order.reduce_only:
        reducible = max(ZERO, -account.position(order.symbol).amount * order.sign)
        quantity = min(quantity, reducible)
    half = half_of(quantity, desk.contract(order.symbol).quantity_precision)
    struck = None
    if half and not order.executed and not order.by_exchange:
        struck = desk.plan.draw(order.client_id, FILL_FAULTS)
    if struck == "expired_in_match" and order.self_trade_prevention == "NONE":
        struck = None
    if quantity:
        fill(desk, account, order, half if struck else quantity, price, maker=maker)
    if struck == "partial_fill":
        desk.fill_later(account, order, desk.now + desk.plan.faults.partial_ms)
    elif struck == "expired_in_match":
        end(desk, account, order, "EXPIRED_IN_MATCH")
    elif order.is_open:
        end(desk, account, order, "EXPIRED")


def half_of(quantity: Decimal, places: int) -> Decimal:
    """Return half of a quantity, on the step; 0 for a single step."""
    return (quantity / 2).quantize(Decimal(1).scaleb(-places), ROUND_DOWN)


def fill(
    desk: Desk, account: Account, order: Order, quantity: Decimal, price: Decimal, *, maker: bool
) -> Trade:
    """Fill a part of an order at a price."""
    contract = desk.contract(order.symbol)
    position = account.position(order.symbol)
    realized = position.apply(quantity * order.sign, price)
    position.updated = order.updated = desk.now
    fee = quantity * price * (MAKER_FEE if maker else TAKER_FEE)
    trade = Trade(
        trade_id=desk.number("trade"),
        order_id=order.order_id,
        client_id=order.client_id,
        symbol=order.symbol,
        side=order.side,
        price=price,
        quantity=quantity,
        realized=realized.quantize(Decimal("1e-8")),
        commission=fee.quantize(Decimal("1e-8")),
        commission_asset=contract.quote,
        maker=maker,
        time=desk.now,
    )
    account.trades.append(trade)
    order.executed += quantity
    order.quote += quantity * price
    order.status = "PARTIALLY_FILLED" if order.remaining else "FILLED"
    asset, number = contract.quote, trade.trade_id
    desk.pay(account, "REALIZED_PNL", order.symbol, asset, trade.realized, number)
    desk.pay(account, "COMMISSION", order.symbol, asset, -trade.commission, number)
    if order.kind == "LIQUIDATION":
        clearance = -quantity * price * LIQUIDATION_FEE
        desk.pay(account, "INSURANCE_CLEAR", order.symbol, asset, clearance, number)
    changed = [(position, desk.mark(order.symbol))]
    desk.emit(account, events.account_update(account, "ORDER", desk.now, {asset: ZERO}, changed))
    report(desk, account, order, "CALCULATED" if order.by_exchange else "TRADE", trade)
    if not order.is_open:
        forget(desk, account, order)
    if not position.amount or (realized and position.amount * order.sign > 0):
        expire_reducing(desk, account, order.symbol)
    return trade


def expire_reducing(desk: Desk, account: Account, symbol: str) -> None:
    """End the resting reduce-only orders that have nothing left to reduce."""
    amount = account.position(symbol).amount
    for order in list(account.open_orders.values()):
        if order.symbol == symbol and order.reduce_only and order.sign * amount >= 0:
            end(desk, account, order, "EXPIRED")
    for algo in list(account.open_algos.values()):
        if algo.symbol == symbol and algo.time_in_force == "GTE_GTC" and algo.sign * amount >= 0:
            end_algo(desk, account, algo, "EXPIRED")


def end(desk: Desk, account: Account, order: Order, status: str) -> None:
    """End an order that is not wholly filled."""
    order.status, order.updated = status, desk.now
    report(desk, account, order, "TRADE_PREVENTION" if status == "EXPIRED_IN_MATCH" else status)
    forget(desk, account, order)


def forget(desk: Desk, account: Account, order: Order) -> None:
    """Take an order off the book; the conditional order that sent it is finished."""
    account.open_orders.pop(order.order_id, None)
    algo = account.algos.get(order.algo_id)
    if algo is not None and algo.status == "TRIGGERED":
        end_algo(desk, account, algo, "FINISHED")


def end_algo(desk: Desk, account: Account, algo: AlgoOrder, status: str, reason: str = "") -> None:
    """Give a conditional order a status and report it; only NEW keeps it waiting."""
    algo.status, algo.updated, algo.reason = status, desk.now, reason
    if not algo.is_open:
        account.open_algos.pop(algo.algo_id, None)
    report_algo(desk, account, algo)


def report_algo(desk: Desk, account: Account, algo: AlgoOrder) -> None:
    """Send a conditional order's event."""
    sent = account.orders.get(algo.order_id)
    desk.emit(account, events.algo_update(algo, desk.contract(algo.symbol), desk.now, sent))
