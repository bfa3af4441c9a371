"""Ingest runs that load their table every few hours: what waits, what a missed load loses (nothing)."""

from datetime import UTC, datetime, timedelta

from dagster import AssetKey

from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def ingest(platform: Platform, minutes: int) -> dict[str, object]:
    """Execute the ingest run of 15m so many minutes after noon; return the metadata of its load."""
    platform.exchange.set_clock(NOON + timedelta(minutes=minutes, seconds=5))
    ended = platform.ingest("15m")
    [event] = ended.asset_materializations_for_node("candle_table_15m")
    assert event.asset_key == AssetKey("candle_table_15m")
    return {name: value.value for name, value in event.metadata.items()}


def loaded(platform: Platform) -> tuple[int, datetime]:
    """How many candles of a symbol the table holds, and the newest open time."""
    times = [row[1] for row in platform.table("15m") if row[0] == SYMBOLS[0]]
    return len(times), max(times)


def test_loads_when_due_and_makes_up_a_missed_load(platform: Platform) -> None:
    """Hourly loads: 12:30 waits, nothing runs at 13:00, and 13:15 loads all that is stored."""
    hourly = platform.with_settings(ingest={"load_minutes": 60})
    assert ingest(hourly, 0)["objects"] == len(SYMBOLS)
    assert loaded(hourly) == (48, NOON - timedelta(minutes=15))
    waits = ingest(hourly, 30)
    assert (waits["objects"], waits["next load"]) == (0, "2026-11-20 13:00:00 UTC")
    assert loaded(hourly) == (48, NOON - timedelta(minutes=15))
    assert ingest(hourly, 75)["objects"] == len(SYMBOLS)
    assert loaded(hourly) == (53, NOON + timedelta(minutes=60))
    assert ingest(hourly, 90)["objects"] == 0
    hourly.backfill("15m", "2026-11-20")
    assert loaded(hourly) == (54, NOON + timedelta(minutes=75))


def test_default_loads_at_each_run_and_keeps_no_note(platform: Platform) -> None:
    assert ingest(platform, 0)["objects"] == len(SYMBOLS)
    assert ingest(platform, 15)["objects"] == len(SYMBOLS)
    assert loaded(platform) == (49, NOON)
    assert "state/15m.loaded.json" not in platform.objects("state/")
