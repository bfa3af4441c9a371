"""Live features: few queries, no gap in decisions, and honest reasons where features are missing."""

from collections import Counter
from datetime import datetime, timedelta

import polars as pl
import pytest

from pipeline_assets.market.intervals import Interval
from pipeline_assets.services.inference.live_features import LiveFeatures
from pipeline_assets_tests.services.inference.held_features import (
    LAG,
    NOON,
    SYMBOLS,
    HeldFeatures,
)

QUARTER, HOUR = Interval.FIFTEEN_MINUTES, Interval.ONE_HOUR
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def _live(table: HeldFeatures) -> LiveFeatures:
    return LiveFeatures(table, lambda: SYMBOLS, LAG)


def _refreshed(live: LiveFeatures, start: datetime, end: datetime) -> int:
    """Refresh each second, as the service does; return the number of queries."""
    return sum(
        live.refresh(start + number * SECOND) for number in range(int((end - start) / SECOND))
    )


def test_a_day_costs_one_query_a_candle() -> None:
    """96 queries of 15m and 24 of 1h, and the one of the start each."""
    table = HeldFeatures()
    live = _live(table)
    start = NOON + 10 * MINUTE
    _refreshed(live, start, start + timedelta(hours=24))
    assert Counter(interval for interval, _ in table.asked) == {QUARTER: 97, HOUR: 25}
    assert all(moment >= QUARTER.floor(moment - LAG) + LAG for _, moment in table.asked[2:])


def test_new_candle_is_read_before_its_candidates() -> None:
    """Candidates of the minute after a load reach the service ten seconds after their candle's close."""
    table = HeldFeatures()
    live = _live(table)
    _refreshed(live, NOON - MINUTE, NOON + LAG + 5 * SECOND)
    assert live.frames is not None
    assert live.frames[QUARTER]["available_at"].max() == NOON + LAG
    # A candidate of the minute before needs the row before.
    assert live.refusal(SYMBOLS[0], NOON) == ""
    assert set(live.frames[QUARTER]["available_at"]) == {NOON + LAG, NOON + LAG - QUARTER.span}


def test_late_load_is_asked_for_again() -> None:
    """At growing pauses, and with a limit: a load that never comes must not keep a warehouse awake."""
    table = HeldFeatures(loaded_late=timedelta(seconds=30))
    live = _live(table)
    _refreshed(live, NOON + 5 * MINUTE, NOON + 14 * MINUTE)
    table.asked.clear()
    _refreshed(live, NOON + 14 * MINUTE, NOON + 29 * MINUTE)
    assert [interval for interval, _ in table.asked] == [QUARTER] * 3
    table.ends = NOON + 15 * MINUTE
    table.asked.clear()
    _refreshed(live, NOON + 29 * MINUTE, NOON + 44 * MINUTE)
    assert len(table.asked) == 6


def test_first_history_is_found_within_minutes() -> None:
    """Tables that were empty at the start are asked again before the next candle, every five minutes."""
    table = HeldFeatures(symbols=())
    live = _live(table)
    _refreshed(live, NOON + 2 * MINUTE, NOON + 8 * MINUTE)
    assert live.refusal(SYMBOLS[0], NOON + 8 * MINUTE) == "features_missing"
    table.symbols = SYMBOLS
    table.asked.clear()
    _refreshed(live, NOON + 8 * MINUTE, NOON + 14 * MINUTE)
    assert live.refusal(SYMBOLS[0], NOON + 14 * MINUTE) == ""
    assert sorted(interval for interval, _ in table.asked) == [QUARTER, HOUR]


def test_warehouse_outage_of_ten_minutes() -> None:
    """Features that are young enough serve on; then `warehouse_down`; back again after the outage."""
    table = HeldFeatures()
    live = _live(table)
    _refreshed(live, NOON + 5 * MINUTE, NOON + 10 * MINUTE)
    table.down = True
    table.asked.clear()
    seen = []
    for minute in range(10, 20):
        now = NOON + minute * MINUTE
        _refreshed(live, now, now + MINUTE)
        seen.append(live.refusal(SYMBOLS[1], now))
    # The row of 12:00 became available at 12:01, and may be 17 minutes old.
    assert seen == [""] * 9 + ["warehouse_down"]
    assert len(table.asked) <= 5
    table.down = False
    _refreshed(live, NOON + 20 * MINUTE, NOON + 22 * MINUTE)
    assert live.refusal(SYMBOLS[1], NOON + 22 * MINUTE) == ""


def test_start_without_a_warehouse() -> None:
    table = HeldFeatures(down=True)
    live = _live(table)
    assert live.refusal(SYMBOLS[0], NOON) == "warehouse_down"
    _refreshed(live, NOON, NOON + 5 * MINUTE)
    assert live.refusal(SYMBOLS[0], NOON) == "warehouse_down"
    assert live.frames is None
    assert len(table.asked) == 10


@pytest.mark.parametrize(
    ("symbol", "ends", "reason"),
    [
        ("NEWUSDT", None, "features_missing"),
        (SYMBOLS[0], None, ""),
        (SYMBOLS[0], NOON - timedelta(hours=1), "features_old"),
    ],
)
def test_unusable_features_are_named(symbol: str, ends: datetime | None, reason: str) -> None:
    """A symbol without history, and a load that stopped."""
    live = _live(HeldFeatures(ends=ends))
    live.refresh(NOON + 5 * MINUTE)
    assert live.refusal(symbol, NOON + 5 * MINUTE) == reason


def test_kept_rows_stay_few() -> None:
    live = _live(HeldFeatures())
    _refreshed(live, NOON, NOON + timedelta(hours=5))
    assert live.frames is not None
    most = {interval: frame.height for interval, frame in live.frames.items()}
    assert all(height <= 3 * len(SYMBOLS) for height in most.values())
    assert all(isinstance(frame, pl.DataFrame) for frame in live.frames.values())
