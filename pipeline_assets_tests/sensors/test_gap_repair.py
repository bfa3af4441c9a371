"""What the sensor asks for of the gaps that can be filled, how often, and when it gives up."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
from dagster import DagsterRunStatus, build_sensor_context
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.collection.history_requests import LedgerRequest
from pipeline_assets.collection.reconcile import NOTHING
from pipeline_assets.collection.reconcile_cursor import Cursor
from pipeline_assets.collection.repairs import (
    Gaps,
    Repair,
    by_interval,
    fillable,
    next_due,
    runs_of,
    updated,
)
from pipeline_assets.definitions import build_definitions
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.exchange_access import Exchange
from pipeline_assets.resources.gap_objects import gap_schema, judged_days, read_gaps, write_gaps
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.sensors import reconciler as module
from pipeline_assets.settings import RepairSettings
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform

MINUTE, QUARTER, HOUR = Interval
DAY = date(2026, 11, 18)
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
BTC, ETH, LIFE = SYMBOLS
EVERY = dict.fromkeys(Interval, date(2026, 1, 1))


def ledger(*rows: tuple[str, str, int, int, str], day: date = DAY) -> pl.DataFrame:
    """Gaps by symbol, interval, number of the first candle, count, cause."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    held = []
    for symbol, interval, number, count, cause in rows:
        span = Interval(interval).span
        first = midnight + number * span
        held.append((day, symbol, interval, first, first + (count - 1) * span, count, cause))
    return pl.DataFrame(held, schema=gap_schema(), orient="row")


def test_only_what_a_run_can_bring_is_asked_for() -> None:
    gaps = ledger(
        (BTC, "1m", 0, 10, "exchange_outage"),
        (BTC, "15m", 0, 1, "not_fetched"),
        (ETH, "1m", 5, 3, "set_aside"),
        (ETH, "1m", 30, 4, "archive_hole"),
        (LIFE, "1m", 0, 1440, "not_listed"),
        ("GONEUSDT", "1m", 0, 1440, "not_fetched"),
    )
    found = by_interval(fillable(gaps, EVERY, SYMBOLS))
    assert {i: (each.symbols, each.candles) for i, each in found.items()} == {
        MINUTE: ((ETH,), 7),
        QUARTER: ((BTC,), 1),
    }


def test_days_before_history_begins_are_left_alone() -> None:
    gaps = ledger((BTC, "1m", 0, 9, "not_fetched"), (BTC, "1h", 0, 9, "not_fetched"))
    since = {MINUTE: DAY + timedelta(days=1), HOUR: DAY}
    assert set(by_interval(fillable(gaps, since, SYMBOLS))) == {HOUR}
    assert set(by_interval(fillable(gaps, {}, SYMBOLS))) == set()


def name(*rows: tuple[str, str, int, int, str]) -> str:
    return by_interval(fillable(ledger(*rows), EVERY, SYMBOLS))[MINUTE].name


def test_gaps_are_the_same_whatever_the_cause_of_each_part() -> None:
    whole = name((ETH, "1m", 5, 10, "not_fetched"))
    assert name((ETH, "1m", 5, 4, "set_aside"), (ETH, "1m", 9, 6, "not_fetched")) == whole
    assert name((ETH, "1m", 5, 9, "not_fetched")) != whole
    assert name((BTC, "1m", 5, 10, "not_fetched")) != whole
    assert name((ETH, "1m", 5, 4, "set_aside"), (ETH, "1m", 10, 6, "not_fetched")) != whole


def test_the_same_gaps_stay_asked_for_and_changed_ones_are_new() -> None:
    asked = Repair("a", 7, NOON, 2, 2)
    before = {(MINUTE, DAY): asked, (HOUR, DAY): asked, (MINUTE, date(2026, 11, 1)): asked}
    later = NOON + timedelta(hours=1)
    found = {MINUTE: Gaps((ETH,), 3, "a"), QUARTER: Gaps((ETH,), 3, "c")}
    assert updated(before, DAY, found, 9, later) == {
        (MINUTE, DAY): asked,
        (QUARTER, DAY): Repair("c", 9, later),
        (MINUTE, date(2026, 11, 1)): asked,
    }
    found = {MINUTE: Gaps((ETH,), 2, "fewer")}
    assert updated(before, DAY, found, 9, later)[MINUTE, DAY] == Repair("fewer", 9, later)


