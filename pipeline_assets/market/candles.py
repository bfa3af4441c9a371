"""The shapes of candle frames: columns, dtypes, empty frames. Nothing here makes or checks rows.

A raw frame is a reply as received, decimal strings and all. A candle frame is typed.
"""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

PRICE_COLUMNS = ("open", "high", "low", "close")
VOLUME_COLUMNS = ("volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
TIME_COLUMNS = ("open_time", "close_time")
KEY_COLUMNS = ("symbol", "open_time")

CANDLE_COLUMNS = (*KEY_COLUMNS, *PRICE_COLUMNS, *VOLUME_COLUMNS, "trades", "close_time")
# The order of the twelve fields of a klines row, after the symbol it was asked for.
RAW_COLUMNS = (
    "symbol",
    "open_time",
    *PRICE_COLUMNS,
    "volume",
    "close_time",
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)
RAW_INTEGER_COLUMNS = ("open_time", "close_time", "trades")


@cache
def candle_schema() -> "pl.Schema":
    """Return a candle frame: `open_time` and `close_time` Datetime(us, UTC), `trades` Int64, else Float64.

    Prices are in the quote asset. `volume` and `taker_buy_volume` are in the base asset, the
    `quote` volumes in the quote asset. Rows are unique by `KEY_COLUMNS`.
    """
    import polars as pl

    dtypes: dict[str, pl.DataType] = dict.fromkeys(CANDLE_COLUMNS, pl.Float64())
    dtypes |= dict.fromkeys(TIME_COLUMNS, pl.Datetime("us", "UTC"))
    return pl.Schema(dtypes | {"symbol": pl.String(), "trades": pl.Int64()})


@cache
def raw_schema() -> "pl.Schema":
    """Return a raw frame: times Int64 (ms since the epoch, UTC), `trades` Int64, else String as received.

    Rows are in the order received and have not been checked.
    """
    import polars as pl

    dtypes: dict[str, pl.DataType] = dict.fromkeys(RAW_COLUMNS, pl.String())
    return pl.Schema(dtypes | dict.fromkeys(RAW_INTEGER_COLUMNS, pl.Int64()))


def empty_candles() -> "pl.DataFrame":
    """Return a candle frame without rows."""
    return candle_schema().to_frame()


def empty_raw() -> "pl.DataFrame":
    """Return a raw frame without rows."""
    return raw_schema().to_frame()
