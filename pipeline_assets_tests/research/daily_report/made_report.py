"""A made-up report with every kind of part, and names that are hostile to a page."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from pipeline_assets.research.daily_report.parts import (
    NO_VALUE,
    Chart,
    Column,
    DailyReport,
    Edition,
    Figure,
    Section,
    Source,
    Table,
)

DAY = date(2026, 11, 28)
MADE_AT = datetime(2026, 11, 29, 4, 40, tzinfo=UTC)
HOSTILE = "\"><script>alert('x')</script>"
CHINESE = "币安人生USDT"
_SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", CHINESE, f"{HOSTILE}USDT", "$A_{b}$USDT")
_CANDLES = Source(
    "hourly candles", "candle_table_1h 2026-11-28", "SELECT *\nFROM V_CANDLES\nWHERE x < 5"
)
_OUTCOMES = Source("outcomes of candidates", "candidate_outcomes 2026-11-28")
_LAKE = Source("objects on the lake")


def made_report(edition: Edition | None = None) -> DailyReport:
    """Return a report of four sections, one of them empty."""
    edition = edition or Edition.of("day", DAY)
    sections = (_market(edition), _candidates(), _decisions(), _trading())
    warnings = ("1h is not finalized: 3 of 1,500 candles are missing.",)
    return DailyReport(edition, sections, MADE_AT, warnings)


def empty_report(edition: Edition | None = None) -> DailyReport:
    """Return a report of a day without data."""
    edition = edition or Edition.of("day", DAY)
    reason = "No candle of this day is stored."
    sections = (Section("market", "Market", reason, empty=reason),)
    return DailyReport(edition, sections, MADE_AT)


def later(report: DailyReport) -> DailyReport:
    """Return the same report, made an hour later."""
    return replace(report, made_at=report.made_at + timedelta(hours=1))


def _hours(edition: Edition) -> list[datetime]:
    return [edition.start + timedelta(hours=each) for each in range(24)]


def _market(edition: Edition) -> Section:
    random = np.random.default_rng(7)
    returns = pl.DataFrame({"symbol": _SYMBOLS, "return": [4.2, 2.1, 0.4, -0.2, -1.9, -6.3]})
    walks = pl.concat(
        pl.DataFrame(
            {
                "time": _hours(edition),
                "return": random.normal(0, 0.4, 24).cumsum(),
                "symbol": [symbol] * 24,
            }
        )
        for symbol in _SYMBOLS[:4]
    )
    numbers = [(a, b) for a in range(6) for b in range(6)]
    near = pl.DataFrame(
        {
            "column": [_SYMBOLS[a] for a, _ in numbers],
            "row": [_SYMBOLS[b] for _, b in numbers],
            "correlation": [1.0 if a == b else 1.2 - 0.4 * abs(a - b) for a, b in numbers],
        }
    )
    spread = pl.DataFrame({"time": _hours(edition), "median": random.uniform(1, 2, 24)})
    spread = spread.with_columns(low=pl.col("median") * 0.6, high=pl.col("median") * 1.7)
    volume = pl.DataFrame({"time": _hours(edition), "volume": random.uniform(2e8, 9e8, 24)})
    return Section(
        "market",
        "Market",
        f"{HOSTILE}USDT lost 1.9 % while BTCUSDT gained 4.2 %, the widest spread of the week.",
        figures=(
            Figure("Symbols that rose", "312 of 500", "62 %; the day before 41 %", _CANDLES),
            Figure("Median return", "+0.42 %", "BTCUSDT +4.2 %", _CANDLES),
            Figure("Quote volume", "38.2B USDT", "11 % above the week's mean", _CANDLES),
            Figure("Funding paid", NO_VALUE, "no rate settled on this day", _LAKE),
        ),
        charts=(
            Chart(
                f"{HOSTILE}USDT led and $A_{{b}}$USDT fell most",
                *("bars", returns, "symbol", "return", None, "%", _CANDLES),
                note="Returns from the first open to the last close.",
            ),
            Chart(
                "All leaders rose after noon",
                *("lines", walks, "time", "return", "symbol", "%", _CANDLES),
            ),
            Chart(
                "Volatility stayed within its band",
                *("band", spread, "time", "median", None, "% an hour", _CANDLES),
            ),
            Chart(
                "Volume came with the American morning",
                *("bars", volume, "time", "volume", None, "USDT", _CANDLES),
            ),
            Chart(
                "Three coins moved together",
                *("heatmap", near, "column", "correlation", "row", "correlation", _CANDLES),
            ),
        ),
        tables=(
            Table(
                "Movers",
                (
                    Column("symbol"),
                    Column("return", "%", "right"),
                    Column("volume", "USDT", "right"),
                ),
                tuple((symbol, "+1.25", "1,234,567") for symbol in _SYMBOLS),
                _CANDLES,
                "The six with the largest volume.",
            ),
        ),
    )


def _candidates() -> Section:
    names = ("macd_cross", f"x{HOSTILE}", "bollinger_breakout")
    rows = [
        (name, horizon, 0.1 * place - 0.2)
        for place, name in enumerate(names)
        for horizon in ("15m", "1h", "4h")
    ]
    data = pl.DataFrame(rows, schema=["strategy", "horizon", "return"], orient="row")
    return Section(
        "candidates",
        "Candidates",
        "bollinger_breakout was right in 58 % of 214 candidates after an hour.",
        figures=(Figure("Candidates", "1,204", "the day before 998", _OUTCOMES),),
        charts=(
            Chart(
                "Only bollinger_breakout earned after an hour",
                *("bars", data, "strategy", "return", "horizon", "%", _OUTCOMES),
            ),
        ),
    )


def _decisions() -> Section:
    shares = [0.1, 0.3, 0.5, 0.7, 0.9]
    data = pl.DataFrame({"said": shares, "won": [0.15, 0.28, 0.47, 0.75, 0.8]})
    data = data.with_columns(low=pl.col("won") - 0.1, high=pl.col("won") + 0.1)
    return Section(
        "decisions",
        "Decisions",
        "The model's probabilities were right within their error.",
        charts=(
            Chart(
                "Probabilities were honest",
                *("calibration", data, "said", "won", None, "share that won", _OUTCOMES),
            ),
        ),
    )


def _trading() -> Section:
    reason = "No order was sent on this day: the trader was stopped."
    return Section("trading", "Orders and profit", reason, empty=reason)
