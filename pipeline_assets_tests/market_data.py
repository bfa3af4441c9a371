"""Market data for the tests: candle files and exchange replies, made up and the same in every run.

The directory has the layout of recorded data, so that the same tests run over real candles, too:
`MARKET_DATA=/path/to/recordings pytest ...`. Data for a single test is made in that test.
"""

import atexit
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

MINUTE = 60_000
SPANS = {"1m": MINUTE, "15m": 15 * MINUTE, "1h": 60 * MINUTE}


@dataclass(frozen=True)
class CandleFile:
    """One Parquet file of candles, named `{symbol}-{interval}-usdm-{first day}_{last day}`.

    Attributes:
        symbol: the symbol of the candles.
        interval: the interval of the candles.
        first: the first open time, UTC.
        rows: the number of candles, without a gap.
        price: the first open.
        places: decimals of prices and of volumes.
        volume: the median volume of a minute.
        quiet: the number of candles without a trade.
        whole: whether the file has all twelve columns, or else open time, prices and volume only.
    """

    symbol: str
    interval: str
    first: datetime
    rows: int
    price: float
    places: tuple[int, int]
    volume: float
    quiet: int = 0
    whole: bool = False

    @property
    def start(self) -> int:
        """The first open time, ms since the epoch."""
        return round(self.first.timestamp() * 1000)

    @property
    def name(self) -> str:
        """Where the file lies in the directory of market data."""
        last = datetime.fromtimestamp(
            (self.start + (self.rows - 1) * SPANS[self.interval]) / 1000, UTC
        )
        folder = "klines/twelve_columns" if self.whole else "klines"
        return (
            f"{folder}/{self.symbol}-{self.interval}-usdm-{self.first:%Y%m%d}_{last:%Y%m%d}.parquet"
        )


_MAY, _MARCH = (
    datetime(2025, 5, 4, 15, 33, tzinfo=UTC),
    datetime(2025, 3, 6, 10, 30, tzinfo=UTC),
)
_HOURS = datetime(2025, 3, 6, 11, tzinfo=UTC)
FILES = (
    CandleFile("BTCUSDT", "1m", _MAY, 24_500, 95_505.4, (1, 3), 60),
    CandleFile("ETHUSDT", "1m", _MAY, 24_500, 1827.29, (2, 3), 2500),
    CandleFile("SOLUSDT", "1m", _MAY, 24_500, 146.78, (2, 2), 9000),
    CandleFile("XRPUSDT", "1m", _MAY.replace(minute=36), 24_500, 2.1924, (4, 1), 250_000),
    CandleFile("BTCUSDT", "15m", _MARCH, 3635, 91_616.5, (1, 3), 1500),
    CandleFile("ETHUSDT", "15m", _MARCH, 3635, 2302.74, (2, 3), 40_000),
    CandleFile("SOLUSDT", "15m", _MARCH, 3093, 151.44, (2, 0), 180_000),
    CandleFile("BTCUSDT", "1h", _HOURS, 719, 91_250, (1, 3), 6000),
    CandleFile("ETHUSDT", "1h", _HOURS, 719, 2293.05, (2, 3), 130_000),
    CandleFile("SOLUSDT", "1h", _HOURS, 719, 152.29, (2, 0), 650_000),
    CandleFile(
        "AVAXUSDT", "1m", datetime(2026, 6, 25, tzinfo=UTC), 14_400, 8.981, (3, 0), 5000, whole=True
    ),
    CandleFile(
        *("NEARUSDT", "1m", datetime(2023, 5, 1, tzinfo=UTC), 44_640, 1.928, (3, 0), 15_000),
        quiet=14,
        whole=True,
    ),
)


