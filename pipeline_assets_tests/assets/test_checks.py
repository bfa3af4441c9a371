"""Asset checks report stored data that a test has damaged, and name the damage."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from dagster import AssetCheckEvaluation, AssetCheckSeverity, DagsterEventType, DagsterRun
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import create_execution_plan, execute_run

from pipeline_assets.definitions import build_definitions
from pipeline_assets_tests.fixtures.exchange import start_exchange
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform

DAY = datetime(2026, 11, 19, tzinfo=UTC)
CHINESE = SYMBOLS[2]


def evaluations(platform: Platform, run_id: str, name: str) -> dict[str | None, Any]:
    """Return a check's evaluations in a run, by partition."""
    logs = platform.instance.all_logs(run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)
    found = [entry.dagster_event.asset_check_evaluation_data for entry in logs]
    return {each.partition: each for each in found if each.check_name == name}


def only(platform: Platform, run_id: str, name: str) -> AssetCheckEvaluation:
    [found] = evaluations(platform, run_id, name).values()
    return found


def records(evaluation: AssetCheckEvaluation, name: str) -> list[dict[str, Any]]:
    return [dict(record.data) for record in evaluation.metadata[name].records]


def rewrite(platform: Platform, key: str, change: Any) -> None:
    """Replace a stored object's rows by `change` of them, past the product."""
    [body] = platform.objects(key).values()
    reported = pl.read_parquet_metadata(io.BytesIO(body))
    names = ("interval", "symbol", "window_start", "window_end")
    changed = io.BytesIO()
    rows = change(pl.read_parquet(io.BytesIO(body)))
    rows.write_parquet(changed, metadata={name: reported[name] for name in names})
    platform.bucket.client.put_object(Bucket=platform.bucket.name, Key=key, Body=changed.getvalue())


def check_again(platform: Platform, interval: str, run_id: str) -> DagsterRun:
    """Execute only the checks of whole days of a run again, as from its page in the UI."""
    before = platform.instance.get_run_by_id(run_id)
    assert before is not None
    job = build_definitions(platform.settings).resolve_job_def(before.job_name)
    plan = create_execution_plan(
        job,
        before.run_config,
        step_keys_to_execute=[f"day_checks_{interval}"],
        tags=before.tags,
    )
    again = platform.instance.create_run_for_job(
        job,
        plan,
        run_config=before.run_config,
        tags=before.tags,
        root_run_id=before.root_run_id or run_id,
        parent_run_id=run_id,
    )
    assert execute_run(InMemoryJob(job), again, platform.instance).success
    return again


def at(hour: int, minute: int = 0) -> pl.Expr:
    return pl.col("open_time") == DAY + timedelta(hours=hour, minutes=minute)


def test_complete_names_removed_candles(minutes: Platform) -> None:
    """`complete` names the candles that somebody removed."""
    first = minutes.backfill("1m", "2026-11-19")
    assert only(minutes, first.run_id, "complete").passed
    assert "4,320 candles of 3 symbols" in only(minutes, first.run_id, "complete").description
    rewrite(
        minutes,
        f"ohlcv/1m/{CHINESE}/20261119_0000.parquet",
        lambda rows: rows.filter(
            ~pl.col("open_time").is_between(
                DAY + timedelta(hours=7, minutes=3),
                DAY + timedelta(hours=7, minutes=10),
                closed="left",
            ),
            ~at(23, 59),
        ),
    )
    minutes.bucket.client.delete_object(
        Bucket=minutes.bucket.name, Key="ohlcv/1m/ETHUSDT/20261119_0000.parquet"
    )
    again = check_again(minutes, "1m", first.run_id)
    found = only(minutes, again.run_id, "complete")
    assert not found.passed
    assert found.severity is AssetCheckSeverity.ERROR
    assert "1,448 of 4,320 candles are missing" in found.description
    assert "Materialize this partition again" in found.description
    assert records(found, "missing") == [
        {
            "symbol": "ETHUSDT",
            "from": "2026-11-19 00:00:00 UTC",
            "until": "2026-11-20 00:00:00 UTC",
            "missing": 1440,
        },
        {
            "symbol": CHINESE,
            "from": "2026-11-19 07:03:00 UTC",
            "until": "2026-11-19 07:10:00 UTC",
            "missing": 7,
        },
        {
            "symbol": CHINESE,
            "from": "2026-11-19 23:59:00 UTC",
            "until": "2026-11-20 00:00:00 UTC",
            "missing": 1,
        },
    ]
    healed = minutes.backfill("1m", "2026-11-19")
    assert only(minutes, healed.run_id, "complete").passed


