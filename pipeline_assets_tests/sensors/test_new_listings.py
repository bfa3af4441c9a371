"""Whose history is asked for, which days of it, how much of it at once, and that it is asked for once."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    RunRequest,
    SensorResult,
    build_sensor_context,
)
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
)
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.collection.history_requests import ATTEMPTS, MOST_RUNS, Asked, History
from pipeline_assets.collection.new_symbols import histories, new_identities, next_runs
from pipeline_assets.collection.reconcile import NOTHING
from pipeline_assets.collection.reconcile_cursor import Cursor
from pipeline_assets.definitions import build_definitions
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.finalized_days import FinalizedDay, mark_finalized
from pipeline_assets.resources.listing_history import note_identities
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import RepairSettings
from pipeline_assets_tests.fixtures import listings
from pipeline_assets_tests.fixtures.listings import NOON
from pipeline_assets_tests.fixtures.platform import Platform

MINUTE, QUARTER, HOUR = Interval
DAY = timedelta(days=1)
LISTED = datetime(2026, 11, 1, 8, tzinfo=UTC)
YESTERDAY = date(2026, 11, 19)
identity = partial(listings.identity, onboard_date=LISTED)
listing = partial(listings.listing, onboard_date=LISTED)


def test_first_look_defines_known_symbols() -> None:
    """At first, only symbols that the first observation did not see are new."""
    first = [identity("BTCUSDT"), identity("ETHUSDT")]
    assert new_identities(first, "all", None) == []
    later = identity("NEWUSDT", first_seen=NOON)
    assert new_identities([*first, later], "all", None) == [later]
    assert new_identities([*first, later], ("BTCUSDT", "ETHUSDT"), None) == []


def test_later_unknown_symbols_are_new() -> None:
    """Later, every collected symbol that is not known is new."""
    bitcoin, ether = identity("BTCUSDT"), identity("ETHUSDT", collected_by_all=False)
    known = frozenset({"BTCUSDT 2026-11-01T08:00"})
    assert new_identities([bitcoin, ether], ("BTCUSDT",), known) == []
    assert new_identities([bitcoin, ether], ("BTCUSDT", "ETHUSDT"), known) == [ether]
    assert new_identities([bitcoin, ether], "all", known) == []
    again = identity("BTCUSDT", onboard_date=NOON - DAY)
    assert new_identities([bitcoin, again], "all", known) == [again]


@pytest.mark.parametrize(
    ("changes", "since", "days"),
    [
        ({}, date(2026, 1, 1), (date(2026, 11, 1), YESTERDAY)),
        ({}, date(2026, 11, 5), (date(2026, 11, 5), YESTERDAY)),
        ({}, date(2026, 11, 20), None),
        ({"onboard_date": NOON - timedelta(hours=1)}, date(2026, 1, 1), None),
        (
            {"delivery_date": NOON - 3 * DAY},
            date(2026, 1, 1),
            (date(2026, 11, 1), date(2026, 11, 17)),
        ),
        # Nothing opened on the day at whose very beginning it ended.
        (
            {"delivery_date": datetime(2026, 11, 18, tzinfo=UTC)},
            date(2026, 1, 1),
            (date(2026, 11, 1), date(2026, 11, 17)),
        ),
        ({"delivery_date": NOON - 3 * DAY}, date(2026, 11, 18), None),
        # The exchange does not list the symbol any more, so nothing can be fetched.
        ({"gone": NOON}, date(2026, 1, 1), None),
    ],
)
def test_history_ends_yesterday_or_delisted(
    changes: dict[str, Any], since: date, days: tuple[date, date] | None
) -> None:
    """History goes from the listing, or from the given day, to yesterday or the delisting."""
    found = histories([identity("NEWUSDT", **changes)], {HOUR: since}, NOON)
    assert found == ([History(HOUR, *days, ("NEWUSDT",))] if days else [])


def test_minutes_come_first() -> None:
    """An interval without a first day has no history, and minutes come first."""
    found = histories([identity()], {HOUR: YESTERDAY, MINUTE: YESTERDAY}, NOON)
    assert [each.interval for each in found] == [MINUTE, HOUR]


symbols = st.lists(st.integers(0, 99).map("S{}USDT".format), unique=True, min_size=1, max_size=60)


@given(
    symbols=symbols,
    ages=st.lists(st.integers(1, 400), min_size=1, max_size=4),
    intervals=st.sets(st.sampled_from(list(Interval)), min_size=1),
)
def test_runs_cover_each_day_once(
    symbols: list[str], ages: list[int], intervals: set[Interval]
) -> None:
    """Runs request every day of every symbol exactly once."""
    onboard = {symbol: NOON - ages[place % len(ages)] * DAY for place, symbol in enumerate(symbols)}
    new = [identity(symbol, onboard_date=onboard[symbol]) for symbol in symbols]
    left: Any = histories(new, dict.fromkeys(intervals, date(2026, 1, 1)), NOON)
    asked: list[tuple[Interval, str, date]] = []
    while left:
        runs, left = next_runs(left)
        assert 0 < len(runs) <= MOST_RUNS
        for run in runs:
            days = [run.first + place * DAY for place in range((run.last - run.first).days + 1)]
            assert 0 < len(days) <= 31
            assert 0 < len(run.symbols) <= 20
            asked += [(run.interval, symbol, day) for symbol in run.symbols for day in days]
    first_days = {symbol: max(at.date(), date(2026, 1, 1)) for symbol, at in onboard.items()}
    expected = {
        (interval, symbol, first + place * DAY)
        for interval in intervals
        for symbol, first in first_days.items()
        for place in range((YESTERDAY - first).days + 1)
    }
    assert len(asked) == len(expected)
    assert {*asked} == expected


def test_cursor_is_read_as_written() -> None:
    """A cursor is read as it was written."""
    left = (History(QUARTER, date(2026, 1, 2), YESTERDAY, ("BTCUSDT", "币安人生USDT")),)
    asked = (Asked.at(left[0], NOON), Asked.at(left[0], NOON, 3))
    waiting = {HOUR: frozenset({"ETHUSDT y"})}
    whole = Cursor(known=frozenset({"BTCUSDT x"}), left=left, asked=asked, unsealed=waiting)
    for cursor in (Cursor(), Cursor(known=frozenset()), whole):
        assert Cursor.from_text(cursor.to_text()) == cursor
    assert Cursor.from_text(None) == Cursor()


class Sensor:
    """The sensor between its ticks: an instance and the cursor that it left."""

    def __init__(self, platform: Platform, instance: DagsterInstance) -> None:
        self.instance = instance
        self.platform = platform
        self.store = ObjectStore(platform.settings.s3)
        self.cursor: str | None = None

    def evaluate(self) -> SensorResult:
        definitions = build_definitions(self.platform.settings)
        sensor = definitions.resolve_sensor_def("gap_repair")
        wanted = {name: definitions.resources[name] for name in sensor.required_resource_keys}
        context = build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources=wanted,
            repository_def=definitions.get_repository_def(),
        )
        found = sensor.evaluate_tick(context)
        self.cursor = found.cursor
        return found

    def asked(self) -> list[tuple[Any, ...]]:
        return [
            (
                request.job_name,
                request.tags.get("dagster/asset_partition_range_start") or request.partition_key,
                request.tags.get("dagster/asset_partition_range_end") or request.partition_key,
                *(each["config"]["symbols"] for each in request.run_config["ops"].values()),
            )
            for request in self.evaluate().run_requests
            # test_gap_repair.py tests days without a ledger.
            if request.job_name != "gap_ledger"
        ]


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterInstance]:
    with DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as made:
        yield made


@pytest.fixture
def sensor(minutes: Platform, instance: DagsterInstance) -> Sensor:
    instance.wipe()
    instance.wipe_all_schedules()
    return Sensor(minutes.with_settings(symbols="all"), instance)


def test_large_first_start_requests_nothing(sensor: Sensor) -> None:
    """A first start with five hundred symbols requests nothing."""
    assert sensor.asked() == []
    assert Cursor.from_text(sensor.cursor).known is None
    many = [listing(f"S{number}USDT") for number in range(500)]
    note_identities(sensor.store, many, NOON - DAY)
    mark_finalized(sensor.store, MINUTE, date(2026, 11, 1), {"S1USDT": FinalizedDay(None)})
    assert sensor.asked() == []
    assert sensor.asked() == []


def test_new_listing_requests_history_once(
    sensor: Sensor,
) -> None:
    """The history of a new listing is requested once, from the first finalized day."""
    note_identities(sensor.store, [listing("BTCUSDT")], NOON - DAY)
    assert sensor.asked() == []
    mark_finalized(sensor.store, MINUTE, date(2026, 11, 15), {"BTCUSDT": FinalizedDay(None)})
    mark_finalized(sensor.store, HOUR, YESTERDAY, {"BTCUSDT": FinalizedDay(None)})
    note_identities(sensor.store, [listing("BTCUSDT"), listing("币安人生USDT")], NOON)
    # 15m has never been finalized.
    assert sensor.asked() == [
        ("repair_1m", "2026-11-15", "2026-11-19", ["币安人生USDT"]),
        ("repair_1h", "2026-11-19", "2026-11-19", ["币安人生USDT"]),
    ]
    assert sensor.asked() == []


def test_later_finalized_interval_requests_history(sensor: Sensor) -> None:
    """An interval that is finalized later has its history requested then."""
    note_identities(sensor.store, [listing("BTCUSDT")], NOON - DAY)
    assert sensor.asked() == []
    note_identities(sensor.store, [listing("BTCUSDT"), listing("NEWUSDT")], NOON)
    assert sensor.asked() == []
    mark_finalized(sensor.store, QUARTER, date(2026, 11, 18), {"BTCUSDT": FinalizedDay(None)})
    assert sensor.asked() == [("repair_15m", "2026-11-18", "2026-11-19", ["NEWUSDT"])]
    mark_finalized(sensor.store, HOUR, YESTERDAY, {"BTCUSDT": FinalizedDay(None)})
    assert sensor.asked() == [("repair_1h", "2026-11-19", "2026-11-19", ["NEWUSDT"])]
    assert sensor.asked() == []


@pytest.fixture
def one_new(sensor: Sensor) -> Sensor:
    """The sensor where the minutes of two days of one symbol are to be asked for."""
    note_identities(sensor.store, [listing("BTCUSDT")], NOON - DAY)
    mark_finalized(sensor.store, MINUTE, date(2026, 11, 18), {"BTCUSDT": FinalizedDay(None)})
    assert sensor.asked() == []
    note_identities(sensor.store, [listing("BTCUSDT"), listing("NEWUSDT")], NOON)
    return sensor


def ran(sensor: Sensor, request: RunRequest, status: DagsterRunStatus) -> DagsterRun:
    """The run of a request, as Dagster's daemon makes it, in a status."""
    tags = {"dagster/sensor_name": "gap_repair", "dagster/run_key": str(request.run_key)}
    return create_run_for_test(sensor.instance, status=status, tags=tags)