@cache
def market_data() -> Path:
    """Return the directory: that of the variable MARKET_DATA, or one made for this process."""
    given = os.environ.get("MARKET_DATA")
    if given:
        return Path(given)
    made = Path(tempfile.mkdtemp(prefix="market_data_"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    for file in FILES:
        path = made / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        made_up(file).write_parquet(path)
    rest = made / "rest_recorded"
    rest.mkdir()
    (rest / "fapi_v1_exchangeInfo_mainnet_20210721.json").write_text(json.dumps(INFO_OF_2021))
    (rest / "gct_binance_http_recorded.json").write_text(json.dumps({"routes": _routes()}))
    return made


def candle_file(symbol: str, interval: str) -> Path:
    """Return the one file of a symbol's candles of an interval, whichever days it covers."""
    [path] = (market_data() / "klines").rglob(f"{symbol}-{interval}-*.parquet")
    return path


def made_up(file: CandleFile) -> pl.DataFrame:
    """Make candles that trend, calm down and jump as a market's do, rounded to its tick size."""
    seed = sum(map(ord, f"{file.symbol}{file.interval}"))
    chance = np.random.default_rng(seed)
    count, (places, volume_places) = file.rows, file.places
    # The volatility: hours of calm and of unrest, which the volume follows.
    waves = np.convolve(chance.normal(size=count), np.ones(60) / np.sqrt(60), mode="same")
    nervous = np.exp(0.5 * waves)
    step = 0.0005 * np.sqrt(SPANS[file.interval] / MINUTE)
    moves = step * nervous * chance.standard_t(4, count) / np.sqrt(2)
    # Trends of some hours, drawn back to the first price over days.
    trends = 0.05 * np.sin(np.arange(count) * step * 3 + seed)
    path = np.cumsum(moves)
    close = file.price * np.exp(trends + path - np.linspace(0, path[-1], count))
    quiet = np.zeros(count, bool)
    quiet[chance.choice(np.arange(1, count - 1), file.quiet, replace=False)] = True
    close = np.round(close, places)
    for place in np.flatnonzero(quiet):
        close[place] = close[place - 1]
    begin = np.concatenate([[file.price], close[:-1]])
    reach = file.price * step * nervous * (~quiet) / 2
    high = np.round(np.maximum(begin, close) + reach * chance.exponential(size=count), places)
    low = np.round(np.minimum(begin, close) - reach * chance.exponential(size=count), places)
    least = 10.0**-volume_places
    volume = np.round(
        file.volume * nervous**2 * np.exp(chance.normal(0, 0.6, count)), volume_places
    )
    volume = np.where(quiet, 0, np.maximum(volume, 2 * least))
    open_time = file.start + np.arange(count) * SPANS[file.interval]
    columns: dict[str, Any] = {
        "open_time": open_time,
        "open": np.round(begin, places),
        "high": high,
        "low": low,
        "close": close,
        "volume": volume,
    }
    if file.whole:
        share = np.round(volume * chance.uniform(0.2, 0.8, count), volume_places)
        middle = (high + low) / 2
        columns |= {
            "close_time": open_time + SPANS[file.interval] - 1,
            "quote_volume": np.round(volume * middle, 3),
            "trades": np.ceil(volume / 40).astype(np.int32),
            "taker_buy_base": share,
            "taker_buy_quote": np.round(share * middle, 3),
            "ignore": np.zeros(count, np.int8),
        }
    return pl.DataFrame(columns)


# Replies of the exchange in the documented forms: the names and the kinds of values are Binance's.

_ORDER_TYPES = [
    *("LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"),
    "TRAILING_STOP_MARKET",
]
_FILTERS: list[dict[str, Any]] = [
    {"minPrice": "261.10", "maxPrice": "809484", "filterType": "PRICE_FILTER", "tickSize": "0.10"},
    {"stepSize": "0.001", "filterType": "LOT_SIZE", "maxQty": "1000", "minQty": "0.001"},
    {"stepSize": "0.001", "filterType": "MARKET_LOT_SIZE", "maxQty": "120", "minQty": "0.001"},
    {"limit": 200, "filterType": "MAX_NUM_ORDERS"},
    {"limit": 10, "filterType": "MAX_NUM_ALGO_ORDERS"},
    {"notional": "100", "filterType": "MIN_NOTIONAL"},
    {
        "multiplierDown": "0.9500",
        "multiplierUp": "1.0500",
        "multiplierDecimal": "4",
        "filterType": "PERCENT_PRICE",
    },
]
_LIMITS = [
    {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}
    for kind, interval, number, limit in (
        ("REQUEST_WEIGHT", "MINUTE", 1, 2400),
        ("ORDERS", "MINUTE", 1, 1200),
        ("ORDERS", "SECOND", 10, 300),
    )
]


def _contract(symbol: str, **changes: Any) -> dict[str, Any]:
    """Return an entry of exchangeInfo with the fields of 2021, in their order."""
    return {
        "symbol": symbol,
        "pair": "BTCUSDT",
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": "BTC",
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": 2,
        "quantityPrecision": 3,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": ["PoW"],
        "settlePlan": 0,
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "filters": _FILTERS,
        "orderTypes": _ORDER_TYPES,
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        **changes,
    }


INFO_OF_2021: dict[str, Any] = {
    "timezone": "UTC",
    "serverTime": 1626858243909,
    "futuresType": "U_MARGINED",
    "rateLimits": _LIMITS,
    "exchangeFilters": [],
    "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
    "symbols": [
        _contract("BTCUSDT"),
        _contract("DEFIUSDT", baseAsset="DEFI", pair="DEFIUSDT", underlyingType="INDEX"),
        _contract("BTCBUSD", pair="BTCBUSD", quoteAsset="BUSD", marginAsset="BUSD"),
        _contract("BTCUSDT_210924", contractType="CURRENT_QUARTER", deliveryDate=1632470400000),
    ],
}


def _info_of_2025() -> dict[str, Any]:
    """Return the same document with what came to it, without what went."""
    changes: dict[str, Any] = {
        "filters": [
            *_FILTERS,
            {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
        ],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        "maxMoveOrderLimit": 10000,
        "permissionSets": ["GRID", "COPY"],
    }
    contract = _contract("BTCUSDT", **changes)
    del contract["settlePlan"]
    return INFO_OF_2021 | {"symbols": [contract]}


def _routes() -> dict[str, Any]:
    """Calls and their bodies by route, in the layout of a recorder of HTTP."""

    def row(day: int, places: int) -> list[Any]:
        start = 1672531200000 + day * 86_400_000
        prices = [f"{price + day:.{places}f}" for price in (16537.5, 16618.8, 16488.0, 16610.3)]
        quote, taker, taker_quote = "1746449849.73920", "52617.509", "871082706.82390"
        return [
            *(start, *prices, "105502.965", start + 86_399_999),
            *(quote, 594_299, taker, taker_quote, "0"),
        ]

    def call(data: Any, query: str = "") -> dict[str, Any]:
        return {"queryString": query, "data": data}

    asked = "interval=1d&limit={limit}&symbol=BTCUSDT"
    futures = [
        call([row(day, places) for day in range(limit)], asked.format(limit=limit))
        for limit, places in ((499, 1), (99, 1), (1, 2), (5, 2))
    ]
    spot = [call([row(day, 8) for day in range(24)], asked.format(limit=24)), call([])]
    too_long = {"code": -4088, "msg": "Maximum time interval is 200 days."}
    return {
        "/fapi/v1/exchangeInfo": {"GET": [call(_info_of_2025())]},
        "/fapi/v1/klines": {"GET": futures},
        "/api/v3/klines": {"GET": spot},
        "/dapi/v1/klines": {"GET": [call(too_long), call([row(0, 1)])]},
        "/fapi/v1/time": {"GET": [call({"serverTime": 1620099477465})]},
        "/fapi/v1/ticker/24hr": {"GET": [call({"code": -1121, "msg": "Invalid symbol."})]},
    }
