"""The tables of a report's page, as text. Their order and titles are in report_view.py."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline_assets.research import report_text as text
from pipeline_assets.research.backtest_types import BacktestResult

MOST_TRADES = 2000
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


def against_holding(result: BacktestResult) -> PageTable:
    """Return the figures of the backtest beside those of buying and holding."""
    total, held = result.metrics["total"], result.metrics["buy_and_hold"]
    figures = (*text.CURVE_FIGURES, *text.TOTAL_FIGURES, *text.TRADE_FIGURES)
    rows = [
        [word(each.label(text.currency(result))), Cell(each.text(total)), Cell(each.text(held))]
        for each in figures
    ]
    return PageTable([("", True), ("backtest", False), ("buy and hold", False)], rows)


def cost_table(result: BacktestResult) -> PageTable:
    """Return how the net result comes about."""
    capital = float(result.request["capital"])
    rows = [
        [word(name), _signed(value), Cell(text.percent(value / capital))]
        for name, value in text.costs(result.metrics["total"])
    ]
    columns = [("", True), (text.currency(result), False), ("of the capital", False)]
    return PageTable(columns, rows)


def month_grid(result: BacktestResult) -> PageTable:
    """Return the return of each month, one row a year."""
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
        rows.append([word(year), *map(_part, values), _part(grown - 1)])
    columns = [("year", True), *((name, False) for name in _MONTHS), ("year's return", False)]
    return PageTable(columns, rows)


def month_changes(result: BacktestResult) -> PageTable:
    """Return the change of equity and the closed trades of each month."""
    rows = [
        [
            word(month),
            _signed(values["change"]),
            _part(values["return"]),
            Cell(text.whole(values["trades"])),
            *(_signed(values[name]) for name in ("net", "funding")),
            _signed(-values["fees"]),
        ]
        for month, values in result.metrics["by_month"].items()
    ]
    names = ["return", "closed trades", "their net", "their funding", "their fees"]
    changed = f"change of equity, {text.currency(result)}"
    return PageTable([("month", True), *((each, False) for each in (changed, *names))], rows)


def exit_table(result: BacktestResult) -> PageTable:
    """Return the closed trades by what closed them; several strategies have a column each."""
    by_strategy = result.metrics["by_strategy"]
    # The column of a single strategy would repeat the first one.
    strategies = by_strategy if len(by_strategy) > 1 else ()
    closed = result.metrics["total"]["trades"]
    figures = [
        each
        for each in text.TRADE_FIGURES
        if each.key in ("win_rate", "expectancy", "average_minutes")
    ]
    rows = [
        [
            word(reason.replace("_", " ")),
            Cell(text.whole(values["trades"])),
            *(Cell(text.whole(by_strategy[each]["exits"].get(reason, 0))) for each in strategies),
            Cell(text.percent(values["trades"] / closed)),
            _signed(values["net"]),
            *(Cell(each.text(values)) for each in figures),
        ]
        for reason, values in result.metrics["by_exit"].items()
    ]
    currency = text.currency(result)
    names = ["trades", *strategies, "of all", f"net, {currency}"]
    names += [each.label(currency) for each in figures]
    return PageTable([("closed by", True), *((each, False) for each in names)], rows)


def group_table(result: BacktestResult, key: str, name: str) -> PageTable:
    """Return costs and trades of each strategy or symbol."""
    figures = [each for each in text.TRADE_FIGURES if each.key not in ("stopped", "liquidated")]
    rows = []
    for group, values in result.metrics[key].items():
        amounts = [_signed(value) for _, value in text.costs(values)]
        rows.append([word(group), *amounts, *(Cell(each.text(values)) for each in figures)])
    names = ["before costs", "slippage", "fees", "funding", "net", *(each.name for each in figures)]
    return PageTable([(name, True), *((each, False) for each in names)], rows)


def signal_table(result: BacktestResult) -> PageTable:
    """Return how often each strategy's signals had which outcome."""
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
            word(name),
            Cell(text.whole(counts.signals[name])),
            *(Cell(text.whole(outcomes[outcome])) for outcome in used),
        ]
        for name, outcomes in counts.outcomes.items()
    ]
    columns = [("strategy", True), ("signals", False)]
    return PageTable([*columns, *((each.replace("_", " "), False) for each in used)], rows)


def trade_table(result: BacktestResult) -> PageTable:
    """Return the newest trades, the newest first."""
    newest = result.trades.slice(max(result.trades.num_rows - MOST_TRADES, 0)).to_pylist()
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
        word(text.time_text(row["entry_time"])),
        word(text.time_text(row["exit_time"])),
        *map(word, (row["symbol"], row["side"], f"{row['strategy']} {row['version']}", reason)),
        *(Cell(text.price(value)) for value in (row["quantity"], row["entry_price"], left)),
        *(_signed(value) for value in (row["profit"], -row["fees"], row["funding"], row["net"])),
        _part(row["return"]),
        Cell(text.minutes_text(row["minutes"])),
    ]


def word(value: Any) -> Cell:
    """Return a cell of words."""
    return Cell(str(value), "text")


def _signed(value: float) -> Cell:
    return Cell(text.money(value), _kind(value))


def _part(value: float | None) -> Cell:
    return Cell("") if value is None else Cell(text.percent(value), _kind(value))


def _kind(value: float) -> str:
    return "loss" if round(value, 6) < 0 else "gain" if round(value, 6) > 0 else ""
