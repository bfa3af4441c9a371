"""The figures of a day's records, as a person reads them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import polars as pl

from pipeline_assets.trading.record_figures import day_figures
from pipeline_assets.trading.record_objects import Kind

_FIRST = datetime(2026, 11, 1, tzinfo=UTC)


def fills(count: int) -> pl.DataFrame:
    """Return fills, one a minute; the last one's order has no strategy."""
    numbers = range(1, count + 1)
    return pl.DataFrame(
        {
            "filled_at": [_FIRST + timedelta(minutes=each) for each in numbers],
            "symbol": "BTCUSDT",
            "strategy": ["" if each == count else "cross 1" for each in numbers],
            "side": "buy",
            "quantity": [Decimal(each) for each in numbers],
            "price": Decimal(100),
            "fee": Decimal("0.5"),
        }
    )


def test_newest_fills_come_first() -> None:
    """The table is short, so it has the newest rows; an order without a strategy is by hand."""
    table = day_figures(Kind.FILLS, fills(50))["newest fills"]
    assert list(table.columns) == [
        "time", "symbol", "strategy", "side", "quantity", "price", "fee",
    ]  # fmt: skip
    first, second, *_ = table.rows
    assert first == ("2026-11-01 00:50:00 UTC", "BTCUSDT", "by hand", "buy", 50.0, 100.0, 0.5)
    assert second[2] == "cross 1"
    assert len(table.rows) == 20
