"""Longer candles computed from minutes, their differences from stored candles, and candles without trade.

The checks in assets/ decide how serious a difference is.
"""

from typing import TYPE_CHECKING, TypeVar

from pipeline_assets.market.candles import (
    CANDLE_COLUMNS,
    KEY_COLUMNS,
    PRICE_COLUMNS,
    VOLUME_COLUMNS,
)
from pipeline_assets.market.intervals import Interval

if TYPE_CHECKING:
    import polars as pl

    Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

# Sums of float64 in another order than the exchange's differ by some 1e-13.
VOLUME_TOLERANCE = 1e-9


def aggregate(candles_1m: "pl.DataFrame", to: Interval) -> "pl.DataFrame":
    """Candles of a coarser interval, of just those buckets whose minutes are all there.

    Args:
        candles_1m: a candle frame of 1m, one row per open time, in any order.
        to: the interval wanted.

    Returns:
        A candle frame of `to`, sorted by symbol and open time. Volumes are summed in order of
        time, so that the same minutes give the same bits.
    """
    import polars as pl

    bucket = pl.col("open_time").dt.truncate(to.value).alias("open_time")
    return (
        candles_1m.lazy()
        .sort(*KEY_COLUMNS)
        .group_by("symbol", bucket, maintain_order=True)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col(*VOLUME_COLUMNS, "trades").sum(),
            pl.col("close_time").last(),
            minutes=pl.len(),
        )
        .filter(pl.col("minutes") == to.span // Interval.ONE_MINUTE.span)
        .select(CANDLE_COLUMNS)
        .collect()
    )


def differences(stored: "pl.DataFrame", aggregated: "pl.DataFrame") -> "pl.DataFrame":
    """Return the candles for which stored and aggregated ones of the same interval do not agree.

    Prices and the number of trades must be equal, volumes equal to 1e-9 of the larger. A candle
    that only one side has is a gap, and not a difference.

    Returns:
        One row a value, sorted: `symbol`, `open_time`, `column` String, `stored` and `aggregated`
        Float64.
    """
    import polars as pl

    compared = (*PRICE_COLUMNS, *VOLUME_COLUMNS, "trades")

    def values(candles: "pl.DataFrame", name: str) -> "pl.LazyFrame":
        return (
            candles.lazy()
            .select(*KEY_COLUMNS, pl.col(*compared).cast(pl.Float64))
            .unpivot(index=KEY_COLUMNS, variable_name="column", value_name=name)
        )

    left, right = pl.col("stored"), pl.col("aggregated")
    tolerance = (
        pl.when(pl.col("column").is_in(VOLUME_COLUMNS))
        .then(VOLUME_TOLERANCE * pl.max_horizontal(left.abs(), right.abs()))
        .otherwise(0.0)
    )
    return (
        values(stored, "stored")
        .join(values(aggregated, "aggregated"), on=(*KEY_COLUMNS, "column"), how="inner")
        .filter((left - right).abs() > tolerance)
        .sort(*KEY_COLUMNS, "column")
        .collect()
    )


def without_zero_volume(candles: "Frame") -> "Frame":
    """Return the candles in which something was traded.

    For readers who want it, never for what is stored: the archive has false runs of zero volume,
    and a real minute without a trade is a fact.
    """
    import polars as pl

    return candles.filter(pl.col("volume") > 0)


def zero_volume_share(candles: "pl.DataFrame") -> "pl.DataFrame":
    """Return how many candles of each symbol had no trade.

    Returns:
        One row a symbol, sorted: `symbol` String, `rows` and `zero_volume` Int64, `share` Float64
        between 0 and 1.
    """
    import polars as pl

    zero_volume = (pl.col("volume") == 0).sum().cast(pl.Int64)
    return (
        candles.group_by("symbol")
        .agg(rows=pl.len().cast(pl.Int64), zero_volume=zero_volume)
        .with_columns(share=pl.col("zero_volume") / pl.col("rows"))
        .sort("symbol")
    )