def test_history_is_requested_until_success(one_new: Sensor) -> None:
    """A history is requested until its run has succeeded."""
    sensor, keys = one_new, set()
    for status in (DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED):
        [request] = sensor.evaluate().run_requests
        assert request.tags["dagster/asset_partition_range_start"] == "2026-11-18"
        keys.add(request.run_key)
        ran(sensor, request, status)
        reported = sensor.evaluate()
        assert reported.run_requests == []
        again = "1 are requested again, the next at"
        assert again in str(reported.skip_message)
        sensor.platform.exchange.advance(2 * 3600)
    [request] = sensor.evaluate().run_requests
    assert request.run_key not in keys
    run = ran(sensor, request, DagsterRunStatus.STARTED)
    sensor.platform.exchange.advance(24 * 3600)
    reported = sensor.evaluate()
    assert reported.run_requests == []
    assert reported.skip_message == "1 earlier runs are under way."
    sensor.instance.report_run_canceled(run)
    # Started again by Dagster or a person, it keeps its key.
    again = ran(sensor, request, DagsterRunStatus.SUCCESS)
    assert again.run_id != run.run_id
    for day in (date(2026, 11, 18), YESTERDAY):
        mark_finalized(sensor.store, MINUTE, day, {"NEWUSDT": FinalizedDay(None)})
    assert sensor.evaluate().skip_message == NOTHING


