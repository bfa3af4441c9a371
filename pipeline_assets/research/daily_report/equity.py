"""The equity of accounts over an edition, by their fills and the closes of candles. Pure: rows are read in
trading.py. Funding payments are no fills, so they are not in it.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

_PAIR = ["account", "symbol"]
# Both sides are sorted by time; with groups Polars cannot check that, and warns.
_NEWEST: Any = {"on": "time", "strategy": "backward", "check_sortedness": False}


def equity_of(
    positions: "pl.DataFrame",
    fills: "pl.DataFrame",
    marks: "pl.DataFrame",
    times: list[datetime],
) -> "pl.DataFrame":
    """Return the change of each account's equity since the first time, position by position.

    A position is worth its quantity times the newest close, or the price of a newer fill. One that has
    neither at a time is worth what it has at the next time with either, and nothing if there is none.

    Args:
        positions: `account`, `symbol` and `quantity` at the first time.
        fills: `account`, `symbol`, `filled_at`, `signed_quantity`, `value` and `cash_flow` from the first
            time on, in order of time.
        marks: `symbol`, `time` (when the candle closed) and `close`.
        times: ascending.

    Returns:
        `account`, `symbol`, `time`, `quantity`, `mark` (null if unknown) and `equity`: the change of cash
        and of the position's value; sorted by these.
    """
    import polars as pl

    signed = fills.select(
        *_PAIR, pl.col("filled_at").alias("time"), "signed_quantity", "cash_flow"
    ).sort("time", maintain_order=True)
    summed = signed.with_columns(pl.col("signed_quantity", "cash_flow").cum_sum().over(_PAIR))
    pairs = pl.concat([positions.select(_PAIR), fills.select(_PAIR)]).unique().sort(_PAIR)
    grid = (
        pairs.join(pl.DataFrame({"time": times}, {"time": _time()}), how="cross")
        .join(positions.select(*_PAIR, "quantity"), on=_PAIR, how="left")
        .sort("time", *_PAIR)
        # A fill at a time counts from the next time on, as the span excludes its end.
        .join_asof(summed, by=_PAIR, allow_exact_matches=False, **_NEWEST)
        .join_asof(_prices(fills, marks), by="symbol", **_NEWEST)
        .sort(*_PAIR, "time")
        .with_columns(
            quantity=pl.col("quantity").fill_null(0) + pl.col("signed_quantity").fill_null(0),
            cash=pl.col("cash_flow").fill_null(0),
            mark=pl.col("price").fill_null(strategy="backward").over(_PAIR),
        )
    )
    worth = pl.col("cash") + (pl.col("quantity") * pl.col("mark")).fill_null(0)
    return grid.with_columns(equity=worth).select(
        *_PAIR,
        "time",
        "quantity",
        "mark",
        equity=pl.col("equity") - pl.col("equity").first().over(_PAIR),
    )


def curves(equity: "pl.DataFrame") -> "pl.DataFrame":
    """Return each account's curve: `account`, `time`, `equity`."""
    import polars as pl

    found = equity.group_by("account", "time").agg(pl.col("equity").sum())
    return found.sort("account", "time")


def drawdowns(curve: "pl.DataFrame") -> "pl.DataFrame":
    """Return the largest fall of each account's curve below an earlier peak: `account`, `drawdown`."""
    import polars as pl

    fall = pl.col("equity").cum_max() - pl.col("equity")
    return curve.group_by("account", maintain_order=True).agg(drawdown=fall.max())


def grid_of(start: datetime, end: datetime, step: timedelta) -> list[datetime]:
    """Return the times from start to end, both included."""
    return [start + place * step for place in range(int((end - start) / step) + 1)]


def _prices(fills: "pl.DataFrame", marks: "pl.DataFrame") -> "pl.DataFrame":
    """Return the prices known of each symbol: of fills, and of closes, which count at the same time."""
    import polars as pl

    size = pl.col("signed_quantity").abs()
    traded = fills.filter(size > 0).select(
        "symbol", pl.col("filled_at").alias("time"), (pl.col("value") / size).alias("price")
    )
    closed = marks.select("symbol", "time", pl.col("close").alias("price"))
    return pl.concat([traded, closed]).sort("time", maintain_order=True)


def _time() -> "pl.DataType":
    import polars as pl

    return pl.Datetime("us", "UTC")
