"""The content of a report's page: figures, tables and curves of a result, as text and plain values. The
page itself is made in report.py.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline_assets.research import report_text as text
from pipeline_assets.research.backtest_types import BacktestResult
from pipeline_assets.research.report_candles import Charts, chart_data
from pipeline_assets.research.report_curves import curves

_MOST_TRADES = 2000
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and `text`, `gain`, `loss` or nothing as its kind."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table: its columns as name and whether it holds words, and its rows."""

    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


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
            f"{text.listed(request['symbols'])}; capital {text.money(float(request['capital']))}"
        ),
        figures=_figures(result),
        warnings=warnings,
        equity_caption=(
            f"Cash and open positions at the last close, from a capital of "
            f"{text.money(float(request['capital']))} in the quote asset. Drag to move, use the wheel or two "
            "fingers to zoom."
        ),
        sections=_sections(result),
        assumptions=result.assumptions or ["Nothing had to be assumed."],
        origin=_origin(result),
        request=json.dumps(request, sort_keys=True, ensure_ascii=False),
        has_charts=bool(charts.candles),
        data={"equity": equity, "drawdown": drawdown, "charts": chart_data(result, charts)},
    )


def _figures(result: BacktestResult) -> list[tuple[str, str]]:
    total, held = result.metrics["total"], result.metrics["buy_and_hold"]
    days = text.length_days(result)
    chosen = {
        "Net result": text.money(total["net"]),
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
        chosen[name] = by_key[key].text(total, days)
    return list(chosen.items())


def _sections(result: BacktestResult) -> list[Section]:
    return [
        Section("Against buy and hold", _against_holding(result), _HOLDING),
        Section("Result and costs", _costs(result), _COSTS),
        Section("Months", _months(result), "Return of each month, on the equity at its start."),
        Section("Strategies", _groups(result, "by_strategy", "strategy")),
        Section("Symbols", _groups(result, "by_symbol", "symbol"), long=True),
        Section("Signals", _signals(result), _SIGNALS),
        Section("Trades", _trades(result), _trades_text(result), long=True),
    ]


_HOLDING = (
    "Buying every symbol in equal parts at its first open, without costs. Yearly figures are left out "
    f"below {text.SHORTEST_YEARLY_DAYS} days."
)
_COSTS = (
    "All positions, the open ones at the last close. Slippage is contained in the prices of the fills and is "
    "shown apart here."
)
_SIGNALS = "How often each signal led to an order, and why the others did not."


def _against_holding(result: BacktestResult) -> PageTable:
    total, held = result.metrics["total"], result.metrics["buy_and_hold"]
    days = text.length_days(result)
    figures = (*text.CURVE_FIGURES, *text.TOTAL_FIGURES, *text.TRADE_FIGURES)
    rows = [
        [_word(each.name), Cell(each.text(total, days)), Cell(each.text(held, days))]
        for each in figures
    ]
    return PageTable([("", True), ("backtest", False), ("buy and hold", False)], rows)


def _costs(result: BacktestResult) -> PageTable:
    capital = float(result.request["capital"])
    rows = [
        [_word(name), _signed(value), Cell(text.percent(value / capital))]
        for name, value in text.costs(result.metrics["total"])
    ]
    return PageTable([("", True), ("quote asset", False), ("of the capital", False)], rows)


def _months(result: BacktestResult) -> PageTable:
    years: dict[str, dict[int, float]] = defaultdict(dict)
    for month, figures in result.metrics["by_month"].items():
        year, _, number = month.partition("-")
        years[year][int(number)] = figures["return"]
    rows = []
    for year, months in sorted(years.items()):
        grown = 1.0
        for value in months.values():
            grown *= 1 + value
        values = [months.get(number) for number in range(1, 13)]
        rows.append([_word(year), *map(_part, values), _part(grown - 1)])
    columns = [("year", True), *((name, False) for name in _MONTHS), ("year's return", False)]
    return PageTable(columns, rows)


def _groups(result: BacktestResult, key: str, name: str) -> PageTable:
    figures = [each for each in text.TRADE_FIGURES if each.key not in ("stopped", "liquidated")]
    days = text.length_days(result)
    rows = []
    for group, values in result.metrics[key].items():
        amounts = [_signed(value) for _, value in text.costs(values)]
        rows.append([_word(group), *amounts, *(Cell(each.text(values, days)) for each in figures)])
    names = ["before costs", "slippage", "fees", "funding", "net", *(each.name for each in figures)]
    return PageTable([(name, True), *((each, False) for each in names)], rows)


def _signals(result: BacktestResult) -> PageTable:
    counts = result.counts
    used = list(
        dict.fromkeys(
            outcome
            for outcomes in counts.outcomes.values()
            for outcome, number in outcomes.items()
            if number
        )
    )
    rows = [
        [
            _word(name),
            Cell(text.whole(counts.signals[name])),
            *(Cell(text.whole(outcomes[outcome])) for outcome in used),
        ]
        for name, outcomes in counts.outcomes.items()
    ]
    columns = [("strategy", True), ("signals", False)]
    return PageTable([*columns, *((each.replace("_", " "), False) for each in used)], rows)


def _trades(result: BacktestResult) -> PageTable:
    newest = result.trades.slice(max(result.trades.num_rows - _MOST_TRADES, 0)).to_pylist()
    columns = (
        *(("opened", True), ("closed", True), ("symbol", True), ("side", True)),
        *(("strategy", True), ("closed by", True), ("quantity", False), ("entry", False)),
        *(("exit", False), ("before fees", False), ("fees", False), ("funding", False)),
        *(("net", False), ("return", False), ("held", False)),
    )
    return PageTable(columns, [_trade(row) for row in reversed(newest)])


def _trade(row: Mapping[str, Any]) -> list[Cell]:
    is_open = row["open"]
    left = row["mark_price"] if is_open else row["exit_price"]
    reason = "open, marked" if is_open else row["exit_reason"].replace("_", " ")
    return [
        _word(text.time_text(row["entry_time"])),
        _word(text.time_text(row["exit_time"])),
        *map(_word, (row["symbol"], row["side"], f"{row['strategy']} {row['version']}", reason)),
        *(Cell(text.price(value)) for value in (row["quantity"], row["entry_price"], left)),
        *(_signed(value) for value in (row["profit"], -row["fees"], row["funding"], row["net"])),
        _part(row["return"]),
        Cell(text.minutes_text(row["minutes"])),
    ]


def _trades_text(result: BacktestResult) -> str:
    number = result.trades.num_rows
    if number <= _MOST_TRADES:
        return f"All {number:,}, the newest first. Times are UTC; amounts are in the quote asset."
    return (
        f"The newest {_MOST_TRADES:,} of {number:,}; the command's option --trades writes all of them. "
        "Times are UTC; amounts are in the quote asset."
    )


def _origin(result: BacktestResult) -> PageTable:
    values = {
        "data (SHA-256)": result.checksum,
        "candles read": text.whole(result.counts.candles),
        **result.versions,
    }
    return PageTable([("", True), ("", True)], [list(map(_word, each)) for each in values.items()])


def _word(value: Any) -> Cell:
    return Cell(str(value), "text")


def _signed(value: float) -> Cell:
    return Cell(text.money(value), _kind(value))


def _part(value: float | None) -> Cell:
    return Cell("") if value is None else Cell(text.percent(value), _kind(value))


def _kind(value: float) -> str:
    return "loss" if round(value, 6) < 0 else "gain" if round(value, 6) > 0 else ""