def test_incomplete_run_is_requested_again(sensor: Sensor) -> None:
    """A run that did not bring every symbol is requested again.

    Dagster says that it succeeded: of twenty symbols nineteen are stored.
    """
    note_identities(sensor.store, [listing("BTCUSDT")], NOON - DAY)
    mark_finalized(sensor.store, MINUTE, YESTERDAY, {"BTCUSDT": FinalizedDay(None)})
    assert sensor.asked() == []
    two = [listing("NEWUSDT"), listing("OTHERUSDT")]
    note_identities(sensor.store, [listing("BTCUSDT"), *two], NOON)
    keys = []
    for _ in range(ATTEMPTS):
        [request] = sensor.evaluate().run_requests
        keys.append(request.run_key)
        ran(sensor, request, DagsterRunStatus.SUCCESS)
        mark_finalized(sensor.store, MINUTE, YESTERDAY, {"NEWUSDT": FinalizedDay(None)})
        assert sensor.evaluate().run_requests == []
        sensor.platform.exchange.advance(12 * 3600)
    assert len({*keys}) == ATTEMPTS
    reported = sensor.evaluate()
    assert reported.run_requests == []
    assert f"Given up: 1 runs of new symbols did not bring all in {ATTEMPTS} times." in str(
        reported.skip_message
    )
    # History of a symbol that the exchange does not list any more cannot be fetched.
    note_identities(sensor.store, [listing("BTCUSDT"), listing("NEWUSDT")], NOON + 4 * DAY)
    assert sensor.evaluate().skip_message == NOTHING