def test_outage_hides_no_removed_candles(
    minutes: Platform,
) -> None:
    """A confirmed outage is not missing; candles removed beside it are."""
    minutes.exchange.outages("2026-11-18T22:00:00Z/2026-11-18T23:00:00Z/BTCUSDT")
    result = minutes.backfill("1m", "2026-11-17", "2026-11-19")
    for name in ("complete", "window"):
        found = evaluations(minutes, result.run_id, name)
        assert [found[f"2026-11-{day}"].passed for day in (17, 18, 19)] == [True] * 3, name
    reported = evaluations(minutes, result.run_id, "complete")["2026-11-18"].description
    assert reported.startswith("All 4,260 candles of 3 symbols are there. 60 more do not exist")

    rewrite(
        minutes,
        "ohlcv/1m/BTCUSDT/20261118_0000.parquet",
        lambda rows: rows.filter(pl.col("open_time") != DAY - timedelta(hours=3)),
    )
    again = check_again(minutes, "1m", result.run_id)
    found = evaluations(minutes, again.run_id, "complete")["2026-11-18"]
    assert "1 of 4,320 candles are missing, the first of BTCUSDT" in found.description
    assert [row["from"] for row in records(found, "missing")] == ["2026-11-18 21:00:00 UTC"]


def test_day_without_objects_is_missing(minutes: Platform) -> None:
    """A day whose objects were all removed is missing and no outage."""
    result = minutes.backfill("1m", "2026-11-19")
    for symbol in SYMBOLS:
        key = f"ohlcv/1m/{symbol}/20261119_0000.parquet"
        minutes.bucket.client.delete_object(Bucket=minutes.bucket.name, Key=key)
    again = check_again(minutes, "1m", result.run_id)
    found = only(minutes, again.run_id, "complete")
    assert "4,320 of 4,320 candles are missing" in found.description


def test_ingest_window_names_gaps_and_failures(minutes: Platform) -> None:
    """The window check of an ingest run names its gaps and its failed symbols."""
    minutes.exchange.outages("2026-11-20T11:20:00Z/2026-11-20T11:25:00Z/ETHUSDT")
    misspelt = minutes.with_settings(symbols=("BTCUSDT", "ETHUSDT", "XRPUSD"))
    result = misspelt.ingest("1m")
    found = only(minutes, result.run_id, "window")
    assert not found.passed
    assert found.partition == "2026-11-20"
    assert "1 symbol failed, the first: XRPUSD" in found.description
    assert "5 candles missing, the first of ETHUSDT" in found.description
    assert [row["from"] for row in records(found, "missing")] == ["2026-11-20 11:20:00 UTC"]
    assert [row["symbol"] for row in records(found, "failures")] == ["XRPUSD"]
    assert evaluations(minutes, result.run_id, "complete") == {}, (
        "ingest runs check their window only"
    )


