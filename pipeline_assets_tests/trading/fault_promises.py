"""The promises that a gateway keeps under faults, checked against the exchange's own books after a history.
The course of a history is in fault_history.py.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline_assets.market.trading_rules import decimal, units
from pipeline_assets.trading import messages
from pipeline_assets.trading.order_types import Mode
from pipeline_assets.trading.state import GatewayState
from pipeline_assets_tests.trading.fault_world import TIMING

Decisions = Mapping[str, messages.Reply | None]
UNATTENDED = TIMING.stop + 15_000
"""The longest that a position may be without a stop and without a close under way, in milliseconds: a fill
whose event is lost is found by a question, and then the stop has its time, by the steps of the history."""
UNPROTECTED = UNATTENDED + 35_000
"""The longest that it may be without a stop: the orders of its close are lost or filled in part as well."""
_NO_FILLS = ("TRANSFER", "INSURANCE_CLEAR")


@dataclass
class History:
    """The result of one run.

    Attributes:
        broken: each broken promise, as a sentence.
        posts: how many orders the exchange received.
        counts: what happened, by name.
        unprotected: the longest time without a stop, in milliseconds, while the exchange could be reached and
            showed the position's orders.
        unattended: the longest time of that in which the position was not being closed.
    """

    broken: list[str] = field(default_factory=list)
    posts: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    unprotected: int = 0
    unattended: int = 0


def positions_of(truth: Any) -> dict[str, int]:
    """Return the exchange's positions by symbol, in 1e-8."""
    found = {each["symbol"]: units(each["positionAmt"]) for each in truth["positions"]}
    return {symbol: quantity for symbol, quantity in found.items() if quantity}


def hidden_symbols(truth: Any, now: int) -> set[str]:
    """Return the symbols with a filled order that the exchange does not show yet: -2013, and no trades."""
    return {
        each["symbol"]
        for each in truth["orders"]
        if each["hiddenUntil"] > now and units(each["executedQty"])
    }


def broken_promises(
    truth: Any, state: GatewayState, decisions: Decisions, history: History
) -> list[str]:
    """Return each broken promise as a sentence, after everything was closed.

    Args:
        truth: the account, as the exchange knows it.
        state: of the gateway, which has settled.
        decisions: by client id, the answer that the caller has.
        history: has the longest times without a stop.
    """
    return [
        *_orders(truth, state),
        *_books(truth, state),
        *_leftovers(truth, state),
        *_lost(state, decisions),
        *_stops(history),
    ]


def _orders(truth: Any, state: GatewayState) -> Iterator[str]:
    for client_id, number in truth["posts"].items():
        if number > 1:
            yield f"{client_id} was posted {number} times"
        if client_id not in state.orders:
            yield f"{client_id} was posted and is not in the journal"


def _books(truth: Any, state: GatewayState) -> Iterator[str]:
    booked = {
        (each.symbol, each.trade_id, each.signed, each.price, each.fee)
        for each in state.ledger.fills.values()
    }
    traded = {
        (
            each["symbol"], each["id"], _signed(each),
            units(each["price"]), units(each["commission"]),
        ): each
        for each in truth["trades"]
    }  # fmt: skip
    missing = {key: each for key, each in traded.items() if key not in booked}
    unseen = _unseen(truth, state, list(missing.values()))
    for trade, row in missing.items():
        if row not in unseen:
            yield f"the ledger does not have the trade {trade}"
    for trade in booked - traded.keys():
        yield f"the exchange does not have the trade {trade}"
    # The ledger has fills and funding; what else a liquidation costs is in the income only.
    other = sum(
        units(each["income"]) for each in truth["income"] if each["incomeType"] in _NO_FILLS
    )
    other += sum(units(each["realizedPnl"]) - units(each["commission"]) for each in unseen)
    wallet, cash = units(truth["wallets"]["USDT"]) - other, state.ledger.cash
    if abs(wallet - cash) > len(traded):
        yield f"the wallet changed by {decimal(wallet)}, the ledger by {decimal(cash)}"


def _unseen(truth: Any, state: GatewayState, missing: list[Any]) -> list[Any]:
    """Return the trades that only the daily comparison of ledger and exchange finds.

    Others opened a position and it was closed again, while the exchange could not be reached or said nothing:
    no order of the gateway is unsettled, and the positions are equal before and after.
    """
    names = {(each["symbol"], each["orderId"]): each["clientOrderId"] for each in truth["orders"]}
    found = []
    for symbol in {each["symbol"] for each in missing}:
        rows = [each for each in missing if each["symbol"] == symbol]
        own = any(
            names[symbol, each["orderId"]] in state.orders
            or (symbol, str(each["orderId"])) in state.by_venue
            for each in rows
        )
        if not own and sum(map(_signed, rows)) == 0:
            found += rows
    return found


def _signed(trade: Any) -> int:
    return units(trade["qty"]) * (1 if trade["side"] == "BUY" else -1)


def _leftovers(truth: Any, state: GatewayState) -> Iterator[str]:
    if positions_of(truth) or state.ledger.positions:
        yield f"still open: {positions_of(truth)}, ledger {state.ledger.positions}"
    for client_id in state.live:
        yield f"order {client_id} is still {state.orders[client_id].status}"
    for each in truth["orders"]:
        if each["status"] in ("NEW", "PARTIALLY_FILLED"):
            yield f"{each['symbol']}: order {each['clientOrderId']} still rests"
    for each in truth["algo_orders"]:
        if each["algoStatus"] == "NEW":
            yield f"{each['symbol']}: stop {each['clientAlgoId']} still rests"
    if state.mode is not Mode.HALTED or state.mode_reason != "test":
        yield f"the gateway is {state.mode}: {state.mode_reason}"


def _lost(state: GatewayState, decisions: Decisions) -> Iterator[str]:
    for client_id, reply in decisions.items():
        if reply is None or (reply.refusal is None and client_id not in state.orders):
            yield f"the decision of order {client_id} is lost"


def _stops(history: History) -> Iterator[str]:
    if history.unprotected > UNPROTECTED:
        yield f"a position had no stop for {history.unprotected / 1000:g} s"
    if history.unattended > UNATTENDED:
        yield f"a position had neither a stop nor a close for {history.unattended / 1000:g} s"
