"""The assets of features: what a run merges and reports, what waits, and what a failure leaves."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dagster import ExecuteInProcessResult

from pipeline_assets.collection import feature_load
from pipeline_assets.resources.warehouse_features import FeatureTable
from pipeline_assets_tests.fixtures.funding import run_funding
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = "2026-11-20"


@pytest.fixture
def platform(platform: Platform) -> Platform:
    """Provide a platform that computes features."""
    return platform.with_settings(features={"enabled": True})


def test_switched_off_features_send_no_merge(platform: Platform) -> None:
    quiet = platform.with_settings(features={"enabled": False})
    before = platform.snowflake.statements()["MERGE INTO"]
    assert ingest(quiet, 0) == {"switched off by": "PIPELINE_FEATURES__ENABLED"}
    # One for the candles.
    assert platform.snowflake.statements()["MERGE INTO"] == before + 1


def merged(ended: ExecuteInProcessResult, asset: str = "features_15m") -> dict[str, Any]:
    [event] = ended.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def ingest(platform: Platform, minutes: int) -> dict[str, Any]:
    """Execute the ingest run of 15m so many minutes after noon; return the metadata of its features."""
    platform.exchange.set_clock(NOON + timedelta(minutes=minutes, seconds=5))
    return merged(platform.ingest("15m"))


def rows(platform: Platform) -> list[tuple[Any, ...]]:
    return platform.rows("select SYMBOL, OPEN_TIME, RETURN_1 from FEATURES_15M order by 1, 2")


def test_ingest_merges_each_load_once(platform: Platform) -> None:
    """An ingest run merges what it loaded; a repeat and a single materialization change nothing."""
    first = ingest(platform, 0)
    assert first["rows merged"] == first["rows inserted"] == 48 * len(SYMBOLS)
    assert first["newest available_at"] == "2026-11-20 12:01:00 UTC"
    assert first["MERGE (s)"] > 0
    assert ingest(platform, 15)["rows merged"] == len(SYMBOLS)
    held = rows(platform)
    assert [row[:2] for row in held] == [row[:2] for row in platform.table("15m")]
    assert ingest(platform, 16)["rows merged"] == 0
    alone = merged(platform.materialize("features_15m", DAY))
    assert alone["rows merged"] == 0
    assert rows(platform) == held


def test_features_wait_with_the_load(platform: Platform) -> None:
    """Where candles are loaded hourly, runs between merge nothing and send no MERGE."""
    hourly = platform.with_settings(ingest={"load_minutes": 60})
    assert ingest(hourly, 0)["rows merged"] == 48 * len(SYMBOLS)
    before = platform.snowflake.statements()["MERGE INTO"]
    waiting = ingest(hourly, 30)
    assert waiting == {"rows merged": 0, "merged until": "2026-11-20 12:00:00 UTC"}
    assert platform.snowflake.statements()["MERGE INTO"] == before
    assert ingest(hourly, 75)["rows merged"] == 5 * len(SYMBOLS)


def test_backfilled_rates_reach_the_features(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backfill of funding rates merges the features of all its months: rates are stored by months."""
    # A month takes two statements of an interval, as two weeks do, and not five.
    monkeypatch.setattr(feature_load, "_LONGEST", timedelta(days=16))
    ingest(platform, 0)
    known = "select count(*), count(FUNDING_RATE) from FEATURES_15M"
    assert platform.rows(known) == [(48 * len(SYMBOLS), 0)]
    ended = run_funding(platform, "funding_backfill", "2026-11-18", table=True)
    # Until an hour after midnight's settlement, the rate of the day before counts.
    assert platform.rows(known) == [(48 * len(SYMBOLS), 48 * len(SYMBOLS))]
    assert merged(ended)["rows updated"] == 48 * len(SYMBOLS)
    assert merged(ended, "features_1h")["rows merged"] == 0
    repeated = run_funding(platform, "funding_backfill", "2026-11-18", table=True)
    assert merged(repeated)["rows merged"] == 0


def test_failure_leaves_the_candles(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """A MERGE that fails fails its own step; the candles are loaded, and the next run catches up."""
    merge = FeatureTable.statement
    # Only this statement fails, as when the role may not write the table.
    monkeypatch.setattr(FeatureTable, "statement", lambda *_: "MERGE INTO NOWHERE")
    platform.exchange.set_clock(NOON + timedelta(seconds=5))
    failed = platform.ingest("15m", raise_on_error=False)
    assert {event.step_key for event in failed.get_step_failure_events()} == {"features_15m"}
    assert len(platform.table("15m")) == 48 * len(SYMBOLS)
    monkeypatch.setattr(FeatureTable, "statement", merge)
    assert ingest(platform, 15)["rows merged"] == 49 * len(SYMBOLS)
