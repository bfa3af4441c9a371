"""The trader's open trades as the gateway's journal has them, read from its beginning without sending
anything: after a journal was restored from its backup, and for a trader without a checkpoint.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from pipeline_assets.trading.gateway_client import GatewayClient
from pipeline_assets.trading.order_types import Order
from pipeline_assets.trading.records import OrderSending
from pipeline_assets.trading.trader_orders import TraderOrders
from pipeline_assets.trading.trades import Trade


@dataclass(frozen=True)
class ReadTrades:
    """Trades by the client id of their entry.

    Attributes:
        at: the time of the last record that was read, in milliseconds; 0 without one.
    """

    at: int
    open: dict[str, Trade]
    closed: dict[str, Trade]


class _Reader(TraderOrders):
    """Takes records in as the trader does and sends nothing: what the past sent is in the records."""

    async def _place(self, trade: Trade, order: Order) -> None:
        pass

    async def _cancel(self, client_id: str) -> None:
        pass


async def read_trades(orders: TraderOrders, last: int) -> ReadTrades:
    """Return the trades of the journal's records up to `last`.

    Exits of an open trade may be at an end, or were never sent: TraderOrders.protect_again asks for each.
    Orders of strategies or symbols that are not traded any more belong to no trade.

    Raises:
        OutsideSystemError: the gateway does not answer.
    """
    closed: dict[str, Trade] = {}
    reader = _Reader(
        orders.keeper,
        orders.formulas,
        orders.gateway,
        orders.clock,
        lambda trade: closed.setdefault(trade.entry_id, trade),
        lambda _: None,
    )
    at = 0
    if last:
        async with aclosing(orders.gateway.follow(0)) as records:
            async for number, record in records:
                at = record.at
                if not isinstance(record, OrderSending) or _is_traded(orders, record.order):
                    await reader.on_record(record)
                if number >= last:
                    break
    for entry_id, trade in reader.trades.items():
        if known := orders.trades.get(entry_id):
            trade.signal_minute, trade.stray_since = known.signal_minute, known.stray_since
    return ReadTrades(at, reader.trades, closed)


def _is_traded(orders: TraderOrders, order: Order) -> bool:
    return order.strategy in orders.keeper.strategies and order.symbol in orders.formulas


async def warn_of_differences(
    before: Mapping[str, Trade],
    read: ReadTrades,
    gateway: GatewayClient,
    warn: Callable[[str], object],
) -> None:
    """Warn of trades that the journal does not have, and of positions that belong to no trade.

    Args:
        before: the trades of the checkpoint.
        read: the trades of the journal.
        gateway: of the journal.
        warn: takes what a person should know.

    Raises:
        OutsideSystemError: the gateway does not answer.
    """
    for trade in before.values():
        if trade.entry_id not in read.open and trade.entry_id not in read.closed:
            warn(
                f"{trade.symbol}: the entry {trade.entry_id} of the checkpoint is not in the gateway's "
                "journal, so its trade is forgotten. Close its position at the exchange if there is one."
            )
    held, own = await gateway.positions(), Counter[str]()
    for trade in read.open.values():
        own[trade.symbol] += trade.sign * (trade.filled - trade.exited)
    for symbol in sorted(held.keys() | own.keys()):
        if held.get(symbol, 0) != own[symbol]:
            warn(
                f"{symbol}: the account holds {held.get(symbol, 0) / 1e8}, of which {own[symbol] / 1e8} "
                "belong to the trader's trades. The trader does not protect the rest: close it by "
                f"`POST /v1/positions/{symbol}/close`, or protect it by orders of your own."
            )
