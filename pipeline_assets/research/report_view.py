"""The content of a report's page: figures, sections and curves of a result, as text and plain values. Tables
are made in report_tables.py, the page itself in report.py.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline_assets.research import report_text as text
from pipeline_assets.research.backtest_types import BacktestResult
from pipeline_assets.research.report_candles import Charts, chart_data, strategy_labels
from pipeline_assets.research.report_curves import curves
from pipeline_assets.research.report_tables import (
    MOST_TRADES,
    PageTable,
    against_holding,
    cost_table,
    exit_table,
    group_table,
    month_changes,
    month_grid,
    signal_table,
    trade_table,
    word,
)


@dataclass(frozen=True)
class Section:
    """A table under its title; a long one scrolls."""

    title: str
    table: PageTable
    text: str = ""
    long: bool = False


@dataclass(frozen=True)
class Page:
    """All that the template needs."""

    title: str
    subtitle: str
    figures: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    equity_caption: str
    sections: Sequence[Section]
    assumptions: Sequence[str]
    origin: PageTable
    request: str
    has_charts: bool
    data: Mapping[str, Any]


def page_of(result: BacktestResult, charts: Charts) -> Page:
    """Return the page of a result. The same result and candles give the same page."""
    request = result.request
    names = list(dict.fromkeys(each["name"] for each in request["strategies"]))
    capital = f"{text.money(float(request['capital']))} {text.currency(result)}"
    equity, drawdown = curves(result)
    warnings = text.warnings(result)
    if charts.left_out:
        warnings.append(
            f"{len(charts.left_out):,} symbols have no chart here, those with the fewest trades: "
            f"{text.listed(charts.left_out)}."
        )
    return Page(
        title=f"Backtest of {', '.join(names)}",
        subtitle=(
            f"{text.time_text(text.start_of(result))} to {text.time_text(text.end_of(result))} UTC, "
            f"{text.listed(request['symbols'])}; capital {capital}"
        ),
        figures=_figures(result),
        warnings=warnings,
        equity_caption=(
            f"Cash and open positions at the last close, in {text.currency(result)}, from a capital of "
            f"{capital}. Drag to move, use the wheel or two fingers to zoom."
        ),
        sections=_sections(result),
        assumptions=result.assumptions or ["Nothing had to be assumed."],
        origin=_origin(result),
        request=json.dumps(request, sort_keys=True, ensure_ascii=False),
        has_charts=bool(charts.candles),
        data={
            "equity": equity,
            "drawdown": drawdown,
            "charts": chart_data(result, charts),
            "strategies": strategy_labels(result),
        },
    )


def _figures(result: BacktestResult) -> list[tuple[str, str]]:
    total, held = result.metrics["total"], result.metrics["buy_and_hold"]
    chosen = {
        "Net result": f"{text.money(total['net'])} {text.currency(result)}",
        "Return": text.percent(total["return"]),
        "Buy and hold": text.NOTHING if held["return"] is None else text.percent(held["return"]),
    }
    by_key = {each.key: each for each in (*text.CURVE_FIGURES, *text.TRADE_FIGURES)}
    for name, key in (
        ("Largest drawdown", "max_drawdown"),
        ("Sharpe", "sharpe"),
        ("Closed trades", "trades"),
        ("Win rate", "win_rate"),
        ("Profit factor", "profit_factor"),
    ):
        chosen[name] = by_key[key].text(total)
    return list(chosen.items())


def _sections(result: BacktestResult) -> list[Section]:
    left_out = result.metrics["yearly_left_out"]
    holding = f"{_HOLDING} {left_out}" if left_out else _HOLDING
    amounts = f"Amounts are in {text.currency(result)}."
    return [
        Section("Against buy and hold", against_holding(result), holding),
        Section("Result and costs", cost_table(result), _COSTS),
        Section("Months", month_grid(result), "Return of each month, on the equity at its start."),
        Section("Changes by month", month_changes(result), _CHANGES),
        Section("Strategies", group_table(result, "by_strategy", "strategy"), amounts),
        Section("Symbols", group_table(result, "by_symbol", "symbol"), amounts, long=True),
        Section("Signals", signal_table(result), _SIGNALS),
        Section("Exits", exit_table(result), _EXITS),
        Section("Trades", trade_table(result), _trades_text(result), long=True),
    ]


_HOLDING = "Buying every symbol in equal parts at its first open, without costs."
_COSTS = (
    "All positions, the open ones at the last close. Slippage is contained in the prices of the fills and is "
    "shown apart here."
)
_CHANGES = (
    "The change of the equity counts open positions at the last close of the month. Trades, with their net, "
    "funding and fees, are those that were closed in the month: a position held over its end changes the "
    "equity of both months, and is a trade of the second one."
)
_EXITS = "Closed positions by the reason of the exit. A stop and a target of one candle count as the stop."
_SIGNALS = "How often each signal led to an order, and why the others did not."


def _trades_text(result: BacktestResult) -> str:
    number = result.trades.num_rows
    units = f"Times are UTC; amounts are in {text.currency(result)}."
    if number <= MOST_TRADES:
        return f"All {number:,}, the newest first. {units}"
    return (
        f"The newest {MOST_TRADES:,} of {number:,}; the command's option --trades writes all of them. "
        f"{units}"
    )


def _origin(result: BacktestResult) -> PageTable:
    values = {
        "data (SHA-256)": result.checksum,
        "candles read": text.whole(result.counts.candles),
        **result.versions,
    }
    return PageTable([("", True), ("", True)], [list(map(word, each)) for each in values.items()])