def test_listing_during_downtime_gets_first_days(
    sensor: Sensor,
) -> None:
    """The first days of a symbol that lists while nothing runs are requested."""
    announced = [listing("BTCUSDT"), listing("NEWUSDT", onboard_date=NOON + timedelta(hours=6))]
    note_identities(sensor.store, [listing("BTCUSDT")], NOON - DAY)
    mark_finalized(sensor.store, MINUTE, date(2026, 11, 15), {"BTCUSDT": FinalizedDay(None)})
    assert sensor.asked() == []
    note_identities(sensor.store, announced, NOON)
    assert sensor.asked() == []
    sensor.platform.exchange.advance(5 * 24 * 3600)
    assert sensor.asked() == [("repair_1m", "2026-11-20", "2026-11-24", ["NEWUSDT"])]
    assert sensor.asked() == []


def test_listing_during_ingest_needs_no_history(sensor: Sensor) -> None:
    """A symbol that lists while ingest runs are on has no history to request."""
    announced = [listing("BTCUSDT"), listing("NEWUSDT", onboard_date=NOON + timedelta(hours=6))]
    note_identities(sensor.store, announced, NOON - DAY)
    mark_finalized(sensor.store, MINUTE, date(2026, 11, 15), {"BTCUSDT": FinalizedDay(None)})
    assert sensor.asked() == []
    # The symbol's day goes on, ingest runs collect it, and it is finalized with the others.
    for _ in range(3):
        sensor.platform.exchange.advance(7 * 3600)
        assert sensor.asked() == []


