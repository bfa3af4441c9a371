"""Binance's replies to queries, read into messages. Pure; answers to orders are read in binance_answers.py,
events of the stream in binance_events.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.market.trading_rules import TradingRulesError, units
from pipeline_assets.trading.messages import (
    FundingPaid,
    OpenOrder,
    OrderSeen,
)
from pipeline_assets.trading.order_types import Fill, OrderSide, Status

Row = Mapping[str, Any]
# EXPIRED and EXPIRED_IN_MATCH may carry fills, so the executed quantity always goes with the status.
STATUSES = {
    "NEW": Status.OPEN,
    "PARTIALLY_FILLED": Status.OPEN,
    "FILLED": Status.FILLED,
    "CANCELED": Status.CANCELED,
    "EXPIRED": Status.EXPIRED,
    "EXPIRED_IN_MATCH": Status.EXPIRED,
    "REJECTED": Status.REJECTED,
}
# TRIGGERED and FINISHED are read from the order that the conditional one became.
ALGO_STATUSES = {
    "NEW": Status.OPEN,
    "TRIGGERING": Status.OPEN,
    "TRIGGERED": Status.OPEN,
    "CANCELED": Status.CANCELED,
    "EXPIRED": Status.EXPIRED,
    "REJECTED": Status.REJECTED,
}
_SIDES: dict[str, OrderSide] = {"BUY": "buy", "SELL": "sell"}
_KINDS = {"MARKET": "market", "LIMIT": "limit", "STOP_MARKET": "stop"}
_MOST_KNOWN = 10_000


class VenueReplyError(OutsideSystemError):
    """Binance said something that cannot be read. The message names what, without the values of a request."""


@dataclass
class TriggeredOrders:
    """The orders that triggered stops became, by symbol and order id; the newest 10,000 are kept.

    A trade names the order and not the stop, and the order's client id need not be the stop's.
    """

    _stops: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def note(self, symbol: str, order_id: str, client_id: str, algo_id: str) -> None:
        """Keep which stop an order came from; an order id that is empty or 0 is none."""
        if order_id in ("", "0"):
            return
        self._stops[symbol, order_id] = (client_id, algo_id)
        while len(self._stops) > _MOST_KNOWN:
            self._stops.pop(next(iter(self._stops)))

    def stop(self, symbol: str, order_id: str) -> tuple[str, str] | None:
        """Return the client id and the id of the stop that an order came from, or None."""
        return self._stops.get((symbol, order_id))


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever a malformed reply causes into an error that names the reply.

    Raises:
        VenueReplyError: a field is missing, or has no such value.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, ArithmeticError, TradingRulesError) as error:
        raise VenueReplyError(
            f"Binance's reply about {what} cannot be read ({type(error).__name__}: {error}). If this "
            "goes on, the interface has changed: halt the gateway and compare with Binance by hand."
        ) from error


def order_seen(row: Row, triggered: TriggeredOrders) -> OrderSeen:
    """Return the state of an ordinary order, or of the stop that it came from."""
    symbol, order_id = str(row["symbol"]), str(row["orderId"])
    status, executed = STATUSES[row["status"]], units(row["executedQty"])
    stop = triggered.stop(symbol, order_id)
    if stop:
        return OrderSeen(*stop, status, executed, symbol, order_id)
    return OrderSeen(str(row["clientOrderId"]), order_id, status, executed, symbol)


def stop_seen(row: Row, became: Row | None) -> OrderSeen:
    """Return the state of a conditional order.

    Args:
        row: of the conditional order.
        became: the order that it became, or None before that.
    """
    status, executed, order_id = ALGO_STATUSES.get(row["algoStatus"]), 0, ""
    if became is not None:
        status, executed = STATUSES[became["status"]], units(became["executedQty"])
        order_id = str(became["orderId"])
    elif status is None:
        # Finished without an order: nothing was sent, or the order is not shown yet.
        status = Status.OPEN if row.get("actualOrderId") else Status.EXPIRED
    return OrderSeen(
        str(row["clientAlgoId"]), str(row["algoId"]), status, executed, str(row["symbol"]), order_id
    )


def fill_of(row: Row, client_id: str) -> Fill:
    """Return a trade of userTrades; `client_id` is empty if it is not known."""
    symbol = str(row["symbol"])
    return Fill(
        symbol=symbol,
        trade_id=int(row["id"]),
        venue_id=str(row["orderId"]),
        client_id=client_id,
        side=_SIDES[row["side"]],
        quantity=units(row["qty"]),
        price=units(row["price"]),
        fee=fee_of(symbol, row["commission"], row["commissionAsset"]),
        time=int(row["time"]),
    )


def fee_of(symbol: str, commission: str, asset: str | None) -> int:
    """Return a fee in 1e-8 of the quote asset; 0 for a fee in another asset.

    The gateway does not start while fees are paid in BNB. If that is switched on later, a fill without its
    fee is better than a position that is not known.
    """
    return units(commission) if asset and symbol.endswith(asset) else 0


def side_of(word: str) -> OrderSide:
    """Return the side that Binance's word names."""
    return _SIDES[word]


def kind_of(word: str) -> str:
    """Return the kind of an order that Binance's word names, or the word itself in small letters."""
    return _KINDS.get(word, word.lower())


def positions_of(rows: Sequence[Row]) -> dict[str, int]:
    """Return the positions by symbol, without those that are 0.

    Raises:
        ValueError: the account has hedge mode, where a symbol has two positions.
    """
    found = {}
    for row in rows:
        if row["positionSide"] != "BOTH":
            raise ValueError(f"{row['symbol']} is in hedge mode: set the account to one-way mode")
        quantity = units(row["positionAmt"])
        if quantity:
            found[str(row["symbol"])] = quantity
    return found


def open_orders_of(orders: Sequence[Row], conditional: Sequence[Row]) -> tuple[OpenOrder, ...]:
    """Return the open orders of both lists."""
    plain = (
        _open_order(row, "clientOrderId", "orderId", row["type"], row["origQty"], row["price"])
        for row in orders
    )
    stops = (
        _open_order(
            *(row, "clientAlgoId", "algoId", row["orderType"]),
            *(row["quantity"] or "0", row["triggerPrice"]),
            conditional=True,
        )
        for row in conditional
    )
    return (*plain, *stops)


def _open_order(
    row: Row,
    client_name: str,
    id_name: str,
    kind: str,
    quantity: str,
    price: str,
    *,
    conditional: bool = False,
) -> OpenOrder:
    return OpenOrder(
        symbol=str(row["symbol"]),
        client_id=str(row[client_name] or ""),
        venue_id=str(row[id_name]),
        kind=kind_of(kind),
        side=_SIDES[row["side"]],
        quantity=units(quantity),
        price=units(price),
        conditional=conditional,
        reduce_only=bool(row["reduceOnly"]),
    )


def payments_of(rows: Sequence[Row]) -> list[FundingPaid]:
    """Return the funding payments of a reading of the income."""
    return [
        FundingPaid(str(row["symbol"]), int(row["time"]), units(row["income"]))
        for row in rows
        if row["incomeType"] == "FUNDING_FEE"
    ]


def in_order(rows: Sequence[Row], name: str) -> list[Row]:
    """Return rows ascending by a number."""
    key: Callable[[Row], int] = lambda row: int(row[name])  # noqa: E731
    return sorted(rows, key=key)
