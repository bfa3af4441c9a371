"""Which partition Dagster's own schedules ask for, and when they ask for none."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from dagster import AssetKey, DagsterInstance, DagsterRunStatus, build_schedule_context
from dagster._core.test_utils import create_run_for_test

from pipeline_assets.collection import planning
from pipeline_assets.definitions import build_definitions
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.finalized_days import FinalizedDay, mark_finalized
from pipeline_assets.resources.gap_objects import gap_schema, read_gaps, write_gaps
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform

MIDNIGHT = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterInstance]:
    """Runs in SQLite: a schedule's context takes no instance in memory."""
    with DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as made:
        yield made


@pytest.fixture
def scheduled(minutes: Platform, instance: DagsterInstance) -> Platform:
    return replace(minutes, instance=instance)


def evaluate(platform: Platform, name: str, machine_time: datetime = MIDNIGHT) -> Any:
    """Return what the daemon gets when the schedule fires."""
    definitions = build_definitions(platform.settings)
    with build_schedule_context(
        instance=platform.instance,
        scheduled_execution_time=machine_time,
        resources={
            "exchange": Exchange(platform.settings),
            "store": ObjectStore(platform.settings.s3),
        },
        repository_def=definitions.get_repository_def(),
    ) as context:
        return definitions.resolve_schedule_def(name).evaluate_tick(context)


def partition(found: Any) -> str:
    [request] = found.run_requests
    return str(request.partition_key)


@pytest.mark.parametrize(
    ("name", "after_midnight", "day"),
    [
        ("tick_1m", timedelta(milliseconds=300), "2026-11-19"),
        ("tick_1m", timedelta(seconds=30), "2026-11-19"),
        # Settled once the run fetches, so it is the first of the new day.
        ("tick_1m", timedelta(minutes=1, milliseconds=300), "2026-11-20"),
        ("tick_1m", timedelta(minutes=1, seconds=30), "2026-11-20"),
        ("tick_15m", timedelta(milliseconds=300), "2026-11-19"),
        ("tick_15m", timedelta(minutes=15, milliseconds=300), "2026-11-20"),
        ("tick_1h", timedelta(milliseconds=300), "2026-11-19"),
        ("tick_1h", timedelta(hours=1, milliseconds=300), "2026-11-20"),
        # The run after midnight is the last one of the day that ended.
        ("funding", timedelta(minutes=5), "2026-11-19"),
        ("funding", timedelta(hours=1, minutes=5), "2026-11-20"),
        ("trading_tables", timedelta(milliseconds=300), "2026-11-19"),
        ("trading_tables", timedelta(minutes=15, milliseconds=300), "2026-11-20"),
        ("seal", timedelta(hours=1, minutes=5), "2026-11-19"),
        ("model_drift", timedelta(hours=2, minutes=30), "2026-11-19"),
        ("outcomes", timedelta(hours=4, minutes=10), "2026-11-19"),
        ("reconciliation", timedelta(hours=4, minutes=20), "2026-11-19"),
    ],
)
def test_partition_follows_the_exchange_clock(
    scheduled: Platform, name: str, after_midnight: timedelta, day: str
) -> None:
    """The partition follows the exchange's clock."""
    scheduled.exchange.set_clock(MIDNIGHT + after_midnight)
    another_day = datetime(2027, 3, 1, 12, tzinfo=UTC)
    assert partition(evaluate(scheduled, name, another_day)) == day


@pytest.fixture
def nightly(scheduled: Platform) -> Platform:
    """Return the platform at the time of finalizing, without earlier runs."""
    scheduled.instance.wipe()
    scheduled.exchange.set_clock(MIDNIGHT + timedelta(hours=1, minutes=5))
    return scheduled


def marked(platform: Platform, *days: date) -> None:
    """Mark these days as finalizing them, or a backfill of one symbol, does."""
    store = ObjectStore(platform.settings.s3)
    for day in days:
        for interval in Interval:
            mark_finalized(store, interval, day, {"BTCUSDT": FinalizedDay(None)})


def judged(platform: Platform, *days: date) -> None:
    """Write ledgers without gaps for these days, the last step of finalizing."""
    for day in days:
        write_gaps(ObjectStore(platform.settings.s3), day, pl.DataFrame(schema=gap_schema()))


def asked(platform: Platform) -> list[str | None]:
    return [request.partition_key for request in evaluate(platform, "seal").run_requests]


def november(*days: int) -> list[date]:
    return [date(2026, 11, day) for day in days]


def test_failed_finalize_is_requested_again(nightly: Platform) -> None:
    """A day whose finalizing failed is requested again.

    The day has a ledger but is finalized in no interval.
    """
    marked(nightly, *november(16, 18))
    judged(nightly, *november(16, 17, 18))
    assert asked(nightly) == ["2026-11-19", "2026-11-17"]