def test_vanished_run_is_requested_again(one_new: Sensor) -> None:
    """A history whose run is gone is requested again."""
    assert len(one_new.evaluate().run_requests) == 1
    assert one_new.evaluate().run_requests == []
    one_new.platform.exchange.advance(3600)
    assert len(one_new.evaluate().run_requests) == 1


def test_failing_history_is_given_up(one_new: Sensor) -> None:
    """A history that fails again and again is given up and reported."""
    sensor, asked, waited = one_new, 0, []
    while "Given up" not in str((found := sensor.evaluate()).skip_message):
        for request in found.run_requests:
            ran(sensor, request, DagsterRunStatus.FAILURE)
            asked += 1
            waited.append(0)
        waited[-1] += 1
        sensor.platform.exchange.advance(900)
    assert asked == ATTEMPTS
    assert waited[:4] == sorted(waited[:4])
    assert waited[3] > waited[0]
    assert f"Given up: 1 runs of new symbols did not bring all in {ATTEMPTS} times." in str(
        found.skip_message
    )
    remedy = "--interval 1m --symbols NEWUSDT --start 2026-11-18 --end 2026-11-20"
    assert remedy in str(found.skip_message)
    sensor.platform.exchange.advance(48 * 3600)
    assert sensor.evaluate().run_requests == []
    for day in (date(2026, 11, 18), YESTERDAY):
        mark_finalized(sensor.store, MINUTE, day, {"NEWUSDT": FinalizedDay(None)})
    assert sensor.evaluate().skip_message == NOTHING


def test_configured_symbol_has_history_since_setting(sensor: Sensor) -> None:
    """A symbol new in the settings has history since the setting."""
    note_identities(sensor.store, [listing("BTCUSDT"), listing("ETHUSDT")], NOON)
    sensor.platform = sensor.platform.with_settings(
        symbols=("BTCUSDT",), repair=RepairSettings(since=date(2026, 11, 18))
    )
    assert sensor.asked() == []
    sensor.platform = sensor.platform.with_settings(symbols=("BTCUSDT", "ETHUSDT"))
    assert sensor.asked() == [
        (f"repair_{interval}", "2026-11-18", "2026-11-19", ["ETHUSDT"]) for interval in Interval
    ]


def test_many_new_symbols_take_turns(sensor: Sensor) -> None:
    """Hundreds of symbols that become new at once are requested in turn."""
    many = [listing(f"S{number}USDT") for number in range(500)]
    note_identities(sensor.store, [listing("BTCUSDT"), *many], NOON)
    since = RepairSettings(since=date(2026, 11, 1))
    sensor.platform = sensor.platform.with_settings(symbols=("BTCUSDT",), repair=since)
    assert sensor.asked() == []
    sensor.platform = sensor.platform.with_settings(symbols="all")
    first = sensor.evaluate()
    assert len(first.run_requests) == MOST_RUNS
    waiting = create_run_for_test(
        sensor.instance,
        status=DagsterRunStatus.NOT_STARTED,
        tags={"dagster/sensor_name": "gap_repair"},
    )
    none = sensor.evaluate()
    assert none.run_requests == []
    assert "The history of 500 new symbols is requested after them" in str(none.skip_message)
    sensor.instance.delete_run(waiting.run_id)
    keys = [request.run_key for request in first.run_requests]
    while found := sensor.evaluate().run_requests:
        assert len(found) <= MOST_RUNS
        keys += [request.run_key for request in found]
    # 500 symbols by twenty, three intervals; each run has a key of its own.
    assert len({*keys}) == len(keys) == 75


