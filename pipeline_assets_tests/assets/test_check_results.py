"""A check's result as Dagster shows it: by partition, and current after the partition's latest
materialization."""

from collections.abc import Sequence

from dagster import AssetCheckKey, AssetKey, AssetRecordsFilter, ExecuteInProcessResult
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from pipeline_assets_tests.fixtures.platform import Platform

OBJECTS = AssetKey("candle_objects_1m")
CHECKS = ("window", "zero_volume", "complete", "consistent")
DAYS = ("2026-11-17", "2026-11-18", "2026-11-19")
PASSED = AssetCheckExecutionRecordStatus.SUCCEEDED
FAILED = AssetCheckExecutionRecordStatus.FAILED


def shown(platform: Platform, name: str, days: Sequence[str] = DAYS) -> dict[str, tuple]:
    """Return by partition the status of a check's latest evaluation, and whether Dagster takes it for one
    of the partition's latest materialization."""
    infos = platform.instance.event_log_storage.get_asset_check_partition_info(
        [AssetCheckKey(OBJECTS, name)], partition_keys=days
    )
    return {info.partition_key: (info.latest_execution_status, info.is_current) for info in infos}


def latest_materialization(platform: Platform, day: str) -> tuple[int, str]:
    chosen = AssetRecordsFilter(asset_key=OBJECTS, asset_partitions=[day])
    [record] = platform.instance.fetch_materializations(chosen, limit=1).records
    return record.storage_id, record.run_id


def backfill_with_a_hole(platform: Platform) -> ExecuteInProcessResult:
    """Run over three days, the middle one with rows that cannot be candles."""
    for day in (DAYS[0], DAYS[2]):
        platform.backfill("1m", day, symbols=["BTCUSDT"])
    platform.exchange.faults(malformed_rows=1)
    return platform.backfill("1m", DAYS[0], DAYS[-1], symbols=["BTCUSDT"])


def test_each_day_has_its_own_results(minutes: Platform) -> None:
    """Every day of a range has current check results of its own."""
    backfill_with_a_hole(minutes)
    for name in ("window", "complete"):
        assert shown(minutes, name) == {
            DAYS[0]: (PASSED, True),
            DAYS[1]: (FAILED, True),
            DAYS[2]: (PASSED, True),
        }, name
    for name in ("zero_volume", "consistent"):
        assert shown(minutes, name) == dict.fromkeys(DAYS, (PASSED, True)), name


def test_run_result_sums_up_the_range(minutes: Platform) -> None:
    """The result of a run over a range sums up its days."""
    result = backfill_with_a_hole(minutes)
    sums = {
        each.check_name: each
        for each in result.get_asset_check_evaluations()
        if each.partition is None
    }
    assert {name: sums[name].passed for name in CHECKS} == {
        "window": False,
        "zero_volume": True,
        "complete": False,
        "consistent": True,
    }
    assert sums["complete"].description.startswith("1 of 3 days failed. 2026-11-18: 3 of 1,440 ")


def test_single_day_has_current_result(minutes: Platform) -> None:
    """A day materialized alone has a current result."""
    minutes.exchange.outages("2026-11-18T22:00:00Z/2026-11-18T23:00:00Z")
    minutes.backfill("1m", DAYS[0], DAYS[-1], symbols=["BTCUSDT"])
    minutes.exchange.outages()
    minutes.backfill("1m", DAYS[1], symbols=["BTCUSDT"], refresh=True)
    for name in CHECKS:
        assert shown(minutes, name) == dict.fromkeys(DAYS, (PASSED, True)), name


def test_evaluation_names_its_materialization(minutes: Platform) -> None:
    """An evaluation names the materialization that it judged."""
    first = minutes.backfill("1m", DAYS[0], DAYS[1], symbols=["BTCUSDT"])
    second = minutes.backfill("1m", DAYS[1], DAYS[2], symbols=["BTCUSDT"])
    for run, day in ((first, DAYS[0]), (second, DAYS[1]), (second, DAYS[2])):
        judged = {
            each.check_name: each.target_materialization_data
            for each in run.get_asset_check_evaluations()
            if each.partition == day
        }
        assert judged.keys() == set(CHECKS)
        for target in judged.values():
            assert (target.storage_id, target.run_id) == latest_materialization(minutes, day)
            assert target.run_id == run.run_id


def test_ingest_outdates_whole_day_results(
    minutes: Platform,
) -> None:
    """An ingest run makes the results of whole days outdated, and not its own."""
    today = "2026-11-20"
    minutes.backfill("1m", today, symbols=["BTCUSDT"])
    assert shown(minutes, "complete", [today]) == {today: (PASSED, True)}
    minutes.exchange.advance(60)
    minutes.ingest("1m", symbols=["BTCUSDT"])
    assert shown(minutes, "complete", [today]) == {today: (PASSED, False)}
    assert shown(minutes, "window", [today]) == {today: (PASSED, True)}
