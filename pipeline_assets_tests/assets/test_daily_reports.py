"""The assets of reports over real servers, and the command that reads what these stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from dagster import AssetKey, AssetMaterialization

from pipeline_assets.assets.run_records import run_records
from pipeline_assets.cli.main import cli
from pipeline_assets.market.windows import day_window
from pipeline_assets.resources.gap_objects import gap_schema, write_gaps
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures.platform import Platform
from pipeline_assets_tests.fixtures.webhook import Webhook

TODAY = datetime.now(UTC).date()
DAY = TODAY - timedelta(days=1)


def reported(platform: Platform, job: str, asset: str, partition: str) -> dict[str, Any]:
    """Execute a job; return the values that its asset reported."""
    [event] = platform.run(job, partition).asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


@pytest.fixture
def watched(platform: Platform, webhook: Webhook) -> Platform:
    """Provide a platform whose alerts go to a webhook."""
    alerts = type(platform.settings.alerts)(webhook_url=webhook.url)
    return platform.with_settings(alerts=alerts)


def test_day_without_data_is_reported(watched: Platform, webhook: Webhook) -> None:
    """An empty lake and warehouse make a report that says so; the summary is sent once."""
    shown = reported(watched, "report_day", "daily_report", str(DAY))
    assert shown["changed"]
    assert shown["summary sent"]
    assert shown["report"].endswith(f"/reports/{DAY:%Y%m%d}.html")
    assert "Nothing is stored of this span" in webhook.received[0]["text"]
    assert "Dagster's records could not be read" not in webhook.received[0]["text"]
    again = reported(watched, "report_day", "daily_report", str(DAY))
    assert not again["changed"]
    assert not again["summary sent"]
    assert len(webhook.received) == 1


def test_command_shows_stored_report(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The command makes a report that is not there, then reads it; a PDF goes into a file."""
    monkeypatch.setattr("pipeline_assets.cli.report.load_settings", lambda: platform.settings)
    run = CliRunner()
    made = run.invoke(cli, ("report", str(DAY), "--json"))
    assert made.exit_code == 0, made.output
    document = json.loads(made.stdout)
    assert document["name"] == f"{DAY:%Y%m%d}"
    assert document["report"].endswith(f"/reports/{DAY:%Y%m%d}.html")
    assert "Dagster's records could not be read" in document["warnings"][0]
    file = tmp_path / "day.pdf"
    read = run.invoke(cli, ("report", "--pdf", str(file)))
    assert read.exit_code == 0, read.output
    assert "Daily report:" in read.stdout
    assert file.read_bytes().startswith(b"%PDF-")
    later = run.invoke(cli, ("report", str(TODAY + timedelta(days=1))))
    assert "lies in the future" in str(later.exception)


def test_week_and_month_are_made(platform: Platform) -> None:
    """Weeks begin on Monday; each has its own key."""
    monday = DAY - timedelta(days=DAY.weekday() + 7)
    shown = reported(platform, "report_week", "weekly_report", str(monday))
    year, week, _ = monday.isocalendar()
    assert shown["report"].endswith(f"/reports/{year}-W{week:02d}.html")
    month = (DAY.replace(day=1) - timedelta(days=1)).replace(day=1)
    shown = reported(platform, "report_month", "monthly_report", str(month))
    assert shown["report"].endswith(f"/reports/{month:%Y%m}.html")
    assert not shown["summary sent"]


LOADS = (
    *("candle_table_15m", "candle_table_1h", "features_15m", "features_1h", "funding_table"),
    *("candidate_table", "decision_table", "intent_table", "order_table", "fill_table"),
    *("candidate_outcome_table", "candle_gap_table"),
)


def test_every_load_is_billed(platform: Platform) -> None:
    """The warehouse's time includes each table's loads; a load without an object sends no statement."""
    report = platform.instance.report_runless_asset_event
    for asset in LOADS:
        seconds = {"replace (s)": 0.75} if asset == "candle_gap_table" else {"MERGE (s)": 0.75}
        nothing = {"objects": 0, "COPY (s)": 0.0, "MERGE (s)": 0.0}
        for metadata in (seconds, nothing):
            report(AssetMaterialization(AssetKey(asset), partition=str(TODAY), metadata=metadata))
    records = run_records(platform.instance, day_window(datetime.now(UTC).date()))
    billed = [each.asset for each in records if each.warehouse == 0.75]
    assert sorted(billed) == sorted(LOADS)
    assert {each.warehouse for each in records} == {0.75, None}


def test_run_over_days_counts_once(platform: Platform) -> None:
    """A run that loads the ledgers of several days reports its seconds once."""
    store, days = ObjectStore(platform.settings.s3), (DAY - timedelta(days=1), DAY)
    for day in days:
        write_gaps(store, day, pl.DataFrame(schema=gap_schema()))
    platform.run("gap_ledger", tuple(map(str, days)), without="candle_gaps")
    [record] = run_records(platform.instance, day_window(datetime.now(UTC).date()))
    assert (record.asset, bool(record.warehouse)) == ("candle_gap_table", True)


def test_runs_of_day_are_read(platform: Platform) -> None:
    """Weight, delay and the warehouse's time come from the runs' own metadata."""
    instance = platform.instance
    for asset, metadata in (
        ("raw_candles_1m", {"weight spent": 12}),
        ("candle_slots_1m", {"lag (s)": 3.5}),
        ("candle_table_1h", {"COPY (s)": 0.5, "MERGE (s)": 0.25}),
        ("candle_table_1h", {"objects": 0}),
    ):
        event = AssetMaterialization(AssetKey(asset), partition=str(TODAY), metadata=metadata)
        instance.report_runless_asset_event(event)
    window = day_window(datetime.now(UTC).date())
    records = run_records(instance, window)
    assert sorted((each.asset, each.weight, each.lag, each.warehouse) for each in records[:2]) == [
        ("candle_slots_1m", 0, 3.5, None),
        ("raw_candles_1m", 12, None, None),
    ]
    assert {each.warehouse for each in records[2:]} == {0.75, None}
    assert run_records(instance, day_window(DAY)) == ()