def test_requested_runs_fetch_the_history(minutes: Platform, sensor: Sensor) -> None:
    """The requested runs fetch the history."""
    since = RepairSettings(since=date(2026, 11, 18))
    young = minutes.with_settings(symbols=("BTCUSDT",), repair=since)
    young.run("backfill_1m", "2026-11-19")
    sensor.platform = young
    assert sensor.asked() == []
    sensor.platform = young.with_settings(symbols=("BTCUSDT", "币安人生USDT"))
    definitions = build_definitions(sensor.platform.settings)
    # 15m, 1h and the table of gaps go on to the warehouse, which this platform has not started.
    request = next(r for r in sensor.evaluate().run_requests if r.job_name == "repair_1m")
    job = definitions.resolve_job_def("repair_1m")
    result = job.execute_in_process(
        instance=minutes.instance,
        run_config=request.run_config,
        tags=request.tags,
        raise_on_error=False,
    )
    failed = [event.step_key for event in result.all_events if event.is_step_failure]
    assert failed == ["candle_gap_table"]
    start = datetime(2026, 11, 18, tzinfo=UTC)
    stored = young.stored("1m", "币安人生USDT")
    assert stored.equals(young.truth("1m", "币安人生USDT", start, start + 2 * DAY))


def former_sensor(instance: DagsterInstance, status: InstigatorStatus, cursor: str) -> None:
    """The state that Dagster keeps of the sensor `new_listings` of an earlier version."""
    target = LoadableTargetOrigin(module_name="pipeline_assets.definitions")
    location = ManagedGrpcPythonEnvCodeLocationOrigin(target, location_name="pipeline_assets")
    origin = RemoteRepositoryOrigin(location, "__repository__").get_instigator_origin(
        "new_listings"
    )
    data = SensorInstigatorData(cursor=cursor)
    instance.add_instigator_state(
        InstigatorState(origin, InstigatorType.SENSOR, status=status, instigator_data=data)
    )


# As the version wrote it that had the sensor `new_listings`.
FORMER_CURSOR = json.dumps(
    {
        "known": ["BTCUSDT 2026-11-01T08:00", "NEWUSDT 2026-11-01T08:00"],
        "left": [["15m", "2026-11-18", "2026-11-19", ["NEWUSDT"]]],
        "asked": [["1m", "2026-11-18", "2026-11-19", ["NEWUSDT"], 1, "2026-11-20T12:15:00+00:00"]],
        "unsealed": {"1h": ["NEWUSDT 2026-11-01T08:00"]},
    }
)


def test_the_former_sensors_cursor_is_continued(one_new: Sensor) -> None:
    """Its requests are not made a second time, and what it had left is requested."""
    sensor = one_new
    sensor.cursor = '{"read": null, "repairs": [], "first_stored": null, "ledger": null}'
    former_sensor(sensor.instance, InstigatorStatus.RUNNING, FORMER_CURSOR)
    earlier = create_run_for_test(
        sensor.instance,
        status=DagsterRunStatus.STARTED,
        tags={
            "dagster/sensor_name": "new_listings",
            "dagster/run_key": "1m 2026-11-18 2026-11-19 NEWUSDT",
        },
    )
    assert sensor.asked() == [], "a run of the former sensor is under way"
    sensor.instance.report_run_canceled(earlier)
    assert sensor.asked() == [("repair_15m", "2026-11-18", "2026-11-19", ["NEWUSDT"])]
    sensor.platform.exchange.advance(3600)
    [again] = [each for each in sensor.evaluate().run_requests if each.job_name == "repair_1m"]
    assert again.run_key == "1m 2026-11-18 2026-11-19 NEWUSDT attempt 2"


def test_upgrade_requests_nothing_new(one_new: Sensor) -> None:
    """An upgrade requests nothing that the switched-off sensor did not."""
    former_sensor(one_new.instance, InstigatorStatus.STOPPED, FORMER_CURSOR)
    one_new.cursor = None
    assert one_new.asked() == []
    # A symbol that is listed later is new.
    three = [listing("BTCUSDT"), listing("NEWUSDT"), listing("LATERUSDT")]
    note_identities(one_new.store, three, NOON)
    assert one_new.asked() == [("repair_1m", "2026-11-18", "2026-11-19", ["LATERUSDT"])]
