"""The rule that a symbol has one trade at a time at the venue. How a stopped entry is reported is in
trader_orders.py.

The rules and the venue may end a trade at different times, since a stop lies off the entry's own price. The
account has one position per symbol: an entry that is sent before the earlier trade is closed nets with that
trade. In the comparison of paper and demo a long of 0.318 became 0.001, and the gateway closed a good
position for want of a stop.
"""

from collections.abc import Iterable

from pipeline_assets.trading.gateway_client import GatewayClient
from pipeline_assets.trading.order_types import UNSETTLED, Order
from pipeline_assets.trading.trades import Trade


async def open_trade(
    entry: Order, trades: Iterable[Trade], leaving: Iterable[Trade], gateway: GatewayClient
) -> Trade | None:
    """Return an earlier trade that forbids an entry; None if the entry may be sent.

    The entry is not kept for later. By research it is filled at the next open; a later fill would be a trade
    at a price that no backtest has.

    Args:
        entry: the order.
        trades: of its symbol.
        leaving: trades that the rules reverse by this entry: an exit that the gateway took leaves before it.
        gateway: says what became of an entry that is not filled.

    Raises:
        OutsideSystemError: the gateway does not answer.
    """
    exiting = {each.entry_id for each in leaving if each.exit_id}
    for trade in trades:
        if trade.entry_id in exiting | {entry.client_id}:
            continue
        # An entry whose outcome is unknown may open a position yet.
        if trade.remaining or await gateway.status(trade.entry_id) in UNSETTLED:
            return trade
    return None
