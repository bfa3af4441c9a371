"""The equity of accounts over an edition, by their fills and the closes of candles. Pure: rows are read in
trading.py. Equity is without funding payments, which are not fills.
"""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline_assets.market.windows import Window

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

    A position is worth its quantity times the newest price: a close, or a fill after that close. A position
    without a price at a time has the next known price, and is worth nothing if there is none.

    Args:
        positions: `account`, `symbol` and `quantity` at the first time.
        fills: `account`, `symbol`, `filled_at`, `signed_quantity`, `value` and `cash_flow` from the first
            time on, in order of time.
        marks: `symbol`, `known_at` and `price`: closes of the span, closes and fills before it.
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


def times_of(
    window: Window, step: timedelta, fills: "pl.DataFrame", marks: "pl.DataFrame"
) -> list[datetime]:
    """Return the times of a span at which something new is known, from its start on.

    They end with the newest price, or with the first time after a newer fill: a line to the end of a day that
    is not over would look as if the price had stood still.

    Args:
        window: the span; its end is included if a candle closed then.
        step: between two times.
        fills: as `equity_of` takes these.
        marks: as `equity_of` takes these.
    """
    priced, filled = _newest(marks, "known_at"), _newest(fills, "filled_at")
    known = [each for each in (priced, filled and filled + step) if each is not None]
    last = min(max([window.start, *known]), window.end)
    return [window.start + place * step for place in range((last - window.start) // step + 1)]


def _newest(frame: "pl.DataFrame", name: str) -> datetime | None:
    found = frame[name].max()
    return found if isinstance(found, datetime) else None


def _prices(fills: "pl.DataFrame", marks: "pl.DataFrame") -> "pl.DataFrame":
    """Return the prices of each symbol: of fills, and the marks, which count where both have one time."""
    import polars as pl

    size = pl.col("signed_quantity").abs()
    traded = fills.filter(size > 0).select(
        "symbol", pl.col("filled_at").alias("time"), (pl.col("value") / size).alias("price")
    )
    marked = marks.select("symbol", pl.col("known_at").alias("time"), "price")
    return pl.concat([traded, marked]).sort("time", maintain_order=True)


def _time() -> "pl.DataType":
    import polars as pl

    return pl.Datetime("us", "UTC")