def test_waits_grow_until_three_fetches_brought_nothing() -> None:
    repair, waits = Repair("a", 7, NOON), []
    while not repair.given_up:
        asked = repair.asked(repair.due)
        waits.append(asked.due - repair.due)
        repair = asked.shown_again()
    assert waits[0] < waits[1]
    assert len(waits) == 3


def test_a_ledger_that_nobody_asked_to_be_made_anew_is_no_fetch() -> None:
    once = Repair("a", 7, NOON).asked(NOON).shown_again()
    assert once.fetches == 1
    assert once.shown_again() == once


def test_a_request_that_fetched_nothing_is_made_again_and_never_given_up() -> None:
    repair, waits = Repair("a", 7, NOON), []
    for _ in range(9):
        asked = repair.asked(repair.due)
        waits.append(asked.due - repair.due)
        repair = asked
    assert not repair.given_up
    assert waits == sorted(waits)
    assert min(waits) >= timedelta(minutes=15)


@given(
    st.sets(st.tuples(st.sampled_from(Interval), st.dates(date(2026, 1, 1), date(2026, 4, 30)))),
    st.integers(1, 8),
)
def test_of_what_is_due_no_more_is_read_than_a_ticks_runs_can_take(due, most) -> None:
    taken = next_due(due, most)
    assert set(taken) <= due
    assert len(taken) <= most * 31
    one = Gaps((ETH,), 3, "a")
    runs = runs_of(dict.fromkeys(taken, one), 1_000)
    assert len(runs) <= most
    # The rest would have to wait for another tick's runs.
    assert len(taken) == len(due) or len(runs) == most
    assert runs == runs_of(dict.fromkeys(due, one), 1_000)[: len(runs)]


def test_neighbouring_days_are_one_run_of_at_most_a_month() -> None:
    one = Gaps((ETH,), 3, "a")
    days = [date(2026, 9, 1) + timedelta(days=n) for n in range(40)]
    due: dict[tuple[Interval, date], Gaps] = {(HOUR, day): one for day in days}
    due |= {(MINUTE, days[0]): one, (MINUTE, days[1]): Gaps((BTC,), 1, "b"), (MINUTE, days[9]): one}
    found = [(each.interval, each.first, each.last, each.symbols) for each in runs_of(due, 9)]
    assert found == [
        (HOUR, days[9], days[39], (ETH,)),
        (MINUTE, days[9], days[9], (ETH,)),
        (HOUR, days[0], days[8], (ETH,)),
        (MINUTE, days[0], days[1], (BTC, ETH)),
    ]


def test_yesterday_is_repaired_in_every_interval_before_the_days_before() -> None:
    """Of five hundred symbols a day of minutes is a run of its own."""
    every = Gaps(tuple(f"S{n:03}USDT" for n in range(500)), 1, "a")
    days = [date(2026, 11, 1) + timedelta(days=n) for n in range(10)]
    runs = runs_of({(interval, day): every for interval in Interval for day in days}, 4)
    assert [(each.interval, each.first, each.last) for each in runs] == [
        (MINUTE, days[9], days[9]),
        (QUARTER, days[0], days[9]),
        (HOUR, days[0], days[9]),
        (MINUTE, days[8], days[8]),
    ]


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(Interval), st.dates(date(2026, 1, 1), date(2026, 4, 30))),
        st.integers(1, 500),
    ),
    st.integers(1, 8),
)
def test_a_tick_asks_for_few_runs_that_each_fit(symbols, most) -> None:
    due = {
        key: Gaps(tuple(f"S{n:03}USDT" for n in range(count)), count, "a")
        for key, count in symbols.items()
    }
    runs = runs_of(due, most)
    assert len(runs) <= most
    covered = set()
    for run in runs:
        days = {run.first + timedelta(days=n) for n in range((run.last - run.first).days + 1)}
        own = {(run.interval, day) for day in days}
        assert own <= due.keys()
        assert not own & covered
        covered |= own
        assert set(run.symbols) == {symbol for key in own for symbol in due[key].symbols}
        assert len(days) <= 31
        # A day of more symbols than that has to be one run all the same.
        assert len(days) == 1 or len(days) * len(run.symbols) * run.interval.per_day <= 1_000_000
    assert len(runs) == most or covered == due.keys()


