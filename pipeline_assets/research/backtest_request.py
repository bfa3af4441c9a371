"""The checks of a backtest's request, and what follows from it: symbols and months. backtest.py runs it."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pipeline_assets.market.windows import Window
from pipeline_assets.research.backtest_types import BacktestInputError, BacktestRequest


def check(request: BacktestRequest) -> None:
    """Refuse a request that cannot be run.

    Raises:
        BacktestInputError: the message names what is wrong.
    """
    if not request.strategies:
        raise BacktestInputError("A backtest needs at least one strategy.")
    names = [(each.name, each.version) for each in request.strategies]
    if len(set(names)) < len(names):
        raise BacktestInputError("A strategy stands in the request twice with the same version.")
    if request.symbols is not None and not request.symbols:
        raise BacktestInputError("A backtest needs at least one symbol, or None for all.")
    for name, moment in (("start", request.start), ("end", request.end)):
        if moment.utcoffset() != timedelta(0) or moment.second or moment.microsecond:
            raise BacktestInputError(
                f"{name} must be a whole minute in UTC, not {moment.isoformat()}."
            )
    if request.end <= request.start:
        raise BacktestInputError(
            f"end must be after start, got {request.start.isoformat()} and {request.end.isoformat()}."
        )
    if request.capital <= 0 or request.capital > 1_000_000_000:
        raise BacktestInputError(
            f"capital must be above 0 and at most 1,000,000,000, not {request.capital}."
        )
    if request.equity_minutes < 1 or 1440 % request.equity_minutes:
        raise BacktestInputError(
            f"equity_minutes must divide a day, and {request.equity_minutes} does not."
        )
    if request.workers < 1 or (request.chunk_months is not None and request.chunk_months < 1):
        raise BacktestInputError("chunk_months and workers must be at least 1.")


def universe(request: BacktestRequest, listed: Mapping[str, Sequence[Window]]) -> list[str]:
    """Return the symbols of a request, sorted: the order that breaks ties.

    Raises:
        BacktestInputError: a symbol was never listed, or none was in the span.
    """
    inside = {
        symbol
        for symbol, windows in listed.items()
        if any(each.start < request.end and each.end > request.start for each in windows)
    }
    if request.symbols is None:
        if not inside:
            raise BacktestInputError(
                "No listing is known in the span. Name the symbols, or let the asset `universe` run once."
            )
        return sorted(inside)
    unknown = sorted(set(request.symbols) - set(listed)) if listed else []
    if unknown:
        raise BacktestInputError(
            f"{', '.join(unknown)} was never listed. There are {len(listed)} symbols, such as "
            f"{', '.join(sorted(listed)[:5])}."
        )
    return sorted(set(request.symbols))


def month_windows(window: Window) -> list[Window]:
    """Return the calendar months (UTC) of a window, the first and last one cut to it."""
    found = []
    start = window.start
    while start < window.end:
        following = (start.replace(day=1) + timedelta(days=32)).replace(day=1, hour=0, minute=0)
        found.append(Window(start, min(following, window.end)))
        start = following
    return found


def described(request: BacktestRequest, symbols: Sequence[str]) -> dict[str, Any]:
    """Return the request as plain values, enough to run it again."""
    return {
        "strategies": [
            {
                "name": each.name,
                "version": each.version,
                "parameters": each.parameters.model_dump(mode="json"),
                "rules": each.rules.model_dump(mode="json"),
            }
            for each in request.strategies
        ],
        "symbols": list(symbols),
        "start": _text(request.start),
        "end": _text(request.end),
        "capital": str(request.capital),
        "fill_delay": request.model.fill_delay,
        "slippage": str(request.model.slippage),
        "max_positions": request.model.max_positions,
        "fees": None
        if request.fees is None
        else {"maker": str(request.fees.maker), "taker": str(request.fees.taker)},
        "equity_minutes": request.equity_minutes,
    }


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%MZ")