def test_consistent_names_altered_candle(
    platform: Platform,
) -> None:
    """`consistent` names an altered candle in whichever interval it is."""
    platform.backfill("1m", "2026-11-19")
    result = platform.backfill("15m", "2026-11-19")
    clean = only(platform, result.run_id, "consistent")
    assert clean.passed
    assert clean.description == "288 of 288 candles compared with 1m, 0 differences."

    key = "ohlcv/15m/BTCUSDT/20261119_0000.parquet"
    original = platform.objects(key)[key]
    rewrite(
        platform,
        key,
        lambda rows: rows.with_columns(
            pl.when(at(9, 30))
            .then(pl.col("close") + 0.1)
            .otherwise(pl.col("close"))
            .alias("close"),
            pl.when(at(9, 45))
            .then(pl.col("trades") + 1)
            .otherwise(pl.col("trades"))
            .alias("trades"),
            # The last bits of a sum of floats are no difference.
            (pl.col("volume") * (1 + 1e-12)).alias("volume"),
        ),
    )
    again = check_again(platform, "15m", result.run_id)
    found = only(platform, again.run_id, "consistent")
    assert not found.passed
    named = [(r["symbol"], r["open time"], r["column"]) for r in records(found, "differences")]
    assert ("BTCUSDT", "2026-11-19 09:45:00 UTC", "trades") in named

    platform.bucket.client.put_object(Bucket=platform.bucket.name, Key=key, Body=original)
    rewrite(
        platform,
        f"ohlcv/1m/{CHINESE}/20261119_0000.parquet",
        lambda rows: rows.with_columns(
            pl.when(at(3, 7)).then(pl.col("volume") * 2).otherwise(pl.col("volume")).alias("volume")
        ),
    )
    by_minutes = check_again(platform, "15m", result.run_id)
    [row] = records(only(platform, by_minutes.run_id, "consistent"), "differences")
    named_row = (row["symbol"], row["open time"], row["column"])
    assert named_row == (CHINESE, "2026-11-19 03:00:00 UTC", "volume")
    assert row["from 1m"] > row["stored"] > 0


def test_consistent_finds_price_outside_range(minutes: Platform) -> None:
    """`consistent` finds a price outside high and low."""
    result = minutes.backfill("1m", "2026-11-19")
    rewrite(
        minutes,
        "ohlcv/1m/ETHUSDT/20261119_0000.parquet",
        lambda rows: rows.with_columns(
            pl.when(at(12, 34)).then(pl.col("low") / 2).otherwise(pl.col("high")).alias("high")
        ),
    )
    again = check_again(minutes, "1m", result.run_id)
    found = only(minutes, again.run_id, "consistent")
    assert not found.passed
    assert "1 candle with a price outside high and low" in found.description
    assert "ETHUSDT at 2026-11-19 12:34:00 UTC" in found.description


def klines_file(directory: Path, symbol: str, volumes: Sequence[float]) -> None:
    """Write a person's own file of one day of minutes with these volumes."""
    start = int(DAY.timestamp() * 1000)
    count = len(volumes)
    pl.DataFrame(
        {
            "open_time": [start + 60_000 * i for i in range(count)],
            **dict.fromkeys(("open", "high", "low", "close"), [100.5] * count),
            "volume": volumes,
            "trades": [int(volume > 0) for volume in volumes],
        }
    ).write_parquet(directory / f"{symbol}-1m-day.parquet")


def test_mostly_tradeless_minutes_warn(minutes: Platform, tmp_path: Path) -> None:
    """Minutes that mostly have no trade give a warning and are stored."""
    klines_file(tmp_path, "QUIETUSDT", [0.0] * 1000 + [1.5] * 440)
    klines_file(tmp_path, "BUSYUSDT", [0.0] * 600 + [1.5] * 840)
    with start_exchange(candles=tmp_path, clock="stepped:2026-11-20T00:05:00Z") as own:
        files = minutes.with_settings(
            symbols=("QUIETUSDT", "BUSYUSDT"), binance={"rest_url": own.url.removesuffix("/fapi")}
        )
        files.exchange = own
        result = files.backfill("1m", "2026-11-19")
    found = only(files, result.run_id, "zero_volume")
    assert not found.passed
    assert found.severity is AssetCheckSeverity.WARN
    assert found.description == "1,600 of 2,880 candles have no volume; 1 symbol mostly."
    [row] = records(found, "symbols")
    assert (row["symbol"], row["rows"], row["zero volume"]) == ("QUIETUSDT", 1440, 1000)
    assert row["share"] == pytest.approx(0.694, abs=1e-3)
    assert files.stored("1m").filter(pl.col("volume") == 0).height == 1600
    assert only(files, result.run_id, "complete").passed
