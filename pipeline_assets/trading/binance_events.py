"""Events of Binance's private stream, read into messages. Pure; the connection is in binance_stream.py.

The stream is a hint: an event may be lost, repeated or late, and queries decide.
"""

from dataclasses import dataclass
from typing import Any

from pipeline_assets.market.trading_rules import units
from pipeline_assets.trading.binance_replies import (
    ALGO_STATUSES,
    STATUSES,
    Row,
    TriggeredOrders,
    fee_of,
    kind_of,
    reading,
    side_of,
)
from pipeline_assets.trading.messages import FillSeen, OpenOrder, OrderSeen
from pipeline_assets.trading.order_types import Fill


@dataclass(frozen=True)
class KeyExpired:
    """The listen key is no longer valid: the connection will say nothing more."""


@dataclass(frozen=True)
class FundingDue:
    """Funding was paid; the income says what, by symbol."""


@dataclass(frozen=True)
class LeverageChanged:
    """Someone changed a symbol's leverage, in the app or by the interface."""

    symbol: str
    leverage: int


StreamEvent = OrderSeen | FillSeen | KeyExpired | FundingDue | LeverageChanged


def read_event(document: Any, triggered: TriggeredOrders) -> list[StreamEvent]:
    """Return the messages of one event; none for events that say nothing here.

    Args:
        document: the decoded text; the event itself, or the event in an envelope of combined streams.
        triggered: notes stops that were triggered.

    Raises:
        VenueReplyError: the event cannot be read.
    """
    with reading("an event of the private stream"):
        event = document["data"] if "stream" in document and "data" in document else document
        match event.get("e"):
            case "ORDER_TRADE_UPDATE":
                return _order(event["o"], triggered)
            case "ALGO_UPDATE":
                return _stop(event["o"], triggered)
            case "ACCOUNT_UPDATE":
                return [FundingDue()] if event["a"]["m"] == "FUNDING_FEE" else []
            case "ACCOUNT_CONFIG_UPDATE":
                changed = event.get("ac")
                return [LeverageChanged(changed["s"], int(changed["l"]))] if changed else []
            case "listenKeyExpired":
                return [KeyExpired()]
    return []


def _order(row: Row, triggered: TriggeredOrders) -> list[StreamEvent]:
    symbol, order_id, client_id = str(row["s"]), str(row["i"]), str(row["c"])
    stop = triggered.stop(symbol, order_id)
    found: list[StreamEvent] = []
    if row["x"] in ("TRADE", "CALCULATED") and int(row["t"]):
        fill = Fill(
            symbol=symbol,
            trade_id=int(row["t"]),
            venue_id=order_id,
            client_id=stop[0] if stop else client_id,
            side=side_of(row["S"]),
            quantity=units(row["l"]),
            price=units(row["L"]),
            fee=fee_of(symbol, row.get("n") or "0", row.get("N")),
            time=int(row["T"]),
        )
        found.append(FillSeen(fill))
    # A liquidation's order is `NEW_INSURANCE` or `NEW_ADL` where the fund takes the position over.
    status = STATUSES.get(row["X"])
    if status is None:
        return found
    executed = units(row["z"])
    if stop:
        found.append(OrderSeen(*stop, status, executed, symbol, order_id))
    else:
        resting = _resting(row, client_id, order_id, price="p")
        found.append(OrderSeen(client_id, order_id, status, executed, symbol, resting=resting))
    return found


def _stop(row: Row, triggered: TriggeredOrders) -> list[StreamEvent]:
    symbol, client_id, algo_id = str(row["s"]), str(row["caid"]), str(row["aid"])
    became = str(row.get("ai") or "")
    triggered.note(symbol, became, client_id, algo_id)
    status = ALGO_STATUSES.get(row["X"])
    if status is None:
        # FINISHED: how the order ended is in its own event, or in the answer to a query.
        return []
    executed = units(row.get("aq") or "0")
    resting = _resting(row, client_id, algo_id, price="tp", conditional=True)
    return [OrderSeen(client_id, algo_id, status, executed, symbol, became, resting)]


def _resting(
    row: Row, client_id: str, venue_id: str, *, price: str, conditional: bool = False
) -> OpenOrder | None:
    """Return an order as a list of open orders has it; None where the event leaves a part of that out."""
    if not row.keys() >= {"o", "S", "q", "R", price}:
        return None
    return OpenOrder(
        symbol=str(row["s"]),
        client_id=client_id,
        venue_id=venue_id,
        kind=kind_of(row["o"]),
        side=side_of(row["S"]),
        quantity=units(row["q"] or "0"),
        price=units(row[price] or "0"),
        conditional=conditional,
        reduce_only=bool(row["R"]),
    )
