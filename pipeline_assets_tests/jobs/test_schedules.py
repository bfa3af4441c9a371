"""Which partition Dagster's own schedules ask for, and when they ask for none."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus, build_schedule_context

from pipeline_assets.assets import planning
from pipeline_assets.definitions import build_definitions
from pipeline_assets.market.interval import Interval
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.lake_state import SealedDay, mark_sealed
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
    """What the daemon gets when the schedule fires."""
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
        ("seal", timedelta(minutes=5), "2026-11-19"),
    ],
)
def test_the_partition_is_of_the_exchange_clock(
    scheduled: Platform, name: str, after_midnight: timedelta, day: str
) -> None:
    scheduled.exchange.set_clock(MIDNIGHT + after_midnight)
    another_day = datetime(2027, 3, 1, 12, tzinfo=UTC)
    assert partition(evaluate(scheduled, name, another_day)) == day


def test_a_day_whose_sealing_failed_is_asked_for_again(scheduled: Platform) -> None:
    scheduled.exchange.set_clock(MIDNIGHT + timedelta(minutes=5))
    store = ObjectStore(scheduled.settings.s3)
    for interval in Interval:
        mark_sealed(store, interval, date(2026, 11, 16), {"BTCUSDT": SealedDay(None)})
        mark_sealed(store, interval, date(2026, 11, 18), {"BTCUSDT": SealedDay(None)})
    keys = [request.partition_key for request in evaluate(scheduled, "seal").run_requests]
    assert keys == ["2026-11-19", "2026-11-17"]


def test_the_first_tick_of_a_day_stores_its_first_minute_and_does_not_seal_yesterday(
    scheduled: Platform, minutes: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning.time, "sleep", scheduled.exchange.advance)
    for minute in (0, 1, 2):
        on_the_minute = MIDNIGHT + timedelta(minutes=minute, milliseconds=300)
        scheduled.exchange.set_clock(on_the_minute)
        result = minutes.tick("1m", partition(evaluate(scheduled, "tick_1m")))
        [fetched] = result.asset_materializations_for_node("raw_candles_1m")
        assert fetched.metadata["kind of run"].value == "tick"
        newest = minutes.stored("1m")["open_time"].max()
        assert newest == MIDNIGHT + timedelta(minutes=minute - 1)
    assert minutes.stored("1m").height == len(SYMBOLS) * (24 * 60 + 2)


def test_a_tick_is_skipped_while_an_earlier_one_waits(scheduled: Platform) -> None:
    job = build_definitions(scheduled.settings).resolve_job_def("tick_1m")
    waiting = scheduled.instance.create_run_for_job(
        job,
        run_config={},
        status=DagsterRunStatus.NOT_STARTED,
        tags={"dagster/partition": "2026-11-20"},
    )
    skipped = evaluate(scheduled, "tick_1m")
    assert not skipped.run_requests
    assert "1 earlier ticks of 1m wait" in skipped.skip_message
    assert partition(evaluate(scheduled, "tick_15m")) == "2026-11-20", "another interval goes on"
    scheduled.instance.report_run_canceled(waiting)
    assert partition(evaluate(scheduled, "tick_1m")) == "2026-11-20"


def test_a_minute_that_fires_twice_is_one_run(scheduled: Platform) -> None:
    keys = [evaluate(scheduled, "tick_1m").run_requests[0].run_key for _ in range(2)]
    later = evaluate(scheduled, "tick_1m", MIDNIGHT + timedelta(minutes=1)).run_requests[0].run_key
    assert keys[0] == keys[1] != later
