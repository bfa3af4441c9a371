"""Outcomes of candidates: the return after some time and the extreme moves on the way, from minutes alone.

Pure frames. No costs and no position rules: the result of trading a candidate is in labels.py. Reading and
storing are in stored_outcomes.py.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.outcome_objects import HORIZONS, outcome_schema

if TYPE_CHECKING:
    import polars as pl

_MINUTE = Interval.ONE_MINUTE.span
LONGEST = max(HORIZONS.values()) * _MINUTE


def outcomes_of(
    candidates: "pl.DataFrame",
    candles: "pl.DataFrame",
    until: datetime,
    delisted: Mapping[str, datetime] | None = None,
) -> "pl.DataFrame":
    """Return the outcome of each candidate, a frame of `outcome_schema()`.

    The entry is the open of the minute after the candidate's. A horizon of h minutes ends at the close of the
    h-th minute from the entry on; its highs and lows are those of these minutes. Nothing after `until` is
    used: a horizon that ends later is not over, and its columns are null.

    Args:
        candidates: a candidates frame of 1m candles; one row an id.
        candles: 1m candles of their symbols, one row a minute, with `symbol`, `open_time`, `open`, `high`,
            `low` and `close`.
        until: end of the candles that the caller has, UTC.
        delisted: by symbol when its trading ended, UTC; symbols that trade on are left out.
    """
    import polars as pl

    ended = dict(delisted or {})
    entries = candidates.select(
        pl.col("id").alias("candidate_id"),
        *("strategy", "version", "symbol", "side", "open_time"),
        (pl.col("open_time") + _MINUTE).alias("entry_time"),
        pl.col("symbol")
        .replace_strict(
            list(ended), list(ended.values()), default=None, return_dtype=pl.Datetime("us", "UTC")
        )
        .alias("ended"),
    )
    if entries.is_empty():
        return outcome_schema().to_frame()
    closed = candles.filter(pl.col("open_time") + _MINUTE <= until)
    found = entries.join(
        _windows(entries, closed),
        left_on=["symbol", "entry_time"],
        right_on=["symbol", "minute"],
        how="left",
    )
    figures = [
        each for name, minutes in HORIZONS.items() for each in _figures(name, minutes, until)
    ]
    figures.append(
        pl.when(pl.col("ended") < pl.col("entry_time") + LONGEST)
        .then(pl.col("ended"))
        .alias("delisted_at")
    )
    return found.with_columns(figures).select(outcome_schema().names()).cast(outcome_schema())


def _windows(entries: "pl.DataFrame", candles: "pl.DataFrame") -> "pl.DataFrame":
    """Return each minute's open and, by horizon, the extremes and last close of the minutes from then on."""
    import polars as pl

    times = entries["entry_time"].sort()
    minutes = pl.datetime_range(
        times[0], times[-1] + LONGEST, _MINUTE, closed="left", eager=True, time_unit="us"
    )
    # Every minute has a row, so that a window of rows is one of minutes.
    grid = (
        entries.select("symbol")
        .unique()
        .sort("symbol")
        .join(pl.DataFrame({"minute": minutes}), how="cross")
        .join(
            candles.select("symbol", "open", "high", "low", "close", minute="open_time"),
            on=["symbol", "minute"],
            how="left",
            maintain_order="left",
        )
    )
    columns = []
    for name, rows in HORIZONS.items():
        windows = {
            "absent": pl.col("close").is_null().cast(pl.Int64).rolling_sum(rows),
            "highest": pl.col("high").rolling_max(rows),
            "lowest": pl.col("low").rolling_min(rows),
            "last": pl.col("close"),
        }
        columns += [
            each.shift(1 - rows).over("symbol").alias(f"{what}_{name}")
            for what, each in windows.items()
        ]
    return grid.select("symbol", "minute", pl.col("open").alias("entry_price"), *columns)


def _figures(name: str, minutes: int, until: datetime) -> "list[pl.Expr]":
    """Return the columns of one horizon: nulls if it is not over, and all but the count if minutes miss."""
    import polars as pl

    over = pl.col("entry_time") + minutes * _MINUTE <= until
    known = over & (pl.col(f"absent_{name}") == 0)
    long = pl.col("side") == "long"

    def change(price: "pl.Expr") -> "pl.Expr":
        share = price / pl.col("entry_price")
        return pl.when(known).then(pl.when(long).then(share - 1).otherwise(1 - share))

    high, low = pl.col(f"highest_{name}"), pl.col(f"lowest_{name}")
    return [
        change(pl.col(f"last_{name}")).alias(f"return_{name}"),
        change(pl.when(long).then(high).otherwise(low)).alias(f"favourable_{name}"),
        change(pl.when(long).then(low).otherwise(high)).alias(f"adverse_{name}"),
        pl.when(over).then(pl.col(f"absent_{name}")).alias(f"missing_{name}"),
    ]