def test_the_cursor_keeps_everything() -> None:
    asked = Repair("a", 7, NOON).asked(NOON)
    repairs = {(MINUTE, DAY): asked, (HOUR, DAY): Repair("b", 8, NOON, 2, 1)}
    cursor = Cursor(41, repairs, DAY, LedgerRequest(DAY, DAY, NOON, 2))
    assert Cursor.from_text(cursor.to_text()) == cursor
    assert Cursor.from_text('{"read": 41, "repairs": []}') == Cursor(41), "of an earlier version"
    assert Cursor.from_text(None) == Cursor()


def repaired(platform: Platform, day: str, **options: Any) -> None:
    """A run of the job but for its table: there is no Snowflake, and nothing of the ledger needs it."""
    platform.run("repair_1m", day, without="candle_gap_table", **options)
    judge_the_rest(platform)


def judge_the_rest(platform: Platform) -> None:
    """As the nightly runs leave the other days: a ledger of each, without a gap."""
    store = ObjectStore(platform.settings.s3)
    held = judged_days(store)
    day = min(held)
    while (day := day + timedelta(days=1)) < platform.now().date():
        if day not in held:
            write_gaps(store, day, pl.DataFrame(schema=gap_schema()))


def look(platform: Platform, cursor: str | None = None) -> Any:
    """One tick of the real sensor."""
    definitions = build_definitions(platform.settings)
    sensor = definitions.resolve_sensor_def("gap_repair")
    with build_sensor_context(
        instance=platform.instance,
        cursor=cursor,
        definitions=definitions,
        resources={
            "store": ObjectStore(platform.settings.s3),
            "exchange": Exchange(platform.settings),
            "settings": platform.settings,
        },
    ) as context:
        return sensor.evaluate_tick(context)


def asked(found: Any) -> list[tuple[Any, ...]]:
    """Job, day and symbols of each run that the tick asks for."""
    return [
        (
            each.job_name,
            each.partition_key,
            *(op["config"]["symbols"] for op in each.run_config["ops"].values()),
        )
        for each in found.run_requests
    ]


def test_the_same_gaps_are_fetched_three_times_and_then_given_up(minutes) -> None:
    platform = minutes
    platform.exchange.faults(symbols={ETH: {"malformed_rows": 1}})
    repaired(platform, "2026-11-18")
    found, keys = look(platform), set()
    expected = [("repair_1m", "2026-11-18", [ETH])]
    for wait in (15, 120):
        assert asked(found) == expected
        keys.add(found.run_requests[0].run_key)
        repaired(platform, "2026-11-18", symbols=[ETH])
        found = look(platform, found.cursor)
        assert asked(found) == []
        assert "1 are requested again" in found.skip_message
        platform.exchange.advance(wait * 60)
        found = look(platform, found.cursor)
    # The runs of these requests fetch nothing: the ledger says no more than before.
    for _ in range(3):
        assert asked(found) == expected
        keys.add(found.run_requests[0].run_key)
        found = look(platform, found.cursor)
        assert asked(found) == []
        platform.exchange.advance(2 * 3600)
        found = look(platform, found.cursor)
    assert asked(found) == expected
    keys.add(found.run_requests[0].run_key)
    assert len(keys) == 6
    # Other rows than before: the same ones again would be settled.
    platform.exchange.faults(symbols={ETH: {"malformed_rows": 1, "duplicate_rows": 1}})
    repaired(platform, "2026-11-18", symbols=[ETH])
    platform.exchange.advance(24 * 3600)
    judge_the_rest(platform)
    found = look(platform, found.cursor)
    assert asked(found) == []
    assert "Given up: 3 fetches did not bring what is missing of 1 days" in found.skip_message
    assert "the first 1m of 2026-11-18" in found.skip_message
    platform.exchange.faults()
    repaired(platform, "2026-11-18", symbols=[ETH])
    found = look(platform, found.cursor)
    assert found.skip_message == NOTHING


