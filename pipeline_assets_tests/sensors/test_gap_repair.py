"""The runs that the sensor requests for gaps that can be filled, how often, and when it gives up."""

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
from pipeline_assets.resources.gap_objects import (
    forget_gaps,
    gap_schema,
    judged_days,
    read_gaps,
    write_gaps,
)
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


def test_only_fetchable_gaps_are_requested() -> None:
    """Only gaps that a run can fill are requested."""
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


def test_days_before_history_are_ignored() -> None:
    """Days before the history begins are left alone."""
    gaps = ledger((BTC, "1m", 0, 9, "not_fetched"), (BTC, "1h", 0, 9, "not_fetched"))
    since = {MINUTE: DAY + timedelta(days=1), HOUR: DAY}
    assert set(by_interval(fillable(gaps, since, SYMBOLS))) == {HOUR}
    assert set(by_interval(fillable(gaps, {}, SYMBOLS))) == set()


def name(*rows: tuple[str, str, int, int, str]) -> str:
    return by_interval(fillable(ledger(*rows), EVERY, SYMBOLS))[MINUTE].name


def test_causes_do_not_change_gaps() -> None:
    """Gaps over the same candles are the same, whatever the causes of their parts."""
    whole = name((ETH, "1m", 5, 10, "not_fetched"))
    assert name((ETH, "1m", 5, 4, "set_aside"), (ETH, "1m", 9, 6, "not_fetched")) == whole
    assert name((ETH, "1m", 5, 9, "not_fetched")) != whole
    assert name((BTC, "1m", 5, 10, "not_fetched")) != whole
    assert name((ETH, "1m", 5, 4, "set_aside"), (ETH, "1m", 10, 6, "not_fetched")) != whole


def test_unchanged_gaps_stay_requested() -> None:
    """Unchanged gaps stay requested, and changed ones are new."""
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


def test_waits_grow_until_three_failures() -> None:
    """Waits grow until three fetches brought nothing."""
    repair, waits = Repair("a", 7, NOON), []
    while not repair.given_up:
        asked = repair.asked(repair.due)
        waits.append(asked.due - repair.due)
        repair = asked.shown_again()
    assert waits[0] < waits[1]
    assert len(waits) == 3


def test_unrequested_ledger_is_no_fetch() -> None:
    """The first ledger after a request counts as its fetch; a further one counts as none."""
    once = Repair("a", 7, NOON).asked(NOON).shown_again()
    assert once.fetches == 1
    assert once.shown_again() == once


def test_fruitless_request_is_repeated() -> None:
    """A request after which no ledger was written is repeated, with growing waits, and never given up."""
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
def test_reads_only_what_runs_can_take(due, most) -> None:
    """The sensor reads no more due days than the runs of one evaluation can take."""
    taken = next_due(due, most)
    assert set(taken) <= due
    assert len(taken) <= most * 31
    one = Gaps((ETH,), 3, "a")
    runs = runs_of(dict.fromkeys(taken, one), 1_000)
    assert len(runs) <= most
    # Any further day would have to wait for the sensor's next evaluation.
    assert len(taken) == len(due) or len(runs) == most
    assert runs == runs_of(dict.fromkeys(due, one), 1_000)[: len(runs)]


def test_neighbouring_days_share_a_run() -> None:
    """Neighbouring days are one run of at most a month."""
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


def test_yesterday_precedes_earlier_days() -> None:
    """Yesterday is repaired in every interval before the days before.

    A day of minutes of five hundred symbols is a run of its own.
    """
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
def test_tick_requests_few_fitting_runs(symbols, most) -> None:
    """A tick requests few runs, each of which fits its limit."""
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
    """Run the job without its table: no Snowflake runs here, and the ledger does not need one."""
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


def test_removed_ledger_is_requested_again(minutes) -> None:
    """The ledger of a damaged day, which a sweep removes, is requested, be it the first of all."""
    repaired(minutes, "2026-11-18")
    found = look(minutes)
    assert asked(found) == []
    forget_gaps(ObjectStore(minutes.settings.s3), [DAY])
    found = look(minutes, found.cursor)
    [request] = found.run_requests
    assert (request.job_name, request.partition_key) == ("gap_ledger", "2026-11-18")


