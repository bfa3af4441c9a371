"""Figures of a backtest as text, and their names: shared by the report and the console. The figures
themselves are computed in metrics.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pipeline_assets.research.backtest_types import BacktestResult, Counts

NOTHING = "–"
_NAMED = 5
_CURRENCIES = ("USDT", "USDC", "BUSD", "FDUSD")


@dataclass(frozen=True)
class Figure:
    """A figure's key in the metrics, its name, and how it is written."""

    key: str
    name: str
    write: Callable[[float], str]

    def text(self, metrics: Mapping[str, Any]) -> str:
        """Return the figure's value as text."""
        value = metrics.get(self.key)
        return NOTHING if value is None else self.write(value)

    def label(self, currency: str) -> str:
        """Return the name, with the currency of an amount."""
        return f"{self.name}, {currency}" if self.write is money else self.name


def _writer(form: str, times: float = 1, decimals: int = 2) -> Callable[[float], str]:
    """Return what writes a number in a form, without a sign where nothing is left of it."""
    return lambda value: form.format(round(value * times, decimals) + 0.0)


money, ratio = _writer("{:,.2f}"), _writer("{:,.2f}")
percent = _writer("{:,.2f} %", times=100)
whole = _writer("{:,.0f}", decimals=0)
days_text = _writer("{:,.1f} days", decimals=1)


def minutes_text(value: float) -> str:
    """Return a time in minutes, hours or days, whichever is short."""
    if value < 120:
        return f"{value:.0f} min"
    return f"{value / 60:.1f} h" if value < 2880 else f"{value / 1440:.1f} days"


def price(value: float) -> str:
    """Return a price with all of its digits."""
    return f"{value:.10f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:,.10g}"


def time_text(moment: datetime | None) -> str:
    """Return a time (UTC) to the minute."""
    return NOTHING if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


CURVE_FIGURES = (
    Figure("return", "return", percent),
    Figure("cagr", "return a year (CAGR)", percent),
    Figure("volatility", "volatility a year", percent),
    Figure("sharpe", "Sharpe", ratio),
    Figure("sortino", "Sortino", ratio),
    Figure("calmar", "Calmar", ratio),
    Figure("max_drawdown", "largest drawdown", percent),
    Figure("max_drawdown_days", "longest time below a peak", days_text),
)
TOTAL_FIGURES = (
    Figure("final_equity", "equity at the end", money),
    Figure("exposure", "hours with a position", percent),
    Figure("turnover", "turnover, times mean equity", ratio),
)
TRADE_FIGURES = (
    Figure("trades", "closed trades", whole),
    Figure("open_trades", "open at the end", whole),
    Figure("win_rate", "win rate", percent),
    Figure("profit_factor", "profit factor", ratio),
    Figure("expectancy", "mean net a trade", money),
    Figure("average_minutes", "mean holding time", minutes_text),
    Figure("stopped", "stopped", whole),
    Figure("liquidated", "liquidated", whole),
)


def currency(result: BacktestResult) -> str:
    """Return the asset in which the account is kept: what the symbols are quoted and settled in."""
    symbols = [each.partition("_")[0] for each in result.request["symbols"]]
    found = [each for each in _CURRENCIES if all(name.endswith(each) for name in symbols)]
    return found[0] if found else "quote asset"


def start_of(result: BacktestResult) -> datetime:
    """Return the start of a backtest."""
    return datetime.strptime(result.request["start"], "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)


def end_of(result: BacktestResult) -> datetime:
    """Return the end of a backtest."""
    return datetime.strptime(result.request["end"], "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)


def costs(metrics: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return how the net result comes about: before costs, and each cost apart."""
    # The profit is that at the prices of the fills, which contain the slippage.
    return [
        ("before costs", metrics["profit"] + metrics["slippage"]),
        ("slippage", -metrics["slippage"]),
        ("fees", -metrics["fees"]),
        ("funding", metrics["funding"]),
        ("net", metrics["net"]),
    ]


def spans(days: Sequence[date]) -> str:
    """Return days as spans: `2026-11-01 to 2026-11-03, 2026-11-05`."""
    found: list[tuple[date, date]] = []
    for day in sorted(days):
        if found and day - found[-1][1] == timedelta(days=1):
            found[-1] = (found[-1][0], day)
        else:
            found.append((day, day))
    return listed([str(a) if a == b else f"{a} to {b}" for a, b in found])


def listed(names: Sequence[str], most: int = _NAMED) -> str:
    """Return the first of some names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def warnings(result: BacktestResult) -> list[str]:
    """Return what a reader must know before the figures, one sentence each."""
    found = [
        f"{each.symbol}: {each.rates:,} funding rates are missing from {time_text(each.start)} to "
        f"{time_text(each.end)}. The result leaves them out."
        for each in result.missing_funding[:_NAMED]
    ]
    if (more := len(result.missing_funding) - _NAMED) > 0:
        found.append(f"Funding rates are missing in {more:,} more spans.")
    if result.damaged:
        found.append(f"Damaged objects were left out: {listed(result.damaged)}.")
    return [*found, *_count_warnings(result.counts, result.metrics["total"])]


def _count_warnings(counts: Counts, total: Mapping[str, Any]) -> list[str]:
    found = []
    if counts.without_candles:
        found.append(
            f"No candle is stored in the span of {listed(counts.without_candles)}: not traded, and no part "
            "of the result."
        )
    if counts.gap_minutes:
        gaps = [f"{symbol} {minutes:,}" for symbol, minutes in sorted(counts.gap_minutes.items())]
        found.append(f"Minutes without a candle: {listed(gaps)}. Nothing is filled in a gap.")
    if counts.exits_after_gap:
        found.append(
            f"{counts.exits_after_gap:,} exits were filled late, at the first open after a gap."
        )
    if counts.both_touched:
        found.append(
            f"{counts.both_touched:,} candles touched stop and target; each counts as a stop, because a "
            "minute does not say which came first."
        )
    if counts.rates_missing:
        found.append(f"{counts.rates_missing:,} funding times of open positions had no rate.")
    if (opens := counts.marks_from_open) + (closes := counts.marks_from_close):
        found.append(
            f"Funding used the candle's open {opens:,} times and the last close {closes:,} times, because "
            "no mark price is stored."
        )
    if counts.off_grid:
        odd = [f"{symbol} {number:,}" for symbol, number in sorted(counts.off_grid.items())]
        found.append(f"Candles with a price between two ticks: {listed(odd)}.")
    if total["open_trades"]:
        found.append(
            f"Positions still open at the end: {total['open_trades']:,}. Each is marked at the last close, "
            "not closed."
        )
    return found
