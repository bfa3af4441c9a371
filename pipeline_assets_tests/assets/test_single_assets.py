"""Single assets and checks of a partition, materialized without those before them."""

from typing import Any

import pytest
from dagster import DagsterRunStatus
from polars.testing import assert_frame_equal

from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import Output, Staged, StagingError
from pipeline_assets_tests.fixtures.platform import Platform, day

YESTERDAY, TODAY = "2026-11-19", "2026-11-20"


def metadata(result: Any, asset: str) -> dict[str, Any]:
    """Return what the step said; a run over several days says the same of each."""
    made = result.asset_materializations_for_node(asset)[0]
    return {name: value.value for name, value in made.metadata.items()}


def test_open_day_assets_materialize_alone(minutes: Platform) -> None:
    """Each asset of the open day materializes alone."""
    ingested = minutes.ingest("1m")
    before = minutes.stored("1m")
    rows = metadata(ingested, "candles_1m")["rows"]
    assert metadata(minutes.materialize("candles_1m", TODAY), "candles_1m")["rows"] == rows
    minutes.bucket.client.delete_object(
        Bucket=minutes.bucket.name, Key="ohlcv/1m/ETHUSDT/20261120_1100.parquet"
    )
    minutes.materialize("candle_objects_1m", TODAY)
    assert_frame_equal(minutes.stored("1m"), before)
    slots = metadata(minutes.materialize("candle_slots_1m", TODAY), "candle_slots_1m")
    assert slots["symbols"] == 3
    assert minutes.materialize("raw_candles_1m", TODAY).success
    for check in ("complete", "consistent"):
        made = minutes.materialize(f"candle_objects_1m:{check}", TODAY)
        assert {e.check_name: e.passed for e in made.get_asset_check_evaluations()}[check]


def test_table_assets_materialize_alone(platform: Platform) -> None:
    """Each asset of a table materializes alone."""
    platform.backfill("1h", YESTERDAY)
    before = platform.table("1h")
    for asset in ("candles_1h", "candle_objects_1h", "candle_table_1h"):
        assert platform.materialize(asset, YESTERDAY).success
    assert platform.table("1h") == before


def test_one_day_materializes_alone(minutes: Platform) -> None:
    """One day of a range materializes alone.

    The run that fetched the day had more days, whose rows are left alone.
    """
    minutes.backfill("15m", "2026-11-17", YESTERDAY, without="candle_table_15m")
    before = minutes.objects("ohlcv/")
    made = metadata(minutes.materialize("candles_15m", "2026-11-18"), "candles_15m")
    assert made["rows"] == 3 * 96
    stored = minutes.materialize("candle_objects_15m", "2026-11-18")
    assert metadata(stored, "candle_objects_15m")["objects"] == 3
    assert minutes.objects("ohlcv/") == before
    narrower = ("2026-11-17", "2026-11-18")
    assert metadata(minutes.materialize("candles_15m", narrower), "candles_15m")["rows"] == 6 * 96


def test_concurrent_runs_read_own_rows(minutes: Platform) -> None:
    """Two runs on one day read their own rows.

    A whole day is fetched for one symbol between the steps of an ingest run of all.
    """
    done: list[str] = []

    class Interleaved(ObjectStore):
        def put(self, key: str, body: bytes) -> str:
            etag = super().put(key, body)
            if key.endswith(".plan.json") and not done:
                done.append(key)
                other = minutes.backfill("1m", TODAY, symbols=["BTCUSDT"])
                assert metadata(other, "candles_1m")["symbols"] == 1
            return etag

    ingested = minutes.ingest("1m", store=Interleaved(minutes.settings.s3))
    assert done
    assert metadata(ingested, "candles_1m")["symbols"] == 3
    assert metadata(ingested, "candle_objects_1m")["symbols"] == 3


def test_reexecuted_step_reads_own_run(minutes: Platform) -> None:
    """A failed step that is executed again reads its own run."""

    class Broken(ObjectStore):
        def put(self, key: str, body: bytes) -> str:
            if key.endswith(Output.OBJECTS):
                raise RuntimeError("the disk burns")
            return super().put(key, body)

    failed = minutes.ingest("1m", raise_on_error=False, store=Broken(minutes.settings.s3))
    assert not failed.success
    minutes.exchange.advance(60)
    minutes.ingest("1m", symbols=["BTCUSDT"])
    again = minutes.run_failed_steps_again(failed)
    assert again.status is DagsterRunStatus.SUCCESS
    own = Staged(Interval.ONE_MINUTE, day(TODAY), day(TODAY), failed.run_id)
    assert own.key(Output.OBJECTS) in minutes.objects("staging/")


@pytest.mark.parametrize(
    ("asset", "select"),
    [
        ("candles_1m", "raw_candles_1m"),
        ("candle_slots_1m", "raw_candles_1m and candles_1m"),
        ("candle_objects_1m", "raw_candles_1m and candles_1m"),
        ("candle_table_15m", "raw_candles_15m and candles_15m and candle_objects_15m"),
        ("candle_objects_1m:complete", "raw_candles_1m and candles_1m and candle_objects_1m"),
    ],
)
def test_missing_input_names_asset_to_select(minutes: Platform, asset: str, select: str) -> None:
    """The error of an asset without input says which asset to select.

    Outputs of an earlier version, whose keys name the run only, are passed over.
    """
    run = "5f2c5e0e-95ae-4d0e-8f8c-0c62aee4a0c1"
    for key in (f"raw/1m/{run}.parquet", f"staging/1m/{run}.plan.json"):
        minutes.bucket.client.put_object(Bucket=minutes.bucket.name, Key=key, Body=b"old")
    with pytest.raises(StagingError) as caught:
        minutes.materialize(asset, YESTERDAY)
    message = str(caught.value)
    assert f"Select {select} together with " in message
    assert f"is retained for {YESTERDAY}" in message


def test_retained_raw_rows_need_only_format(minutes: Platform) -> None:
    """An asset whose raw rows are retained needs only the format step."""
    minutes.materialize("raw_candles_1m", YESTERDAY)
    with pytest.raises(
        StagingError, match="Select candles_1m together with candle_objects_1m, and materialize"
    ):
        minutes.materialize("candle_objects_1m", YESTERDAY)
    minutes.materialize("candles_1m", YESTERDAY)
    assert minutes.materialize("candle_objects_1m", YESTERDAY).success


def test_days_of_runs_materialize_separately(minutes: Platform) -> None:
    """Days of several runs are materialized one by one."""
    for each in ("2026-11-18", YESTERDAY):
        minutes.materialize("raw_candles_1m", each)
    with pytest.raises(StagingError, match="single partitions"):
        minutes.materialize("candles_1m", ("2026-11-18", YESTERDAY))
    assert minutes.materialize("candles_1m", "2026-11-18").success


def test_failed_fetch_is_no_input(minutes: Platform) -> None:
    """A fetch that failed is no input."""
    minutes.ingest("1m")
    with pytest.raises(Exception, match="NOSUCHUSDT"):
        minutes.ingest("1m", symbols=["NOSUCHUSDT"])
    made = metadata(minutes.materialize("candles_1m", TODAY), "candles_1m")
    assert made["symbols"] == 3
