"""The tables of the section about the market. Their rows are computed in market.py."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline_assets.research.daily_report import formats
from pipeline_assets.research.daily_report.clusters import Clusters
from pipeline_assets.research.daily_report.parts import Edition, Table
from pipeline_assets.research.daily_report.readers import Answered

if TYPE_CHECKING:
    import polars as pl

_SHOWN = 5
_GROUPS, _NAMED = 8, 12
_COLUMNS = "symbol, return >, volatility a day >, quote volume >, taker buys >, candles >"


@dataclass(frozen=True)
class Market:
    """The market of an edition: its frames with their sources."""

    edition: Edition
    symbols: Answered
    hours: Answered
    funding: Answered
    clusters: Clusters | None
    closes: Answered


def by_change(symbols: "pl.DataFrame") -> "pl.DataFrame":
    """Return the symbols that have the whole span, the best first."""
    return symbols.filter("whole").sort("change", "symbol", descending=[True, False])


def extremes(symbols: "pl.DataFrame") -> "pl.DataFrame":
    """Return the best and the worst symbols, each once, the best first."""
    import polars as pl

    ordered = by_change(symbols)
    if ordered.height <= 2 * _SHOWN:
        return ordered
    return pl.concat([ordered.head(_SHOWN), ordered.tail(_SHOWN)])


def movers(market: Market) -> Table:
    """Return the best and the worst symbols."""
    return formats.table(
        "Largest moves",
        _COLUMNS,
        _rows(extremes(market.symbols.frame)),
        market.symbols.source,
        "Symbols with less than nine tenths of the candles are not ranked.",
    )


def volatile(market: Market) -> Table:
    """Return the symbols with the largest volatility."""
    ordered = market.symbols.frame.filter("whole").drop_nulls("volatility")
    return formats.table(
        "Most volatile",
        _COLUMNS,
        _rows(ordered.sort("volatility", "symbol", descending=[True, False]).head(_SHOWN)),
        market.symbols.source,
        "The root of the mean squared change between 15m closes, times the root of 96.",
    )


def _rows(symbols: "pl.DataFrame") -> list[tuple[str, ...]]:
    return [
        (
            each["symbol"],
            formats.percent(each["change"], signed=True),
            formats.percent(each["volatility"]),
            formats.volume(each["quote_volume"]),
            formats.percent(each["taker_share"], 1),
            formats.count(each["candles"]),
        )
        for each in symbols.iter_rows(named=True)
    ]


def largest_funding(market: Market) -> Table | None:
    """Return the symbols whose positions paid or received most; None without rates."""
    import polars as pl

    rates = market.funding.frame
    if rates.is_empty():
        return None
    ordered = rates.with_columns(size=pl.col("paid").abs())
    shown = ordered.sort("size", "symbol", descending=[True, False]).head(2 * _SHOWN)
    rows = [
        (each["symbol"], formats.percent(each["paid"], 4, signed=True), str(each["settlements"]))
        for each in shown.iter_rows(named=True)
    ]
    return formats.table(
        "Largest funding",
        "symbol, paid by long positions >, settlements >",
        rows,
        market.funding.source,
        "The sum of the rates, as a share of the position's value. Short positions paid a negative sum.",
    )


def groups(market: Market) -> Table | None:
    """Return the symbols that move together; None where no two do."""
    found = market.clusters
    if found is None or not found.groups:
        return None
    rows = []
    for group in found.groups[:_GROUPS]:
        more = f" and {len(group) - _NAMED} more" if len(group) > _NAMED else ""
        rows.append((str(len(group)), ", ".join(sorted(group)[:_NAMED]) + more))
    return formats.table(
        "Symbols that moved together",
        "size >, symbols",
        rows,
        market.closes.source,
        "Groups whose hourly returns have a mean correlation of 0.7 or more.",
    )