def test_leftover_days_are_requested_in_order(nightly: Platform) -> None:
    """Days left over are requested in order and beside backfills."""
    marked(nightly, *november(12, 13))
    judged(nightly, *november(*range(12, 19)))
    [yesterday, *left] = evaluate(nightly, "seal").run_requests
    assert yesterday.partition_key == "2026-11-19"
    assert "pipeline/kind" not in yesterday.tags
    assert [each.partition_key for each in left] == [f"2026-11-{day}" for day in range(14, 19)]
    # dagster.yaml lets two backfill runs at a time leave the queue.
    assert {each.tags["pipeline/kind"] for each in left} == {"backfill"}
    assert len({each.run_key for each in (yesterday, *left)}) == 6


def test_requested_day_repeats_only_after_failure(nightly: Platform) -> None:
    """A day that is requested already is requested again only if its run fails.

    After days off Dagster fires several times at once.
    """
    now = datetime.now(UTC)
    marked(nightly, *november(17))
    judged(nightly, *november(17, 18))
    runs = {
        day: create_run_for_test(
            nightly.instance,
            job_name="seal",
            status=status,
            tags={"dagster/partition": day},
        )
        for day, status in {
            "2026-11-18": DagsterRunStatus.NOT_STARTED,
            "2026-11-19": DagsterRunStatus.STARTED,
        }.items()
    }
    none = evaluate(nightly, "seal", now)
    assert not none.run_requests
    assert "2026-11-19, and days left before, are already being finalized" in none.skip_message
    nightly.instance.report_run_failed(runs["2026-11-18"])
    again = evaluate(nightly, "seal", now).run_requests
    assert [each.partition_key for each in again] == ["2026-11-18"]
    # A day later one that is still there has died.
    later = evaluate(nightly, "seal", now + timedelta(days=1)).run_requests
    assert [each.partition_key for each in later] == ["2026-11-19", "2026-11-18"]


def test_leftover_day_is_finalized_for_all(nightly: Platform, minutes: Platform) -> None:
    """A day left over is finalized for all symbols that miss it."""
    minutes.backfill("1m", "2026-11-18", symbols=["BTCUSDT"])
    marked(nightly, *november(17))
    judged(nightly, *november(17, 18))
    request = evaluate(nightly, "seal").run_requests[1]
    job = build_definitions(minutes.settings).resolve_job_def("seal")
    # The other intervals go on to the warehouse, which this platform has not started.
    names = ("raw_candles_1m", "candles_1m", "candle_objects_1m", "candle_gaps")
    result = job.execute_in_process(
        instance=minutes.instance,
        partition_key=request.partition_key,
        tags=request.tags,
        asset_selection=list(map(AssetKey, names)),
    )
    [fetched] = result.asset_materializations_for_node("raw_candles_1m")
    assert fetched.metadata["symbol-days stored before"].value == 1
    start = MIDNIGHT - timedelta(days=2)
    for symbol in SYMBOLS:
        truth = minutes.truth("1m", symbol, start, start + timedelta(days=1))
        assert minutes.stored("1m", symbol).equals(truth)
    found = read_gaps(ObjectStore(minutes.settings.s3), date(2026, 11, 18))
    assert found is not None
    assert found.filter(interval="1m").is_empty()


def test_first_ingest_stores_days_first_minute(
    scheduled: Platform, minutes: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ingest run of a day stores its first minute and does not finalize yesterday."""
    monkeypatch.setattr(planning.time, "sleep", scheduled.exchange.advance)
    for minute in (0, 1, 2):
        on_the_minute = MIDNIGHT + timedelta(minutes=minute, milliseconds=300)
        scheduled.exchange.set_clock(on_the_minute)
        result = minutes.ingest("1m", partition(evaluate(scheduled, "tick_1m")))
        [fetched] = result.asset_materializations_for_node("raw_candles_1m")
        assert fetched.metadata["kind of run"].value == "tick"
        newest = minutes.stored("1m")["open_time"].max()
        assert newest == MIDNIGHT + timedelta(minutes=minute - 1)
    assert minutes.stored("1m").height == len(SYMBOLS) * (24 * 60 + 2)


def test_ingest_waits_for_earlier_one(scheduled: Platform) -> None:
    """An ingest run is skipped while an earlier one waits."""
    job = build_definitions(scheduled.settings).resolve_job_def("tick_1m")
    waiting = scheduled.instance.create_run_for_job(
        job,
        run_config={},
        status=DagsterRunStatus.NOT_STARTED,
        tags={"dagster/partition": "2026-11-20"},
    )
    skipped = evaluate(scheduled, "tick_1m")
    assert not skipped.run_requests
    assert "1 earlier ingest run of 1m candles queued" in skipped.skip_message
    assert partition(evaluate(scheduled, "tick_15m")) == "2026-11-20", "another interval goes on"
    scheduled.instance.report_run_canceled(waiting)
    assert partition(evaluate(scheduled, "tick_1m")) == "2026-11-20"


def test_double_firing_is_one_run(scheduled: Platform) -> None:
    """A minute that fires twice is one run."""
    keys = [evaluate(scheduled, "tick_1m").run_requests[0].run_key for _ in range(2)]
    later = evaluate(scheduled, "tick_1m", MIDNIGHT + timedelta(minutes=1)).run_requests[0].run_key
    assert keys[0] == keys[1] != later