def test_backfill_outdates_the_ledger(minutes) -> None:
    """A ledger from before a backfill is requested again once no backfill is under way, and then no more."""
    repaired(minutes, "2026-11-18", symbols=[BTC])
    judge_the_rest(minutes)
    assert ETH in ledger_of(minutes, DAY)["symbol"]
    minutes.run("backfill_1m", "2026-11-18", symbols=[ETH], without="candle_slots_1m")
    job = build_definitions(minutes.settings).resolve_job_def("backfill_1m")
    run = minutes.instance.create_run_for_job(job, status=DagsterRunStatus.STARTED, tags=job.tags)
    assert asked(look(minutes)) == [("repair_1m", "2026-11-18", [ETH])]
    minutes.instance.report_run_canceled(run)
    found = look(minutes)
    [request] = found.run_requests
    assert (request.job_name, request.partition_key) == ("gap_ledger", "2026-11-18")
    minutes.run("gap_ledger", "2026-11-18", without="candle_gap_table")
    due = ledger_of(minutes, DAY).filter(interval="1m", cause="not_fetched")
    assert ETH not in due["symbol"]
    assert look(minutes, found.cursor).skip_message == NOTHING


def test_same_gaps_are_fetched_three_times(minutes) -> None:
    """The same gaps are fetched three times and then given up."""
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
        assert "1 run to be requested again" in found.skip_message
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
    assert "Given up: 3 fetches did not bring what is missing of 1 day, " in found.skip_message
    assert "the first 1m of 2026-11-18" in found.skip_message
    platform.exchange.faults()
    repaired(platform, "2026-11-18", symbols=[ETH])
    found = look(platform, found.cursor)
    assert found.skip_message == NOTHING


def test_repeated_tick_reuses_the_key(minutes) -> None:
    """A tick that is repeated requests runs by the same key."""
    minutes.exchange.faults(symbols={ETH: {"malformed_rows": 1}})
    repaired(minutes, "2026-11-18")
    first, again = look(minutes), look(minutes)
    assert [each.run_key for each in first.run_requests] == [
        each.run_key for each in again.run_requests
    ]


def test_running_repair_blocks_new_requests(minutes) -> None:
    """Nothing is requested while an earlier repair is under way."""
    platform = minutes
    platform.exchange.faults(symbols={ETH: {"malformed_rows": 1}})
    repaired(platform, "2026-11-18")
    job = build_definitions(platform.settings).resolve_job_def("repair_1m")
    run = platform.instance.create_run_for_job(
        job, status=DagsterRunStatus.STARTED, tags={"dagster/sensor_name": "gap_repair"}
    )
    found = look(platform)
    assert (asked(found), found.skip_message) == ([], "1 earlier run under way.")
    platform.instance.report_run_canceled(run)
    assert len(asked(look(platform, found.cursor))) == 1


def test_unrequested_history_is_not_fetched(minutes) -> None:
    """Days before a symbol's first stored day are fetched only if the settings ask for them."""
    platform = minutes.with_settings(symbols=(BTC, ETH))
    repaired(platform, ("2026-11-17", "2026-11-18"), symbols=[BTC])
    assert ("not_fetched", ETH) in ledger_of(platform, DAY).select("cause", "symbol").rows()
    assert look(platform).skip_message == NOTHING
    # The setting `since` requests the history of all symbols.
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


def test_later_holes_need_no_mark(minutes) -> None:
    """Holes after the first stored day are filled without a mark."""
    platform = minutes.with_settings(symbols=(BTC, ETH))
    repaired(platform, "2026-11-17")
    repaired(platform, "2026-11-18", symbols=[BTC])
    assert asked(look(platform)) == [("repair_1m", "2026-11-18", [ETH])]


def ledger_of(platform: Platform, day: date) -> pl.DataFrame:
    found = read_gaps(ObjectStore(platform.settings.s3), day)
    assert found is not None
    return found


def test_whole_ledger_is_read_first(minutes, monkeypatch) -> None:
    """The whole ledger is read before a run is requested."""
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


def test_open_day_belongs_to_ingest(minutes) -> None:
    """The open day is left to the ingest runs."""
    repaired(minutes, "2026-11-19")
    minutes.ingest("1m")
    minutes.exchange.advance(3600)
    minutes.exchange.faults(symbols={ETH: {"malformed_rows": 1}})
    repaired(minutes, "2026-11-20")
    assert asked(look(minutes)) == []


def test_missing_ledger_requests_nothing(minutes) -> None:
    """A ledger that was never written requests nothing."""
    found = look(minutes)
    assert found.skip_message == NOTHING
