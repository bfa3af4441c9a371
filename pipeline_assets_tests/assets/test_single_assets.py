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


def test_each_asset_of_the_open_day_materializes_alone(minutes: Platform) -> None:
    ticked = minutes.tick("1m")
    before = minutes.stored("1m")
    rows = metadata(ticked, "candles_1m")["rows"]
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


def test_each_asset_of_a_table_materializes_alone(platform: Platform) -> None:
    platform.backfill("1h", YESTERDAY)
    before = platform.table("1h")
    for asset in ("candles_1h", "candle_objects_1h", "candle_table_1h"):
        assert platform.materialize(asset, YESTERDAY).success
    assert platform.table("1h") == before


def test_one_day_of_a_range_materializes_alone(minutes: Platform) -> None:
    """The run that fetched the day had more days, whose rows are left alone."""
    minutes.backfill("15m", "2026-11-17", YESTERDAY, without="candle_table_15m")
    before = minutes.objects("ohlcv/")
    made = metadata(minutes.materialize("candles_15m", "2026-11-18"), "candles_15m")
    assert made["rows"] == 3 * 96
    stored = minutes.materialize("candle_objects_15m", "2026-11-18")
    assert metadata(stored, "candle_objects_15m")["objects"] == 3
    assert minutes.objects("ohlcv/") == before
    narrower = ("2026-11-17", "2026-11-18")
    assert metadata(minutes.materialize("candles_15m", narrower), "candles_15m")["rows"] == 6 * 96


def test_two_runs_on_one_day_read_their_own_rows(minutes: Platform) -> None:
    """A whole day is fetched for one symbol between the steps of an ingest run of all."""
    done: list[str] = []

    class Interleaved(ObjectStore):
        def put(self, key: str, body: bytes) -> str:
            etag = super().put(key, body)
            if key.endswith(".plan.json") and not done:
                done.append(key)
                other = minutes.backfill("1m", TODAY, symbols=["BTCUSDT"])
                assert metadata(other, "candles_1m")["symbols"] == 1
            return etag

    ticked = minutes.tick("1m", store=Interleaved(minutes.settings.s3))
    assert done
    assert metadata(ticked, "candles_1m")["symbols"] == 3
    assert metadata(ticked, "candle_objects_1m")["symbols"] == 3


def test_a_failed_step_that_is_executed_again_reads_its_own_run(minutes: Platform) -> None:
    class Broken(ObjectStore):
        def put(self, key: str, body: bytes) -> str:
            if key.endswith(Output.OBJECTS):
                raise RuntimeError("the disk burns")
            return super().put(key, body)

    failed = minutes.tick("1m", raise_on_error=False, store=Broken(minutes.settings.s3))
    assert not failed.success
    minutes.exchange.advance(60)
    minutes.tick("1m", symbols=["BTCUSDT"])
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
def test_an_asset_without_input_says_what_to_select(
    minutes: Platform, asset: str, select: str
) -> None:
    """Outputs of an earlier version, whose keys name the run only, are passed over."""
    run = "5f2c5e0e-95ae-4d0e-8f8c-0c62aee4a0c1"
    for key in (f"raw/1m/{run}.parquet", f"staging/1m/{run}.plan.json"):
        minutes.bucket.client.put_object(Bucket=minutes.bucket.name, Key=key, Body=b"old")
    with pytest.raises(StagingError) as caught:
        minutes.materialize(asset, YESTERDAY)
    message = str(caught.value)
    assert f"Select {select} together with " in message
    assert f"is retained for {YESTERDAY}" in message


def test_an_asset_whose_raw_rows_are_retained_asks_for_the_format_only(minutes: Platform) -> None:
    minutes.materialize("raw_candles_1m", YESTERDAY)
    with pytest.raises(
        StagingError, match="Select candles_1m together with candle_objects_1m, and materialize"
    ):
        minutes.materialize("candle_objects_1m", YESTERDAY)
    minutes.materialize("candles_1m", YESTERDAY)
    assert minutes.materialize("candle_objects_1m", YESTERDAY).success


def test_days_of_several_runs_are_materialized_one_by_one(minutes: Platform) -> None:
    for each in ("2026-11-18", YESTERDAY):
        minutes.materialize("raw_candles_1m", each)
    with pytest.raises(StagingError, match="single partitions"):
        minutes.materialize("candles_1m", ("2026-11-18", YESTERDAY))
    assert minutes.materialize("candles_1m", "2026-11-18").success


def test_a_fetch_that_failed_is_no_input(minutes: Platform) -> None:
    minutes.tick("1m")
    with pytest.raises(Exception, match="NOSUCHUSDT"):
        minutes.tick("1m", symbols=["NOSUCHUSDT"])
    made = metadata(minutes.materialize("candles_1m", TODAY), "candles_1m")
    assert made["symbols"] == 3
