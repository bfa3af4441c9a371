"""Frames for the tests of market: rows that are right unless a test says otherwise. No tests here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from pipeline_assets.market.candidates import candidate_schema, indicators_text
from pipeline_assets.market.candles import CANDLE_COLUMNS, RAW_COLUMNS, candle_schema, raw_schema
from pipeline_assets.market.intervals import Interval, from_milliseconds, to_milliseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline_assets.market.candidates import Candidate

DAY_START = datetime(2026, 10, 25, tzinfo=UTC)


def raw_row(
    open_time: datetime = DAY_START,
    interval: Interval = Interval.ONE_MINUTE,
    symbol: str = "BTCUSDT",
    **changes: Any,
) -> dict[str, Any]:
    start = to_milliseconds(open_time)
    row = {
        "symbol": symbol,
        "open_time": start,
        "open": "100.10",
        "high": "101.00",
        "low": "99.5",
        "close": "100.20",
        "volume": "12.500",
        "close_time": start + {"1m": 60_000, "15m": 900_000, "1h": 3_600_000}[interval] - 1,
        "quote_volume": "1251.25000",
        "trades": 31,
        "taker_buy_volume": "6.250",
        "taker_buy_quote_volume": "625.6250",
        "ignore": "0",
    }
    return row | changes


def raw_frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=raw_schema(), orient="row")


def reply_body(rows: list[dict[str, Any]]) -> bytes:
    return orjson.dumps([[row[name] for name in RAW_COLUMNS[1:]] for row in rows])


def raw_of(candles: pl.DataFrame) -> pl.DataFrame:
    """Return what the exchange would have to send for these candles."""
    rows = [
        {name: str(value) if isinstance(value, float) else value for name, value in row.items()}
        | {
            "open_time": to_milliseconds(row["open_time"]),
            "close_time": to_milliseconds(row["close_time"]),
            "ignore": "0",
        }
        for row in candles.to_dicts()
    ]
    return raw_frame(rows)


def candle_frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Candles from rows of `raw_row`, by Python's own arithmetic."""
    typed = [
        {
            name: float(value) if isinstance(value, str) and name != "symbol" else value
            for name, value in row.items()
        }
        | {
            "open_time": from_milliseconds(row["open_time"]),
            "close_time": from_milliseconds(row["close_time"]),
        }
        for row in rows
    ]
    columns = [[row[name] for name in CANDLE_COLUMNS] for row in typed]
    return pl.DataFrame(columns, schema=candle_schema(), orient="row")


def candidates_frame(candidates: Sequence[Candidate]) -> pl.DataFrame:
    """Return candidates as the frame that an evaluation finds them in, in the order given."""
    rows = [
        candidate.model_dump() | {"indicators": indicators_text(candidate.indicators)}
        for candidate in candidates
    ]
    for row in rows:
        row["interval"] = row["interval"].value
    return pl.DataFrame(rows, schema=candidate_schema(), orient="row")
