"""When a candle is due on the lake, and when a table's load is."""

from datetime import UTC, datetime, timedelta

import pytest

from pipeline_assets.collection.due_uploads import load_due, newest_due
from pipeline_assets.collection.freshness import judge
from pipeline_assets.collection.overdue_ingest import overdue_candle
from pipeline_assets.market.intervals import Interval
from pipeline_assets.resources.candle_objects import WrittenObject
from pipeline_assets.resources.ingest_state import IngestState

MINUTE, QUARTER = Interval.ONE_MINUTE, Interval.FIFTEEN_MINUTES


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-20T{text}").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("newest", "minutes", "due"),
    [
        ("10:03", 1, "10:03"),
        ("10:03", 5, "09:59"),
        ("10:04", 5, "10:04"),
        ("10:08", 5, "10:04"),
        ("10:13", 15, "09:59"),
        ("10:14", 15, "10:14"),
        # An hour's end is due whatever the setting, so that no upload has two objects a symbol.
        ("10:58", 7, "10:55"),
        ("10:59", 7, "10:59"),
        ("11:05", 7, "10:59"),
        ("11:06", 7, "11:06"),
    ],
)
def test_newest_due_counts_from_the_hour(newest: str, minutes: int, due: str) -> None:
    assert newest_due(MINUTE, at(newest), minutes) == at(due)


def test_only_minutes_wait() -> None:
    assert newest_due(QUARTER, at("10:30"), 15) == at("10:30")
    assert newest_due(Interval.ONE_HOUR, at("10:00"), 15) == at("10:00")


def test_first_minutes_of_a_day_wait_for_the_day_before() -> None:
    due = newest_due(MINUTE, at("00:03"), 5)
    assert due == at("00:00") - timedelta(minutes=1)


@pytest.mark.parametrize("minutes", range(1, 16))
def test_no_minute_waits_longer_than_the_setting(minutes: int) -> None:
    opens = [at("10:00") + n * MINUTE.span for n in range(180)]
    waits = [(newest - newest_due(MINUTE, newest, minutes)) // MINUTE.span for newest in opens]
    assert max(waits) == minutes - 1
    assert min(waits) == 0


@pytest.mark.parametrize(
    ("newest", "minutes", "due"),
    [
        ("10:00", 15, "10:15"),
        ("10:00", 60, "10:00"),
        ("10:45", 60, "11:00"),
        ("10:45", 420, "07:00"),
    ],
)
def test_load_counts_from_midnight(newest: str, minutes: int, due: str) -> None:
    assert load_due(QUARTER, at(newest), minutes) == at(due)


def test_midnight_loads_whatever_the_setting() -> None:
    midnight = at("23:45") + QUARTER.span
    assert load_due(QUARTER, at("23:45"), 420) == midnight


def test_minute_that_waits_for_its_upload_is_neither_stale_nor_overdue() -> None:
    """Two minutes after 10:13 closed, 10:09 is the newest that should be stored; after 10:14, 10:14."""
    state = IngestState({"BTCUSDT": at("10:09")})
    waiting, late = at("10:16:59"), at("10:17:01")
    assert judge(MINUTE, state, waiting, 5).fresh
    assert not judge(MINUTE, state, late, 5).fresh
    assert not judge(MINUTE, state, waiting, 1).fresh
    assert overdue_candle(MINUTE, at("10:09"), waiting, 5) is None
    assert overdue_candle(MINUTE, at("10:09"), late, 5) == at("10:14")


def test_state_keeps_the_open_object_while_the_ended_hour_is_read_again() -> None:
    """The run of 11:01 writes nothing of the hour from 11:00: its ETag stays, so no run has to read it."""
    ended, opened = (
        "ohlcv/1m/BTCUSDT/20261120_1000.parquet",
        "ohlcv/1m/BTCUSDT/20261120_1100.parquet",
    )
    state = IngestState({"BTCUSDT": at("11:00")}, {ended: "a", opened: "b"})
    again = WrittenObject(ended, "a", "BTCUSDT", 60, at("10:59"), changed=False)
    assert state.after([again], {"BTCUSDT"}) == state
    newer = WrittenObject(opened, "c", "BTCUSDT", 2, at("11:01"), changed=True)
    assert state.after([newer], {"BTCUSDT"}).etags == {opened: "c"}
