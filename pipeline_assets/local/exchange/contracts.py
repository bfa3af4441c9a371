"""The listed contracts: their precision and lifetime, and the exchangeInfo reply.

The catalogue of synthetic contracts is in catalogue.py; candles are elsewhere.
"""

from collections.abc import Iterable
from dataclasses import dataclass

NEVER_DELIVERED = 4133404800000
"""The deliveryDate that Binance gives perpetual contracts: 2100-12-25T08:00Z."""

ORDER_TYPES = ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"]


@dataclass(frozen=True, slots=True)
class Contract:
    """One contract. Prices are whole units of 10^-price_precision.

    Attributes:
        price_units: the level its price moves around.
        tick_units: the tick size; larger than one unit where the tick is coarser than the
            precision, as on Binance's BTCUSDT.
        turnover: quote volume of an ordinary day, in whole quote units.
        onboard_ms: listing, ms; the open time of its first minute.
        delivery_ms: end of trading, ms; no minute opens at or after it.
    """

    symbol: str
    base: str
    quote: str
    price_units: int
    price_precision: int
    tick_units: int
    quantity_precision: int
    turnover: int
    onboard_ms: int
    delivery_ms: int = NEVER_DELIVERED
    contract_type: str = "PERPETUAL"
    underlying_type: str = "COIN"
    sub_types: tuple[str, ...] = ()

    def status(self, now_ms: int) -> str:
        """Return the status at a moment of the exchange's clock."""
        if now_ms < self.onboard_ms:
            return "PENDING_TRADING"
        return "SETTLING" if now_ms >= self.delivery_ms else "TRADING"

    def price(self, units: int) -> str:
        """Return a price in units as the decimal string that filters carry."""
        return decimal_string(units, self.price_precision)

    def filters(self) -> list[dict[str, str | int]]:
        """Return the order filters, in the order and with the keys of the recorded reply."""
        step = decimal_string(1, self.quantity_precision)
        tick = self.tick_units
        lowest = max(tick, self.price_units * 6 // 1000 // tick * tick)
        return [
            {
                "maxPrice": self.price(self.price_units * 50 // tick * tick),
                "filterType": "PRICE_FILTER",
                "minPrice": self.price(lowest),
                "tickSize": self.price(tick),
            },
            {"maxQty": "1000000", "filterType": "LOT_SIZE", "minQty": step, "stepSize": step},
            {"maxQty": "120000", "filterType": "MARKET_LOT_SIZE", "minQty": step, "stepSize": step},
            {"limit": 200, "filterType": "MAX_NUM_ORDERS"},
            {"limit": 10, "filterType": "MAX_NUM_ALGO_ORDERS"},
            {"notional": "5", "filterType": "MIN_NOTIONAL"},
            {
                "multiplierDecimal": "4",
                "multiplierUp": "1.0500",
                "multiplierDown": "0.9500",
                "filterType": "PERCENT_PRICE",
            },
            {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
        ]

    def info(self, now_ms: int) -> dict[str, object]:
        """Return this contract's entry of exchangeInfo, keys as recorded on 2025-08-07."""
        return {
            "symbol": self.symbol,
            "pair": self.symbol.partition("_")[0],
            "contractType": self.contract_type,
            "deliveryDate": self.delivery_ms,
            "onboardDate": self.onboard_ms,
            "status": self.status(now_ms),
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": self.base,
            "quoteAsset": self.quote,
            "marginAsset": self.quote,
            "pricePrecision": self.price_precision,
            "quantityPrecision": self.quantity_precision,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "underlyingType": self.underlying_type,
            "underlyingSubType": list(self.sub_types),
            "triggerProtect": "0.0500",
            "liquidationFee": "0.012500",
            "marketTakeBound": "0.05",
            "maxMoveOrderLimit": 10000,
            "filters": self.filters(),
            "orderTypes": [*ORDER_TYPES, "TRAILING_STOP_MARKET"],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
            "permissionSets": ["GRID", "COPY"],
        }


def decimal_string(units: int, precision: int) -> str:
    """Units of 10^-precision as a decimal string with `precision` places."""
    if not precision:
        return str(units)
    return f"{units // 10**precision}.{units % 10**precision:0{precision}d}"


def exchange_info(
    contracts: Iterable[Contract], now_ms: int, weight_limit: int
) -> dict[str, object]:
    """Return the exchangeInfo reply at a moment of the exchange's clock."""
    listed = [contract.info(now_ms) for contract in contracts]
    assets = sorted({str(entry["quoteAsset"]) for entry in listed}, reverse=True)
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [
            rate_limit("REQUEST_WEIGHT", "MINUTE", 1, weight_limit),
            rate_limit("ORDERS", "MINUTE", 1, 1200),
            rate_limit("ORDERS", "SECOND", 10, 300),
        ],
        "exchangeFilters": [],
        "assets": [
            {"asset": asset, "marginAvailable": True, "autoAssetExchange": "-10000"}
            for asset in assets
        ],
        "symbols": listed,
    }


def rate_limit(kind: str, interval: str, number: int, limit: int) -> dict[str, object]:
    """Return one entry of exchangeInfo's rateLimits."""
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}
