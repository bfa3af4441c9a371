"""Housekeeping removes old runs and leftovers, and keeps all that is still needed."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetCheckEvaluation, AssetCheckKey, AssetKey, DagsterInstance, RunsFilter
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.dagster_run import DagsterRunStatus

from pipeline_assets.definitions import build_definitions
from pipeline_assets.jobs import housekeeping as module
from pipeline_assets.resources.staging import StagingError
from pipeline_assets_tests.fixtures.damage import encoded_day, flip_bit, store_damaged
from pipeline_assets_tests.fixtures.funding import run_funding
from pipeline_assets_tests.fixtures.platform import Platform

MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)
YESTERDAY, TODAY = "2026-11-19", "2026-11-20"
ASSETS = ("raw_candles_1m", "candles_1m", "candle_objects_1m", "candle_slots_1m")


class Later(datetime):
    """The machine's clock in some days, for what is judged by age."""

    days = 0.0
    stopped_at: datetime | None = None

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return (cls.stopped_at or datetime.now(tz)) + timedelta(days=cls.days)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Later]]:
    monkeypatch.setattr(module, "datetime", Later)
    yield Later
    Later.days, Later.stopped_at = 0.0, None


class NoWarehouse:
    """A warehouse that must not be asked; its own tests ask a real one."""

    def drop_landing_tables(self, older_than: datetime) -> list[str]:
        self.older_than = older_than
        return ["LANDING_OF_A_DEAD_RUN"]


def housekeep(platform: Platform) -> dict[str, int]:
    """Run the job; what each removal counted."""
    job = build_definitions(platform.settings, warehouse=NoWarehouse()).resolve_job_def(
        "housekeeping"
    )
    result = job.execute_in_process(instance=platform.instance)
    names = (
        "delete_tick_runs",
        "delete_event_leftovers",
        "delete_staged_objects",
        "drop_landing_tables",
    )
    return {name: int(result.output_for_node(name)) for name in names}


def materialized(instance: DagsterInstance) -> dict[str, list[str]]:
    """Return by asset the partitions that Dagster shows green."""
    return {name: sorted(instance.get_materialized_partitions(AssetKey(name))) for name in ASSETS}


def runs_of(platform: Platform, partition: str) -> list[str]:
    chosen = RunsFilter(job_name="tick_1m", tags={"dagster/partition": partition})
    return [run.run_id for run in platform.instance.get_runs(chosen)]


def ingest_at(platform: Platform, moment: datetime, partition: str) -> str:
    platform.exchange.set_clock(moment)
    return platform.ingest("1m", partition, symbols=["BTCUSDT"]).run_id


@pytest.fixture
def ingested(minutes: Platform) -> Platform:
    """Return the platform after two ingest runs of yesterday, for one symbol."""
    return ingested_twice(minutes)


@pytest.fixture(params=["memory", "postgres"])
def stored_anywhere(request: pytest.FixtureRequest, minutes: Platform) -> Platform:
    """Return the same, with Dagster's storage in memory and in PostgreSQL."""
    if request.param == "postgres":
        minutes = replace(minutes, instance=request.getfixturevalue("postgres_instance"))
    return ingested_twice(minutes)


def ingested_twice(minutes: Platform) -> Platform:
    one = minutes.with_settings(symbols=("BTCUSDT",))
    ingest_at(one, MIDNIGHT - timedelta(hours=23, seconds=-5), YESTERDAY)
    ingest_at(one, MIDNIGHT - timedelta(hours=22, seconds=-5), YESTERDAY)
    return one


def test_old_ingest_runs_go_days_stay(stored_anywhere: Platform, later: type[Later]) -> None:
    """Ingest runs of finalized days are removed, and the days stay green."""
    ingested = stored_anywhere
    ingest_at(ingested, MIDNIGHT + timedelta(minutes=1, seconds=5), TODAY)
    finalizing = ingested.run("backfill_1m", YESTERDAY)
    later.days = 2.1
    assert housekeep(ingested)["delete_tick_runs"] == 2
    assert runs_of(ingested, YESTERDAY) == []
    assert len(runs_of(ingested, TODAY)) == 1, "today is not finalized"
    assert ingested.instance.get_run_by_id(finalizing.run_id) is not None
    assert materialized(ingested.instance) == {name: [YESTERDAY, TODAY] for name in ASSETS}
    assert housekeep(ingested)["delete_tick_runs"] == 0


