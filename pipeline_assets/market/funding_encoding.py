"""One object's bytes: a month of one symbol's funding rates to Parquet and back, and one frame laid over
another. Keys and writes are in resources/funding_objects.py; the encoding is that of candles (encoding.py).
"""

import io
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

from pipeline_assets.market.encoding import MalformedObjectError, encode_frame, naming_damage
from pipeline_assets.market.funding import FUNDING_KEY, funding_schema

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

# Columns that a source may have nothing for.
_NULLABLE = ("mark_price", "interval_hours")


def encode_funding(rates: "pl.DataFrame", symbol: str, month: date) -> bytes:
    """Encode a month's rates as one object; the same rows give the same bytes, in any order.

    The key-value metadata are `symbol` and `month` (yyyy-MM).

    Raises:
        ValueError: a row is of another symbol or month, or doubled.
    """
    ordered = rates.select(funding_schema().names()).sort("funding_time").rechunk()
    times = ordered["funding_time"]
    of_month = (times.dt.year() == month.year) & (times.dt.month() == month.month)
    if not (of_month.all() and (ordered["symbol"] == symbol).all() and times.is_unique().all()):
        raise ValueError(
            f"The object of {symbol}'s funding rates of {month:%Y-%m} was given rows of another symbol or "
            "month, or two of one time."
        )
    metadata = {"symbol": symbol, "month": f"{month:%Y-%m}"}
    return encode_frame(ordered, _arrow_schema(), "funding_time", metadata)


def decode_funding(body: bytes, symbol: str, month: date) -> "pl.DataFrame":
    """Return the rates of an object that is of this symbol and month.

    Raises:
        MalformedObjectError: the bytes are cut, no Parquet, of other columns, symbol or month.
    """
    import polars as pl

    with naming_damage(len(body)):
        metadata = pl.read_parquet_metadata(io.BytesIO(body))
        rates = pl.read_parquet(body)
    if rates.schema != funding_schema():
        raise MalformedObjectError(f"it has the columns {rates.schema}, not {funding_schema()}")
    held = metadata.get("symbol"), metadata.get("month")
    if held != (symbol, f"{month:%Y-%m}"):
        raise MalformedObjectError(f"it holds the funding rates of {held[0]} of {held[1]}")
    return rates


def merge_funding(older: "pl.DataFrame", newer: "pl.DataFrame") -> "pl.DataFrame":
    """Return one frame of two, sorted: the newer's rate wins, and a value that only the older has stays."""
    import polars as pl

    return (
        pl.concat([older, newer])
        .group_by(FUNDING_KEY, maintain_order=True)
        .agg(
            pl.col("funding_rate").last(),
            *(pl.col(name).drop_nulls().last() for name in _NULLABLE),
        )
        .select(funding_schema().names())
        .sort(FUNDING_KEY)
    )


@cache
def _arrow_schema() -> "pa.Schema":
    import polars as pl
    import pyarrow as pa

    schema = funding_schema().to_arrow(compat_level=pl.CompatLevel.oldest())
    return pa.schema([field.with_nullable(field.name in _NULLABLE) for field in schema])
