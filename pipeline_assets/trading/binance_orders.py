"""Orders as Binance takes them: its filters, its parameters, decimals as text. Pure; sending is in
binance_venue.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from typing import Any, Self

from pipeline_assets.errors import InputError
from pipeline_assets.market.trading_rules import decimal
from pipeline_assets.trading.binance_replies import reading
from pipeline_assets.trading.order_types import Order

# The newer order is filled and the resting one of this account expires: an exit must never be the one.
_SELF_TRADE = "EXPIRE_MAKER"


@dataclass(frozen=True)
class Lots:
    """Quantities that an order may have."""

    least: Decimal
    most: Decimal
    step: Decimal


@dataclass(frozen=True)
class OrderFilters:
    """A symbol's filters, as exchangeInfo has them now; the lake's are up to a day old.

    Attributes:
        status: TRADING, or why nothing is opened.
        tick, lowest, highest: of prices.
        lots: of limit orders.
        market_lots: of market orders and of stops.
        least_value: of an order that opens.
    """

    status: str
    tick: Decimal
    lowest: Decimal
    highest: Decimal
    lots: Lots
    market_lots: Lots
    least_value: Decimal

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Return the filters of one symbol's entry.

        Raises:
            KeyError, ValueError, TypeError, ArithmeticError: a filter is missing or no number.
        """
        filters = {each["filterType"]: each for each in entry["filters"]}
        price, lots = filters["PRICE_FILTER"], filters["LOT_SIZE"]
        return cls(
            status=str(entry["status"]),
            tick=_positive(price["tickSize"]),
            lowest=Decimal(price["minPrice"]),
            highest=Decimal(price["maxPrice"]),
            lots=_lots(lots),
            market_lots=_lots(filters.get("MARKET_LOT_SIZE", lots)),
            least_value=Decimal(filters["MIN_NOTIONAL"]["notional"]),
        )


def filters_of(document: Mapping[str, Any]) -> dict[str, OrderFilters]:
    """Return the filters by symbol of a whole exchangeInfo; a symbol that cannot be read is left out.

    Raises:
        VenueReplyError: the reply has no list of symbols, or none of its symbols can be read.
    """
    found = {}
    with reading("its symbols"):
        for entry in document["symbols"]:
            try:
                found[str(entry["symbol"])] = OrderFilters.of(entry)
            except (KeyError, ValueError, TypeError, ArithmeticError):
                # Orders of it are refused; the other symbols are not to blame.
                continue
        if not found:
            raise ValueError("no symbol has filters")
    return found


def _positive(text: str) -> Decimal:
    value = Decimal(text)
    if value <= 0:
        raise ValueError(f"{text} is not above 0")
    return value


def _lots(row: Mapping[str, Any]) -> Lots:
    return Lots(Decimal(row["minQty"]), Decimal(row["maxQty"]), _positive(row["stepSize"]))


class UnfitOrderError(InputError):
    """The exchange would refuse the order, so it is not sent. The message names the filter."""


def parameters_of(order: Order, filters: OrderFilters | None) -> dict[str, str]:
    """Return the parameters of a new order, each as text.

    Prices are rounded to the tick: a limit never to a worse price, a stop so that it triggers earlier. A
    quantity is never rounded up; one that only reduces is cut to the step.

    Raises:
        UnfitOrderError: a filter forbids the order.
    """
    if filters is None:
        raise UnfitOrderError(f"{order.symbol} is not in the exchange's list of symbols")
    if filters.status != "TRADING" and not order.reduce_only:
        raise UnfitOrderError(f"{order.symbol} has the status {filters.status}: it opens nothing")
    quantity, price = _quantity(order, filters), _price(order, filters)
    if not order.reduce_only and price and price * quantity < filters.least_value:
        raise UnfitOrderError(
            f"the value {price * quantity:f} is below MIN_NOTIONAL {filters.least_value:f}"
        )
    found = {
        "symbol": order.symbol,
        "side": order.side.upper(),
        "type": {"market": "MARKET", "limit": "LIMIT", "stop": "STOP_MARKET"}[order.kind],
        "quantity": plain(quantity),
        "reduceOnly": "true" if order.reduce_only else "false",
        "selfTradePreventionMode": _SELF_TRADE,
        "newOrderRespType": "RESULT",
    }
    if order.conditional:
        return found | {
            "algoType": "CONDITIONAL",
            "clientAlgoId": order.client_id,
            "triggerPrice": plain(price),
            # The price of trades, since the backtest's stops are reached by candles of trades.
            "workingType": "CONTRACT_PRICE",
            "priceProtect": "false",
        }
    found["newClientOrderId"] = order.client_id
    if order.kind == "limit":
        found |= {"timeInForce": "GTC", "price": plain(price)}
    return found


def _quantity(order: Order, filters: OrderFilters) -> Decimal:
    lots = filters.lots if order.kind == "limit" else filters.market_lots
    name = "LOT_SIZE" if order.kind == "limit" else "MARKET_LOT_SIZE"
    wanted = decimal(order.quantity)
    fitting = _to_step(wanted, lots.step, ROUND_DOWN)
    if fitting != wanted and not order.reduce_only:
        raise UnfitOrderError(
            f"quantity {plain(wanted)} is no multiple of {name} {plain(lots.step)}"
        )
    if not lots.least <= fitting <= lots.most:
        raise UnfitOrderError(
            f"quantity {plain(fitting)} is not within {name} {plain(lots.least)} to {plain(lots.most)}"
        )
    return fitting


def _price(order: Order, filters: OrderFilters) -> Decimal:
    if order.kind == "market":
        return Decimal(0)
    # A sell stop ends a long: at the higher tick it triggers earlier. A buy limit pays no more than asked.
    higher = order.side == "sell"
    price = _to_step(decimal(order.price), filters.tick, ROUND_CEILING if higher else ROUND_FLOOR)
    if price < filters.lowest or (filters.highest and price > filters.highest) or price <= 0:
        raise UnfitOrderError(
            f"price {plain(price)} is not within PRICE_FILTER {plain(filters.lowest)} to "
            f"{plain(filters.highest)}"
        )
    return price


def _to_step(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    return (value / step).to_integral_value(rounding=rounding) * step


def plain(value: Decimal) -> str:
    """Return a decimal as text without exponent and without trailing zeros: Binance counts the digits."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True)
class SymbolSetup:
    """The account's settings for a symbol: the leverage, and `isolated` or `cross` margin."""

    leverage: int
    margin_type: str


_MARGIN_TYPES = {"ISOLATED": "isolated", "CROSSED": "cross", "CROSS": "cross"}


def setups_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, SymbolSetup]:
    """Return the setup by symbol of a reply to symbolConfig.

    Raises:
        VenueReplyError: the reply cannot be read.
    """
    with reading("leverage and margin type"):
        return {
            str(row["symbol"]): SymbolSetup(
                int(row["leverage"]), _MARGIN_TYPES.get(row["marginType"], str(row["marginType"]))
            )
            for row in rows
        }
