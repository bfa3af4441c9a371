"""The result of a backtest on the console and as JSON. Names and formats of figures are in
research/report_text.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline_assets.cli.output import table as plain_table
from pipeline_assets.research import report_text as text
from pipeline_assets.research.backtest_types import BacktestResult

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_ROWS = 20


def as_document(result: BacktestResult) -> dict[str, Any]:
    """Return the result as JSON-serialisable values, times in ISO 8601; the trades are not among them."""
    return {
        "request": result.request,
        "metrics": result.metrics,
        "counts": asdict(result.counts),
        "assumptions": list(result.assumptions),
        "missing_funding": [
            asdict(each) | {"start": each.start.isoformat(), "end": each.end.isoformat()}
            for each in result.missing_funding
        ],
        "damaged": list(result.damaged),
        "warnings": text.warnings(result),
        "checksum": result.checksum,
        "versions": dict(result.versions),
    }


def print_result(console: "Console", result: BacktestResult) -> None:
    """Print the result as tables of at most 80 columns, then warnings, declined signals and assumptions."""
    console.print(_total(result))
    console.print(_groups("By strategy", "strategy", result.metrics["by_strategy"]))
    console.print(_groups("By symbol", "symbol", result.metrics["by_symbol"]))
    console.print(_groups("By exit", "closed by", result.metrics["by_exit"]))
    _lines(console, "Declined signals", _declined(result))
    _lines(console, "To know", text.warnings(result), style="yellow")
    _lines(console, "Assumed", result.assumptions)
    console.print(f"Data {result.checksum[:16]}, {result.counts.candles:,} candles.")


def _total(result: BacktestResult) -> "Table":
    total, held = result.metrics["total"], result.metrics["buy_and_hold"]
    currency = text.currency(result)
    request = result.request
    span = f"{text.time_text(text.start_of(result))} to {text.time_text(text.end_of(result))} UTC"
    symbols = text.listed(request["symbols"], most=3)
    table = plain_table(
        f"{span}\n{symbols}, capital {text.money(float(request['capital']))} {currency}"
    )
    table.add_column("")
    table.add_column("backtest", justify="right")
    table.add_column("buy and hold", justify="right")
    for name, value in text.costs(total):
        table.add_row(name, text.money(value), "")
    table.add_section()
    for figure in (*text.CURVE_FIGURES, *text.TOTAL_FIGURES, *text.TRADE_FIGURES):
        holding = figure.text(held) if figure.key in held else ""
        table.add_row(figure.label(currency), figure.text(total), holding)
    return table


def _groups(title: str, name: str, groups: Mapping[str, Mapping[str, Any]]) -> "Table":
    more = len(groups) - _ROWS
    table = plain_table(title, f"and {more:,} more: --json" if more > 0 else None)
    table.add_column(name, overflow="fold")
    for column in ("trades", "win rate", "before costs", "costs", "net"):
        table.add_column(column, justify="right", no_wrap=True)
    figures = {each.key: each for each in text.TRADE_FIGURES}
    largest = sorted(groups, key=lambda each: -abs(groups[each]["net"]))[:_ROWS]
    for group in sorted(largest):
        values = groups[group]
        gross, *paid, net = (amount for _, amount in text.costs(values))
        table.add_row(
            _escaped(group),
            figures["trades"].text(values),
            figures["win_rate"].text(values),
            text.money(gross),
            text.money(sum(paid)),
            text.money(net),
        )
    return table


def _declined(result: BacktestResult) -> list[str]:
    found = []
    for name, outcomes in result.counts.outcomes.items():
        reasons = [
            f"{outcome.replace('_', ' ')} {number:,}"
            for outcome, number in outcomes.items()
            if number and outcome != "accepted"
        ]
        if reasons:
            signals = result.counts.signals[name]
            found.append(f"{name}, of {signals:,} signals: {', '.join(reasons)}")
    return found


def _lines(console: "Console", title: str, lines: Iterable[str], style: str | None = None) -> None:
    from rich.padding import Padding

    shown = list(lines)
    if not shown:
        return
    console.print(f"{title}:", style=style)
    for line in shown:
        console.print(Padding(f"- {_escaped(line)}", (0, 0, 0, 2)), style=style)


def _escaped(words: str) -> str:
    from rich.markup import escape

    return escape(words)