def test_young_and_failed_runs_stay(ingested: Platform, later: type[Later]) -> None:
    """Young ingest runs stay, and failed ones stay longer."""
    failed = ingested.ingest("1m", YESTERDAY, symbols=["NOSUCHUSDT"], raise_on_error=False)
    assert not failed.success
    ingested.exchange.set_clock(MIDNIGHT + timedelta(minutes=5, seconds=5))
    ingested.run("backfill_1m", YESTERDAY)
    later.days = 1.9
    assert housekeep(ingested)["delete_tick_runs"] == 0
    later.days = 2.1
    assert housekeep(ingested)["delete_tick_runs"] == 2
    assert runs_of(ingested, YESTERDAY) == [failed.run_id]
    kept = ingested.instance.get_run_by_id(failed.run_id)
    assert kept is not None
    assert kept.status is DagsterRunStatus.FAILURE
    later.days = 14.1
    assert housekeep(ingested)["delete_tick_runs"] == 1
    assert runs_of(ingested, YESTERDAY) == []


def test_superseded_funding_runs_go(minutes: Platform, later: type[Later]) -> None:
    """Old hourly runs of funding rates are removed but the day's last one."""
    ran = []
    for moment in (MIDNIGHT - timedelta(hours=7), MIDNIGHT + timedelta(minutes=5)):
        minutes.exchange.set_clock(moment)
        ran.append(run_funding(minutes, "funding", YESTERDAY, symbols=["BTCUSDT"]).run_id)
    later.days = 2.1
    assert housekeep(minutes)["delete_tick_runs"] == 1
    assert minutes.instance.get_run_by_id(ran[0]) is None
    assert minutes.instance.get_run_by_id(ran[1]) is not None
    rates = AssetKey("funding_rates")
    assert minutes.instance.get_materialized_partitions(rates) == {YESTERDAY}


def test_days_last_materialization_stays(ingested: Platform, later: type[Later]) -> None:
    """A late ingest run that materialized a day last stays."""
    ingested.exchange.set_clock(MIDNIGHT + timedelta(minutes=10, seconds=5))
    ingested.run("backfill_1m", YESTERDAY)
    late = ingest_at(ingested, MIDNIGHT + timedelta(minutes=20, seconds=5), YESTERDAY)
    later.days = 2.1
    assert housekeep(ingested)["delete_tick_runs"] == 2
    assert runs_of(ingested, YESTERDAY) == [late]
    assert materialized(ingested.instance) == {name: [YESTERDAY] for name in ASSETS}
    assert housekeep(ingested)["delete_tick_runs"] == 0


def test_unfinalized_days_keep_their_runs(ingested: Platform, later: type[Later]) -> None:
    """Days that are not finalized keep their runs."""
    later.days = 30
    assert housekeep(ingested)["delete_tick_runs"] == 0
    assert len(runs_of(ingested, YESTERDAY)) == 2


def test_staged_data_expire_candles_never(ingested: Platform, later: type[Later]) -> None:
    """Staged data are removed after their retention, candles never."""
    before = ingested.objects()
    staged = {key for key in before if key.startswith(("raw/", "staging/"))}
    assert len(staged) >= 6
    later.days = 2.9
    assert housekeep(ingested)["delete_staged_objects"] == 0
    later.days = 3.1
    assert housekeep(ingested)["delete_staged_objects"] == len(staged)
    after = ingested.objects()
    assert after == {key: body for key, body in before.items() if key not in staged}
    assert any(key.startswith("ohlcv/") for key in after)


def test_missing_input_says_how_to_remake(ingested: Platform, later: type[Later]) -> None:
    """A step whose input was removed says how to make it again."""
    later.days = 3.1
    housekeep(ingested)
    with pytest.raises(StagingError) as caught:
        ingested.materialize("candle_objects_1m", YESTERDAY)
    assert (
        "Select raw_candles_1m and candles_1m together with candle_objects_1m, and materialize again."
        in str(caught.value)
    )


def test_dead_landing_tables_are_dropped(
    minutes: Platform,
) -> None:
    """Landing tables of dead runs are dropped after the retention of runs."""
    warehouse = NoWarehouse()
    job = build_definitions(minutes.settings, warehouse=warehouse).resolve_job_def("housekeeping")
    result = job.execute_in_process(instance=minutes.instance)
    assert result.output_for_node("drop_landing_tables") == 1
    age = datetime.now(UTC) - warehouse.older_than
    assert timedelta(days=2) <= age < timedelta(days=2, hours=1)


@dataclass(frozen=True)
class Storage:
    """How much an on-disk instance holds: files, bytes in use in them, and rows that show nothing."""

    files: int
    bytes_used: int
    runs: int
    check_evaluations: int


