"""The order filters of a contract, checked as Binance checks them, from the entry that exchangeInfo shows."""

from decimal import Decimal

from pipeline_assets.local.exchange.accounts.model import fixed
from pipeline_assets.local.exchange.accounts.refusals import refused
from pipeline_assets.local.exchange.contracts import Contract


class Filters:
    """One contract's filters as they are now."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._by_type = {str(entry["filterType"]): entry for entry in contract.filters()}

    def value(self, kind: str, key: str) -> Decimal:
        """Return a filter's number."""
        return Decimal(str(self._by_type[kind][key]))

    def check_price(self, price: Decimal, code_below: int = -4013) -> None:
        """Check a limit or trigger price against PRICE_FILTER.

        Raises:
            ApiError: -1111, -4014, -4016, or `code_below` for a price that is too low.
        """
        contract = self._contract
        if over_precise(price, contract.price_precision):
            raise refused(-1111)
        if price < self.value("PRICE_FILTER", "minPrice"):
            raise refused(code_below)
        if price > self.value("PRICE_FILTER", "maxPrice"):
            raise refused(-4016, self._by_type["PRICE_FILTER"]["maxPrice"])
        if price % self.value("PRICE_FILTER", "tickSize"):
            raise refused(-4014)

    def check_quantity(self, quantity: Decimal, *, market: bool) -> None:
        """Check a quantity against LOT_SIZE, or MARKET_LOT_SIZE.

        Raises:
            ApiError: -1111, -4003, -4004, -4005 or -4023.
        """
        kind = "MARKET_LOT_SIZE" if market else "LOT_SIZE"
        if quantity <= 0:
            raise refused(-4003)
        if over_precise(quantity, self._contract.quantity_precision):
            raise refused(-1111)
        if quantity < self.value(kind, "minQty"):
            raise refused(-4004)
        if quantity > self.value(kind, "maxQty"):
            raise refused(-4005)
        if quantity % self.value(kind, "stepSize"):
            raise refused(-4023)

    def check_notional(self, notional: Decimal) -> None:
        """Check the size of an order that may open a position against MIN_NOTIONAL.

        Raises:
            ApiError: -4164.
        """
        least = self.value("MIN_NOTIONAL", "notional")
        if notional < least:
            raise refused(-4164, least)

    def check_percent(self, side: str, price: Decimal, mark: Decimal) -> None:
        """Check a limit price against PERCENT_PRICE.

        Raises:
            ApiError: -4016 for a buy above, -4024 for a sale below what the mark price permits.
        """
        places = self._contract.price_precision
        highest = mark * self.value("PERCENT_PRICE", "multiplierUp")
        lowest = mark * self.value("PERCENT_PRICE", "multiplierDown")
        if side == "BUY" and price > highest:
            raise refused(-4016, fixed(highest, places))
        if side == "SELL" and price < lowest:
            raise refused(-4024, fixed(lowest, places))


def over_precise(value: Decimal, places: int) -> bool:
    """Return whether a number has more decimal places than allowed."""
    return value != value.quantize(Decimal(1).scaleb(-places))
