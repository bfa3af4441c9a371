"""From raw frames to candle frames: types, order, one row per open time, and the rejected rows.

No row is repaired or filled in here. Missing candles are found in gaps.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline_assets.market.candles import (
    CANDLE_COLUMNS,
    KEY_COLUMNS,
    PRICE_COLUMNS,
    TIME_COLUMNS,
    VOLUME_COLUMNS,
    candle_schema,
)
from pipeline_assets.market.intervals import Interval, to_milliseconds
from pipeline_assets.market.windows import Window

if TYPE_CHECKING:
    import polars as pl

# As the exchange stores a candle in whose time it stopped trading.
CUT_SHORT = "close time is not the last millisecond before the next open time"
SUPERSEDED = "superseded by a later row with the same open time"
# The exchange rounds the taker's share and the whole separately, so that a share of all of it may
# come out a last digit above.
_WITH_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class Cleaned:
    """The rows of a raw frame, each in exactly one of three groups.

    Attributes:
        candles: a candle frame, sorted by symbol and open time, one row for each.
        rejected: the rejected raw rows, in the order received, with `reason` String.
        repeated: how many rows repeat a row of `candles` exactly.
    """

    candles: "pl.DataFrame"
    rejected: "pl.DataFrame"
    repeated: int


def clean(raw: "pl.DataFrame", interval: Interval, windows: Mapping[str, Window]) -> Cleaned:
    """Type the rows of a raw frame, and reject each row that cannot be a candle, with the reason.

    Decimal strings become the Float64 that Python's `float()` gives. A row passes when its open
    time is on the grid and in its symbol's window, its close time is the last millisecond before
    the next open time, its numbers are finite, its prices positive with high and low around them,
    and its volumes and count possible. The window's end is exclusive, so an unclosed or unsettled
    candle never passes. If several rows have the same open time, the last received is kept.

    Args:
        raw: a frame of `raw_schema()`, in the order received.
        interval: the requested interval.
        windows: the requested window, by symbol.
    """
    import polars as pl

    typed = _typed(raw, windows)
    checks = _checks(interval)
    passes = typed.select(passes=pl.all_horizontal(checks.values()).fill_null(False))["passes"]
    candles = typed.select(
        pl.col(name).mul(1000).cast(dtype) if name in TIME_COLUMNS else name
        for name, dtype in candle_schema().items()
    )
    if passes.all() and _is_ordered(candles):
        return Cleaned(candles, _rejected(raw, [], []), 0)

    reasons = typed.filter(~passes).select(reason=_first_failing(checks))["reason"].to_list()
    failed = (~passes).arg_true().to_list()
    kept, replaced, repeated = _last_received(
        candles.with_columns(place=pl.row_index()).filter(passes)
    )
    reasons += [SUPERSEDED] * len(replaced)
    return Cleaned(kept, _rejected(raw, failed + replaced, reasons), repeated)


def _typed(raw: "pl.DataFrame", windows: Mapping[str, Window]) -> "pl.DataFrame":
    """The raw rows with numbers for strings (null where it is none), and their window as ms."""
    import polars as pl

    asked = pl.DataFrame(
        {
            "value": list(windows),
            "window_start": [to_milliseconds(window.start) for window in windows.values()],
            "window_end": [to_milliseconds(window.end) for window in windows.values()],
        },
        schema={"value": pl.String, "window_start": pl.Int64, "window_end": pl.Int64},
    )
    # One look-up for each run of rows of a symbol: a join of every row costs as much as all checks.
    runs = (
        raw["symbol"]
        .rle()
        .struct.unnest()
        .join(asked, on="value", how="left", maintain_order="left")
    )
    run = raw["symbol"].rle_id()
    return raw.select(
        "symbol",
        "open_time",
        "close_time",
        "trades",
        pl.col(*PRICE_COLUMNS, *VOLUME_COLUMNS).cast(pl.Float64, strict=False),
        runs["window_start"].gather(run),
        runs["window_end"].gather(run),
    )


def _checks(interval: Interval) -> "dict[str, pl.Expr]":
    """Return what a row must be, by the reason that a row gets which is not. The order is of judgement."""
    import polars as pl

    open_time, trades = pl.col("open_time"), pl.col("trades")
    first, high, low, last = (pl.col(name) for name in ("open", "high", "low", "close"))
    finite = {
        f"{name} is not a finite number": pl.col(name).is_finite()
        for name in (*PRICE_COLUMNS, *VOLUME_COLUMNS)
    }
    return {
        "its symbol was not asked for": pl.col("window_start").is_not_null(),
        f"open time is not on the grid of {interval}": open_time % interval.milliseconds == 0,
        "open time is outside the window": (open_time >= pl.col("window_start"))
        & (open_time < pl.col("window_end")),
        CUT_SHORT: pl.col("close_time") == open_time + (interval.milliseconds - 1),
        **finite,
        "a price is not positive": (first > 0) & (high > 0) & (low > 0) & (last > 0),
        "high is below another price": (high >= first) & (high >= last) & (high >= low),
        "low is above another price": (low <= first) & (low <= last),
        "volume is negative": pl.col("volume") >= 0,
        "quote_volume is negative": pl.col("quote_volume") >= 0,
        "taker_buy_volume is not between zero and volume": _is_share("taker_buy_volume", "volume"),
        "taker_buy_quote_volume is not between zero and quote_volume": _is_share(
            "taker_buy_quote_volume", "quote_volume"
        ),
        "trades is negative": trades >= 0,
    }


def _is_share(part: str, whole: str) -> "pl.Expr":
    import polars as pl

    return (pl.col(part) >= 0) & (pl.col(part) <= pl.col(whole) * _WITH_ROUNDING)


def _first_failing(checks: "dict[str, pl.Expr]") -> "pl.Expr":
    import polars as pl

    return pl.coalesce(
        pl.when(~check.fill_null(False)).then(pl.lit(reason)) for reason, check in checks.items()
    )


def _is_ordered(candles: "pl.DataFrame") -> bool:
    """Return whether symbols ascend, and open times within them strictly: then nothing is doubled."""
    import polars as pl

    symbol, earlier = pl.col("symbol"), pl.col("symbol").shift()
    ascends = (symbol > earlier) | ((symbol == earlier) & (pl.col("open_time").diff() > 0))
    return bool(candles.select(ascends.all()).item())


def _last_received(candles: "pl.DataFrame") -> "tuple[pl.DataFrame, list[int], int]":
    """Keep of each open time the last row; `place` says where it stood in the raw frame.

    Returns:
        The candles kept, in order; the places of rows that say otherwise; the count of the rest,
        which only repeat.
    """
    import polars as pl

    ordered = candles.sort(*KEY_COLUMNS, maintain_order=True)
    symbol, open_time = pl.col("symbol"), pl.col("open_time")
    has_later = (symbol == symbol.shift(-1)) & (open_time == open_time.shift(-1))
    doubled = ordered.select(has_later.fill_null(False)).to_series()
    kept, earlier = ordered.filter(~doubled), ordered.filter(doubled)
    replaced = earlier.join(kept, on=CANDLE_COLUMNS, how="anti")["place"].to_list()
    return kept.drop("place"), replaced, len(earlier) - len(replaced)


def _rejected(raw: "pl.DataFrame", places: list[int], reasons: list[str]) -> "pl.DataFrame":
    import polars as pl

    named = pl.DataFrame(
        {"place": places, "reason": reasons}, schema={"place": pl.UInt32, "reason": pl.String}
    ).sort("place")
    return raw[named["place"]].with_columns(named["reason"])