def storage_of(platform: Platform) -> Storage:
    """Asked of SQLite itself. A file's free pages are counted out: they are used again."""
    root = Path(platform.instance.root_directory)
    files = [each for each in root.rglob("*.db") if each.is_file()]
    used = 0
    for file in files:
        with closing(sqlite3.connect(file)) as database:
            pages, free, size = (
                database.execute(f"pragma {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
            used += (pages - free) * size
    with closing(sqlite3.connect(root / "history" / "runs" / "index.db")) as database:
        (rows,) = database.execute("select count(*) from asset_check_executions").fetchone()
    return Storage(len(files), used, len(platform.instance.get_runs()), rows)


def checks_of(instance: DagsterInstance, partition: str) -> dict[str, str]:
    """Return what Dagster shows of each check of a day."""
    shown = {}
    for name in ("complete", "consistent"):
        records = instance.event_log_storage.get_asset_check_execution_history(
            AssetCheckKey(AssetKey("candle_objects_1m"), name),
            limit=1,
            partition_filter=PartitionKeyFilter(key=partition),
        )
        shown[name] = records[0].status.value
    return shown


def simulated_day(platform: Platform, start: datetime, ingest_runs: int) -> None:
    """Run ingest runs spread over a day, the last at its end, and finalize it on the day after."""
    for number in range(1, ingest_runs + 1):
        moment = start + timedelta(minutes=1440 * number // ingest_runs - 1, seconds=5)
        ingest_at(platform, moment, str(start.date()))
        report = AssetCheckEvaluation(
            asset_key=AssetKey("candle_objects_1m"), check_name="fresh", passed=True
        )
        platform.instance.report_runless_asset_event(report)
    platform.exchange.set_clock(start + timedelta(days=1, minutes=5, seconds=5))
    platform.run("backfill_1m", str(start.date()), symbols=["BTCUSDT"])


@pytest.mark.parametrize(
    "ingest_runs",
    [
        pytest.param(4, marks=pytest.mark.matrix),
        pytest.param(1440, marks=[pytest.mark.matrix, pytest.mark.timeout(7200)]),
    ],
)
def test_two_days_storage_shrinks_to_one(
    minutes: Platform, later: type[Later], tmp_path: Path, ingest_runs: int
) -> None:
    """After two days of ingest runs, Dagster's storage shrinks to what one day leaves."""
    first, second = MIDNIGHT - timedelta(days=2), MIDNIGHT - timedelta(days=1)
    home = tmp_path / "dagster"
    home.mkdir()
    with DagsterInstance.local_temp(str(home)) as instance:
        one = replace(minutes.with_settings(symbols=("BTCUSDT",)), instance=instance)
        simulated_day(one, first, ingest_runs)
        after_one_day, then = storage_of(one), datetime.now(UTC)
        checks = checks_of(instance, str(first.date()))
        simulated_day(one, second, ingest_runs)
        after_two_days = storage_of(one)
        # Two days after the first day's end by the clock of housekeeping.
        later.days, later.stopped_at = 2, then
        counted = housekeep(one)
        left = storage_of(one)
        days = sorted(str(each.date()) for each in (first, second))
        green = materialized(instance)
        kept_checks = checks_of(instance, str(first.date()))
    print(f"one day {after_one_day}, two days {after_two_days}, after housekeeping {left}")
    assert counted["delete_tick_runs"] == ingest_runs
    assert green == dict.fromkeys(ASSETS, days)
    assert kept_checks == checks
    assert checks == dict.fromkeys(("complete", "consistent"), "SUCCEEDED")
    assert after_two_days.bytes_used > after_one_day.bytes_used * 1.5
    # Two finalizing runs and housekeeping's own run come on top of what a day of ingest runs leaves.
    assert left.runs - after_one_day.runs <= 2
    assert left.files - after_one_day.files <= 2
    assert left.check_evaluations - after_one_day.check_evaluations <= 2 * len(checks)
    # Pages of the index that are half full count as used: seven parts in a thousand of a whole day.
    assert left.bytes_used <= after_one_day.bytes_used * 1.02 + 3 * 250_000


def test_damaged_object_fails_verification_only(minutes: Platform) -> None:
    """A damaged object fails the step that verifies, and no other."""
    key = "ohlcv/1m/BTCUSDT/20261119_0000.parquet"
    store_damaged(minutes.bucket, key, encoded_day(), flip_bit(encoded_day(), 900))
    job = build_definitions(minutes.settings, warehouse=NoWarehouse()).resolve_job_def(
        "housekeeping"
    )
    result = job.execute_in_process(instance=minutes.instance, raise_on_error=False)
    [failed] = result.filter_events(lambda event: event.is_step_failure)
    assert failed.step_key == "verify_lake"
    assert key in str(failed.event_specific_data)
    assert key not in minutes.objects()
    assert job.execute_in_process(instance=minutes.instance).success