def test_a_tick_that_is_repeated_asks_by_the_same_key(minutes) -> None:
    minutes.exchange.faults(symbols={ETH: {"malformed_rows": 1}})
    repaired(minutes, "2026-11-18")
    first, again = look(minutes), look(minutes)
    assert [each.run_key for each in first.run_requests] == [
        each.run_key for each in again.run_requests
    ]


def test_nothing_is_asked_for_while_an_earlier_repair_is_under_way(minutes) -> None:
    platform = minutes
    platform.exchange.faults(symbols={ETH: {"malformed_rows": 1}})
    repaired(platform, "2026-11-18")
    job = build_definitions(platform.settings).resolve_job_def("repair_1m")
    run = platform.instance.create_run_for_job(
        job, status=DagsterRunStatus.STARTED, tags={"dagster/sensor_name": "gap_repair"}
    )
    found = look(platform)
    assert (asked(found), found.skip_message) == ([], "1 earlier runs are under way.")
    platform.instance.report_run_canceled(run)
    assert len(asked(look(platform, found.cursor))) == 1


def test_history_of_a_symbol_that_nobody_asked_for_is_not_fetched(minutes) -> None:
    platform = minutes.with_settings(symbols=(BTC, ETH))
    repaired(platform, ("2026-11-17", "2026-11-18"), symbols=[BTC])
    assert ("not_fetched", ETH) in ledger_of(platform, DAY).select("cause", "symbol").rows()
    assert look(platform).skip_message == NOTHING
    # Whoever says since when history is wanted wants it of all.
    since = platform.with_settings(repair=RepairSettings(since=DAY))
    assert asked(look(since)) == [
        ("repair_1m", "2026-11-18", [ETH]),
        ("repair_15m", "2026-11-18", [BTC, ETH]),
        ("repair_1h", "2026-11-18", [BTC, ETH]),
    ]
    # Its own history begins on the 18th: a hole of it after that is to be filled, none before.
    repaired(platform, "2026-11-18", symbols=[ETH])
    mine = platform.objects(f"ohlcv/1m/{ETH}/")
    platform.bucket.client.delete_object(Bucket=platform.bucket.name, Key=min(mine))
    repaired(platform, ("2026-11-17", "2026-11-19"), symbols=[BTC])
    assert asked(look(platform)) == [("repair_1m", "2026-11-18", [ETH])]


def test_holes_after_the_first_stored_day_are_filled_without_a_mark(minutes) -> None:
    platform = minutes.with_settings(symbols=(BTC, ETH))
    repaired(platform, "2026-11-17")
    repaired(platform, "2026-11-18", symbols=[BTC])
    assert asked(look(platform)) == [("repair_1m", "2026-11-18", [ETH])]


def ledger_of(platform: Platform, day: date) -> pl.DataFrame:
    found = read_gaps(ObjectStore(platform.settings.s3), day)
    assert found is not None
    return found


def test_the_whole_ledger_is_read_before_anything_is_asked_for(minutes, monkeypatch) -> None:
    monkeypatch.setattr(module, "_DAYS_A_LOOK", 2)
    minutes.exchange.faults(symbols={ETH: {"malformed_rows": 1}})
    repaired(minutes, ("2026-11-16", "2026-11-18"))
    found = look(minutes)
    assert asked(found) == []
    assert found.skip_message == "The ledger tells of more days, which are read first."
    found = look(minutes, found.cursor)
    assert [each.tags["dagster/asset_partition_range_start"] for each in found.run_requests] == [
        "2026-11-16"
    ]


def test_the_open_day_is_the_ticks_own(minutes) -> None:
    repaired(minutes, "2026-11-19")
    minutes.tick("1m")
    minutes.exchange.advance(3600)
    minutes.exchange.faults(symbols={ETH: {"malformed_rows": 1}})
    repaired(minutes, "2026-11-20")
    assert asked(look(minutes)) == []


def test_a_ledger_that_was_never_made_asks_for_nothing(minutes) -> None:
    found = look(minutes)
    assert found.skip_message == NOTHING
