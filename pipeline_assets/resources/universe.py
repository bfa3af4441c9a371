"""What exchangeInfo says about each symbol, and which symbols make up the universe.

How exchangeInfo is fetched does not belong here (exchange.py), nor which symbols a run was told to
take (settings, run config).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline_assets.market.interval import from_milliseconds

# The second is what Binance calls a perpetual that is being settled ("Contract type" in its
# documentation's common definitions).
_PERPETUAL = ("PERPETUAL", "PERPETUAL_DELIVERING")


@dataclass(frozen=True)
class Listing:
    """One symbol as the exchange lists it. Dates are UTC.

    A perpetual that is not going to be delisted has a delivery date in the year 2100.
    """

    symbol: str
    onboard_date: datetime
    delivery_date: datetime
    status: str
    contract_type: str
    quote_asset: str
    underlying_type: str

    @property
    def trading(self) -> bool:
        """Whether it belongs to the universe: a USDT perpetual on a coin that trades now."""
        return self.contract_type == "PERPETUAL" and self.status == "TRADING" and self.collectable

    @property
    def collectable(self) -> bool:
        """Whether it belongs to the universe while it trades: also one that is to trade, or did."""
        return (
            self.contract_type in _PERPETUAL
            and self.quote_asset == "USDT"
            and self.underlying_type == "COIN"
        )


def read_listings(exchange_info: Mapping[str, Any]) -> list[Listing]:
    """The listings in the decoded body of `GET /fapi/v1/exchangeInfo`, in the exchange's order.

    Raises:
        KeyError, TypeError: the body is not an exchangeInfo.
    """
    return [
        Listing(
            symbol=entry["symbol"],
            onboard_date=from_milliseconds(entry["onboardDate"]),
            delivery_date=from_milliseconds(entry["deliveryDate"]),
            status=entry["status"],
            contract_type=entry["contractType"],
            quote_asset=entry["quoteAsset"],
            underlying_type=entry["underlyingType"],
        )
        for entry in exchange_info["symbols"]
    ]


def trading_symbols(listings: Iterable[Listing]) -> list[str]:
    """The universe: every symbol that trades now as a USDT perpetual on a coin, sorted."""
    return sorted(listing.symbol for listing in listings if listing.trading)
