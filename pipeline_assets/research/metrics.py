"""Figures of a backtest, drawn from its trades and its equity curve. A figure that is not defined is None.

Returns are those of UTC days, and a year has 365 of these: the market never closes. The interest rate is 0.
Sources: Sharpe (1994), "The Sharpe Ratio"; Sortino and Price (1994), "Performance Measurement in a Downside
Risk Framework"; Young (1991), "Calmar Ratio"; Bacon (2008), "Practical Portfolio Performance Measurement and
Attribution", for drawdowns, turnover and profit factor; Tharp (1998), "Trade Your Way to Financial Freedom",
for expectancy.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline_assets.market.step_tables import REASONS

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

DAYS_A_YEAR = 365
# A yearly figure of a few days would be a figure of their luck alone, and may overflow.
SHORTEST_YEARLY_DAYS = 30
YEARLY = ("cagr", "volatility", "sharpe", "sortino", "calmar")
_DAY_MINUTES = 1440


def all_metrics(
    trades: "pa.Table",
    equity: "pa.Table",
    held: "Array",
    capital: float,
    minutes: int,
    days: float,
) -> dict[str, Any]:
    """Return every figure: total, by strategy, symbol, exit and month, and of buying and holding.

    `by_exit` has the closed trades by why they were closed. `by_month` has the trades that were closed in the
    month, and `return` and `change` of the equity from the month's start to its end, open positions included.
    `yearly_left_out` says why yearly figures are None, or is None.

    Args:
        trades: of `results.trade_schema`.
        equity: of `results.equity_schema`, its points `minutes` apart.
        held: the equity of buying every symbol in equal parts at its first open, at each day's end.
        capital: the cash in the beginning.
        minutes: between two points of the equity curve.
        days: the length of the backtest.
    """
    import polars as pl

    rows = pl.DataFrame(pl.from_arrow(trades))
    curve = equity["equity"].to_numpy()
    exposure = equity["exposure"].to_numpy()
    named = rows.with_columns(pl.format("{} {}", "strategy", "version").alias("strategy"))
    closed = named.filter(~pl.col("open"))
    months = closed.with_columns(month=pl.col("exit_time").dt.strftime("%Y-%m"))
    total = curve_figures(curve, capital, minutes, days) | trade_figures(rows)
    traded = _traded_value(rows)
    mean = float(curve.mean()) if len(curve) else capital
    total |= {
        "exposure": float((exposure > 0).mean()) if len(curve) else None,
        "turnover": traded / mean if mean > 0 else None,
        "final_equity": float(curve[-1]) if len(curve) else capital,
    }
    return {
        "total": total,
        "by_strategy": _by(named, "strategy"),
        "by_symbol": _by(named, "symbol"),
        "by_exit": _by(closed, "exit_reason"),
        "by_month": _by(months, "month", _month_changes(equity, capital)),
        "buy_and_hold": curve_figures(held, capital, _DAY_MINUTES, days),
        "yearly_left_out": None if days >= SHORTEST_YEARLY_DAYS else _too_short(days),
    }


def curve_figures(
    curve: "Array", capital: float, minutes: int, days: float
) -> dict[str, float | None]:
    """Return the figures of an equity curve; the yearly ones are None below `SHORTEST_YEARLY_DAYS` days.

    return: last / capital - 1. cagr: (last / capital) ** (365 / days) - 1. volatility: standard
    deviation of daily returns times sqrt(365). sharpe: mean daily return / standard deviation times
    sqrt(365). sortino: the same over the root of the mean square of negative returns. max_drawdown:
    the largest loss from an earlier peak, as a part of the peak, at the points of the curve.
    max_drawdown_days: the longest time below an earlier peak. calmar: cagr / max_drawdown.
    """
    if not len(curve):
        return dict.fromkeys(("return", *YEARLY, "max_drawdown", "max_drawdown_days"))
    every = max(_DAY_MINUTES // minutes, 1)
    daily = np.concatenate([[capital], curve[every - 1 :: every]])
    if len(curve) % every:
        daily = np.append(daily, curve[-1])
    returns = np.diff(daily) / np.where(daily[:-1] > 0, daily[:-1], np.nan)
    growth = float(curve[-1]) / capital
    drawdown, longest = _drawdown(np.concatenate([[capital], curve]))
    figures = {
        "return": growth - 1,
        **dict.fromkeys(YEARLY),
        "max_drawdown": drawdown,
        "max_drawdown_days": longest * minutes / _DAY_MINUTES,
    }
    if days < SHORTEST_YEARLY_DAYS:
        return figures
    cagr = growth ** (DAYS_A_YEAR / days) - 1 if growth > 0 else -1.0
    mean, deviation = (
        float(np.mean(returns)),
        float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0,
    )
    downside = float(np.sqrt(np.mean(np.minimum(returns, 0) ** 2)))
    root = DAYS_A_YEAR**0.5
    return figures | {
        "cagr": cagr,
        "volatility": deviation * root if len(returns) > 1 else None,
        "sharpe": mean / deviation * root if deviation > 0 else None,
        "sortino": mean / downside * root if downside > 0 else None,
        "calmar": cagr / drawdown if drawdown > 0 else None,
    }


def trade_figures(rows: "pl.DataFrame") -> dict[str, Any]:
    """Return the figures of trades; those of wins, losses and times are of closed trades only.

    win_rate: the part of trades with a positive net result. profit_factor: the sum of positive over
    the sum of negative net results. expectancy: the mean net result. average_minutes: the mean time
    between entry and exit. exits: how many trades were closed by what.
    """
    import polars as pl

    closed = rows.filter(~pl.col("open"))
    net = closed["net"].to_numpy()
    won, lost = float(net[net > 0].sum()), float(-net[net < 0].sum())
    return {
        "trades": closed.height,
        "open_trades": rows.height - closed.height,
        "net": float(rows["net"].sum()),
        "profit": float(rows["profit"].sum()),
        "fees": float(rows["fees"].sum()),
        "slippage": float(rows["slippage"].sum()),
        "funding": float(rows["funding"].sum()),
        "win_rate": float((net > 0).mean()) if len(net) else None,
        "profit_factor": won / lost if lost > 0 else None,
        "expectancy": float(net.mean()) if len(net) else None,
        "average_minutes": float(closed["minutes"].to_numpy().mean()) if len(net) else None,
        "exits": _exits(closed),
        "stopped": int(closed["exit_reason"].is_in(["stop", "trailing_stop"]).sum()),
        "liquidated": int((closed["exit_reason"] == "liquidation").sum()),
    }


def _by(
    rows: "pl.DataFrame", column: str, months: Mapping[str, dict[str, float]] | None = None
) -> dict[str, dict[str, Any]]:
    """Return the figures of each value of a column, sorted; months have changes of equity too."""
    found: dict[str, dict[str, Any]] = {
        str(part[column][0]): dict(trade_figures(part))
        for part in rows.partition_by(column, maintain_order=True)
    }
    if months is None:
        return dict(sorted(found.items()))
    nothing = trade_figures(rows.clear())
    return {month: found.get(month, nothing) | changes for month, changes in months.items()}


def _exits(closed: "pl.DataFrame") -> dict[str, int]:
    """Return how many trades each reason closed, in the usual order of reasons."""
    counted = dict(closed["exit_reason"].value_counts().iter_rows())
    return {reason: counted[reason] for reason in REASONS if reason in counted}


def _too_short(days: float) -> str:
    return (
        f"CAGR, volatility, Sharpe, Sortino and Calmar are left out: the span has {days:.1f} days, and a "
        f"yearly figure needs {SHORTEST_YEARLY_DAYS}."
    )


def _month_changes(equity: "pa.Table", capital: float) -> dict[str, dict[str, float]]:
    import polars as pl

    # A point at midnight is the end of the day before.
    month = (pl.col("time") - timedelta(microseconds=1)).dt.strftime("%Y-%m").alias("month")
    ends = pl.DataFrame(pl.from_arrow(equity)).group_by(month, maintain_order=True)
    found, begun = {}, capital
    for name, last in ends.agg(pl.col("equity").last()).iter_rows():
        change = last - begun
        found[str(name)] = {"return": change / begun if begun > 0 else 0.0, "change": change}
        begun = last
    return found


def _traded_value(rows: "pl.DataFrame") -> float:
    import polars as pl

    entries = (pl.col("quantity") * pl.col("entry_price")).sum()
    exits = (pl.col("quantity") * pl.col("exit_price")).sum()
    return float(rows.select(entries + exits).item() or 0)


def _drawdown(curve: "Array") -> tuple[float, int]:
    """Return the largest drawdown, and the largest number of points in a row below a peak."""
    peaks = np.maximum.accumulate(curve)
    below = curve < peaks
    deepest = float(np.max(1 - curve / peaks))
    ends = np.flatnonzero(np.diff(np.concatenate([[0], below.astype(np.int8), [0]])))
    lengths = ends[1::2] - ends[::2]
    return deepest, int(lengths.max()) if len(lengths) else 0
