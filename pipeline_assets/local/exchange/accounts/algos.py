"""Conditional orders: new ones, cancellations, queries, and what their trigger does. When a trigger is
reached is decided in matching.py.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pipeline_assets.local.exchange.accounts import fields
from pipeline_assets.local.exchange.accounts.desk import Desk
from pipeline_assets.local.exchange.accounts.execution import accept, end_algo, match, report_algo
from pipeline_assets.local.exchange.accounts.filters import Filters
from pipeline_assets.local.exchange.accounts.model import ZERO, Account, AlgoOrder, Order
from pipeline_assets.local.exchange.accounts.placing import (
    CONDITIONAL,
    check_margin,
    check_side,
    common_terms,
    tradable,
    wanted_by,
)
from pipeline_assets.local.exchange.accounts.refusals import TEXTS, refused
from pipeline_assets.local.exchange.errors import ApiError
from pipeline_assets.local.exchange.parameters import mandatory

LARGEST_NUMBER = 200
"""Open conditional orders of an account, over all symbols."""

TRAILING = "TRAILING_STOP_MARKET"
FORCES = (*fields.TIMES_IN_FORCE, "GTE_GTC")
CALLBACK_RATES = (Decimal("0.1"), Decimal(10))


def read_algo(desk: Desk, account: Account, query: fields.Query) -> AlgoOrder:
    """Return the conditional order that a request describes, after all checks of it alone.

    Raises:
        ApiError: the exchange refuses it.
    """
    contract = tradable(desk, mandatory(query, "symbol"))
    side, kind = fields.side_of(query), mandatory(query, "type")
    if mandatory(query, "algoType") != "CONDITIONAL" or kind not in CONDITIONAL:
        raise refused(-1116)
    check_side(account, query)
    closing, reduce_only = fields.flag(query, "closePosition"), fields.flag(query, "reduceOnly")
    if closing:
        check_closing(query, kind)
    filters = Filters(contract)
    limit = kind in ("STOP", "TAKE_PROFIT")
    quantity, price = fields.number(query, "quantity"), fields.number(query, "price")
    trigger = fields.number(query, "triggerPrice")
    if not closing:
        mandatory(query, "quantity")
        filters.check_quantity(quantity, market=not limit)
    if limit:
        mandatory(query, "price")
        filters.check_price(price)
    if kind != TRAILING:
        mandatory(query, "triggerPrice")
        filters.check_price(trigger, code_below=-4006)
    if not (closing or reduce_only):
        filters.check_notional(quantity * (price or trigger or desk.price(contract.symbol)))
    force = fields.choice(query, "timeInForce", FORCES, "GTC")
    common = common_terms(query, desk.now, "clientAlgoId", force)
    common["reduce_only"] = reduce_only or closing
    shape: dict[str, Any] = {
        "symbol": contract.symbol,
        "side": side,
        "quantity": quantity,
        "price": price,
    }
    algo = AlgoOrder(kind=kind, trigger_price=trigger, **shape, **common)
    algo.close_position = closing
    algo.price_protect = fields.flag(query, "priceProtect")
    if kind == TRAILING:
        read_trailing(algo, query, filters)
    return algo


def check_closing(query: fields.Query, kind: str) -> None:
    """Check an order that closes the whole position.

    Raises:
        ApiError: -4136, -4137 or -1106.
    """
    if kind not in ("STOP_MARKET", "TAKE_PROFIT_MARKET"):
        raise refused(-4136, kind)
    if "quantity" in query:
        raise refused(-4137)
    if "reduceOnly" in query:
        raise refused(-1106, "reduceOnly")


def read_trailing(algo: AlgoOrder, query: fields.Query, filters: Filters) -> None:
    """Read a trailing stop's own parameters.

    Raises:
        ApiError: the callback rate is missing or out of range, or the price breaks a filter.
    """
    mandatory(query, "callbackRate")
    algo.callback_rate = fields.number(query, "callbackRate")
    if not CALLBACK_RATES[0] <= algo.callback_rate <= CALLBACK_RATES[1]:
        raise ApiError(400, -2007, "Invalid callBack rate.")
    algo.activation_price = fields.number(query, "activatePrice")
    if algo.activation_price:
        filters.check_price(algo.activation_price)


def falling(algo: AlgoOrder) -> bool:
    """Return whether the trigger is reached from above: the stop of a long one, the target of a short one."""
    return (algo.side == "SELL") == ("TAKE_PROFIT" not in algo.kind)


def place_algo(desk: Desk, account: Account, algo: AlgoOrder) -> AlgoOrder:
    """Accept a conditional order.

    Raises:
        ApiError: the exchange refuses it, and there is no trace of it.
    """
    waiting = account.open_algos.values()
    if algo.client_id and any(each.client_id == algo.client_id for each in waiting):
        raise refused(-4116)
    if len(waiting) >= LARGEST_NUMBER:
        raise refused(-4045)
    for each in waiting:
        same = each.symbol == algo.symbol and each.side == algo.side
        if same and algo.close_position and each.close_position and falling(each) == falling(algo):
            raise refused(-4130)
    price = desk.price(algo.symbol)
    if algo.kind == TRAILING:
        # A sale follows the price up from its activation, so that must not lie below the price now.
        if algo.activation_price and (algo.activation_price - price) * algo.sign > 0:
            raise refused(-2021)
        algo.best = ZERO if algo.activation_price else price
    elif algo.trigger_price >= price if falling(algo) else algo.trigger_price <= price:
        raise refused(-2021)
    algo.algo_id = desk.number("algo")
    algo.client_id = algo.client_id or f"auto_{algo.algo_id}"
    algo.time = algo.updated = desk.now
    account.algos[algo.algo_id] = account.open_algos[algo.algo_id] = algo
    report_algo(desk, account, algo)
    return algo


@dataclass(frozen=True)
class Lookup:
    """A conditional order as a request names it: by number or client id."""

    wanted: int | str

    @classmethod
    def of(cls, query: fields.Query) -> "Lookup":
        """Return the lookup of a request."""
        return cls(wanted_by(query, "algoId", "clientAlgoId"))

    def names(self, algo: AlgoOrder) -> bool:
        """Return whether it is this one."""
        return self.wanted in (algo.algo_id, algo.client_id)


def cancel_algo(desk: Desk, account: Account, query: fields.Query) -> AlgoOrder:
    """Cancel a waiting conditional order.

    Raises:
        ApiError: -2011, it does not wait.
    """
    lookup = Lookup.of(query)
    for algo in list(account.open_algos.values()):
        if lookup.names(algo):
            end_algo(desk, account, algo, "CANCELED")
            return algo
    raise refused(-2011)


def find_algo(desk: Desk, account: Account, query: fields.Query) -> AlgoOrder:
    """Return the conditional order that a query names; of several with one client id the newest.

    Raises:
        ApiError: -2013, queries do not find it.
    """
    lookup = Lookup.of(query)
    for algo in reversed(account.algos.values()):
        if lookup.names(algo):
            if desk.now < algo.hidden_until_ms:
                break
            return algo
    raise refused(-2013)


def trigger(desk: Desk, account: Account, algo: AlgoOrder, price: Decimal) -> None:
    """Send a triggered conditional order to the matching engine, at the price that triggered it."""
    algo.triggered = desk.now
    end_algo(desk, account, algo, "TRIGGERING")
    position = account.position(algo.symbol)
    reducible = max(ZERO, -position.amount * algo.sign)
    quantity = algo.quantity
    if algo.reduce_only:
        quantity = reducible if algo.close_position else min(quantity, reducible)
    if not quantity:
        end_algo(
            desk, account, algo, "EXPIRED" if algo.close_position else "REJECTED", TEXTS[-2022]
        )
        return
    limit = algo.kind in ("STOP", "TAKE_PROFIT")
    changed = {"kind": "LIMIT" if limit else "MARKET", "quantity": quantity, "time": desk.now}
    order = Order(**algo.terms() | changed)
    order.order_id, order.algo_id = desk.number("order"), algo.algo_id
    order.original_kind, order.stop_price = algo.kind, algo.trigger_price
    if order.time_in_force == "GTE_GTC":
        order.time_in_force = "GTC"
    if not algo.reduce_only:
        try:
            check_margin(desk, account, order)
        except ApiError as error:
            end_algo(desk, account, algo, "REJECTED", error.message)
            return
    algo.order_id = order.order_id
    accept(desk, account, order)
    end_algo(desk, account, algo, "TRIGGERED")
    if not limit or (price - algo.price) * algo.sign <= 0:
        match(desk, account, order, price, maker=False)
