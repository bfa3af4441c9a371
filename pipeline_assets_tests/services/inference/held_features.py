"""A table of features in memory, with a fault that a test turns on. No tests here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.warehouse_connection import WarehouseError

LAG = timedelta(seconds=60)
NOON = datetime(2026, 11, 19, 12, tzinfo=UTC)
SYMBOLS = ("COIN0USDT", "COIN1USDT", "COIN2USDT")


@dataclass
class HeldFeatures:
    """Has a row of each symbol for every candle that is loaded by then.

    Attributes:
        symbols: those with history.
        loaded_late: after `available_at`, when a row is in the table.
        down: the warehouse does not answer.
        asked: interval and moment of each query.
    """

    symbols: Sequence[str] = SYMBOLS
    loaded_late: timedelta = timedelta(0)
    down: bool = False
    ends: datetime | None = None
    asked: list[tuple[Interval, datetime]] = field(default_factory=list)

    def newest(self, interval: Interval, symbols: Sequence[str], moment: datetime) -> pl.DataFrame:
        self.asked.append((interval, moment))
        if self.down:
            raise WarehouseError("The warehouse is down.")
        close = interval.floor(moment - LAG - self.loaded_late)
        if self.ends is not None:
            close = min(close, interval.floor(self.ends))
        rows = [
            {
                "symbol": each,
                "open_time": close - interval.span,
                "available_at": close + LAG,
                "change": float(number) if number else None,
            }
            for number, each in enumerate(self.symbols)
            if each in symbols
        ]
        times = dict.fromkeys(("open_time", "available_at"), pl.Datetime("us", "UTC"))
        return pl.DataFrame(rows, schema={"symbol": pl.String, **times, "change": pl.Float64})
