"""Candidates: ids that repeat, frames and wire forms that keep every value, a published schema."""

import json
from datetime import UTC, datetime, timedelta, timezone
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline_assets.market.candidates import (
    Candidate,
    candidate_id,
    candidate_schema,
    candidates_of,
    contradiction,
    indicators_text,
)
from pipeline_assets.market.intervals import Interval
from pipeline_assets_tests.market.frames import candidates_frame

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
PLAIN = st.text().filter(str.isprintable)
KEY = ("rsi_reversal", "1", "BTCUSDT", Interval.ONE_MINUTE, NOON)


def candidate(**changes):
    return Candidate(
        **{
            "id": candidate_id(*KEY),
            "strategy": "rsi_reversal",
            "version": "1",
            "symbol": "BTCUSDT",
            "interval": Interval.ONE_MINUTE,
            "side": "long",
            "open_time": NOON,
            "price": 67_000.1,
            "indicators": {"rsi_14": 30.5},
            "created_at": NOON + timedelta(seconds=63),
        }
        | changes
    )


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": "\x1b[2JBTCUSDT"},
        {"strategy": "a\nb"},
        {"version": "\u202e1"},
        {"indicators": {"\x07": 1}},
    ],
    ids=["symbol", "strategy", "version", "indicator"],
)
def test_terminal_control_text_is_refused(change):
    """Text with control characters, which a terminal would obey, is refused.

    Another program may write to the topic.
    """
    with pytest.raises(ValidationError, match="must be printable"):
        candidate(**change)


def test_an_id_never_changes():
    # Ids of years ago are compared with those of today: this literal must stay as it is.
    assert candidate_id(*KEY) == "d3566632-8d93-5bf0-8daa-289cd239fd1e"


@pytest.mark.parametrize(
    ("place", "other"),
    [
        (0, "macd_cross"),
        (1, "2"),
        (2, "ETHUSDT"),
        (3, Interval.ONE_HOUR),
        (4, NOON + timedelta(minutes=1)),
    ],
)
def test_each_key_part_changes_the_id(place, other):
    """Each part of the key changes the id."""
    changed = [*KEY]
    changed[place] = other
    assert candidate_id(*changed) != candidate_id(*KEY)


def test_time_zone_keeps_the_id():
    """The time zone of the open time does not change the id."""
    there = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert candidate_id(*KEY[:4], there) == candidate_id(*KEY)
    with pytest.raises(ValueError, match="has no zone: give an aware time"):
        candidate_id(*KEY[:4], NOON.replace(tzinfo=None))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({}, ""),
        ({"open_time": NOON + timedelta(minutes=1)}, "id"),
        ({"symbol": "ETHUSDT"}, "id"),
        ({"open_time": NOON + timedelta(seconds=30)}, "open time"),
        ({"open_time": NOON + timedelta(minutes=7), "interval": Interval.ONE_HOUR}, "open time"),
    ],
)
def test_contradictions_are_found(change, what):
    """The id follows from the content, and a candle opens at whole multiples of its interval."""
    assert what in contradiction(candidate(**change))
    assert bool(contradiction(candidate(**change))) == bool(what)


def test_key_parts_stay_separate():
    """Parts of the key do not run into each other: their lengths matter."""
    assert candidate_id("a", "b-c", *KEY[2:]) != candidate_id("a-b", "c", *KEY[2:])


finite = st.floats(allow_nan=False, allow_infinity=False)
times = st.timedeltas(timedelta(days=-9000), timedelta(days=27_000)).map(lambda apart: NOON + apart)
candidates = st.builds(
    candidate,
    symbol=st.text(max_size=64).filter(str.isprintable).filter(bool),
    side=st.sampled_from(["long", "short"]),
    interval=st.sampled_from(Interval),
    open_time=times,
    created_at=times,
    price=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
    indicators=st.dictionaries(PLAIN, finite),
)


@given(st.lists(candidates, max_size=4))
def test_wire_and_frame_keep_values(given_candidates):
    """The message and the frame keep every value."""
    for one in given_candidates:
        assert Candidate.model_validate_json(one.model_dump_json()) == one
    frame = candidates_frame(given_candidates)
    assert frame.schema == candidate_schema()
    assert candidates_of(frame) == given_candidates


def test_indicator_order_does_not_matter():
    """The order of the indicators does not matter."""
    assert indicators_text({"b": 2.0, "a": 1e-7}) == '{"a":1e-07,"b":2.0}'
    assert indicators_text({"a": 1e-7, "b": 2.0}) == indicators_text({"b": 2.0, "a": 1e-7})


def test_times_are_reported_in_utc():
    there = candidate(open_time=NOON.astimezone(timezone(timedelta(hours=2))))
    assert json.loads(there.model_dump_json())["open_time"] == "2026-11-01T12:00:00Z"


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "1"},
        {"side": "buy"},
        {"symbol": "A" * 65},
        {"strategy": "a" * 30_000},
        {"version": "1" * 65},
        {"price": 0},
        {"price": float("nan")},
        {"open_time": NOON.replace(tzinfo=None)},
        {"indicators": {"rsi_14": float("inf")}},
        {"indicators": {"rsi_14": None}},
        {"note": "unknown"},
    ],
)
def test_what_is_no_candidate_is_refused(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        candidate(**changes)


def test_the_published_json_schema_is_current():
    published = files("pipeline_assets.market").joinpath("candidate.schema.json").read_text("utf-8")
    assert json.loads(published) == Candidate.model_json_schema()


@pytest.mark.parametrize("year", [1, 1969, 2200, 9999])
def test_impossible_open_time_is_refused(year: int) -> None:
    """The close of the year 9999's last minute overflows: that message ended each reader of the topic."""
    last_minute = datetime(year, 12, 31, 23, 59, tzinfo=UTC)
    with pytest.raises(ValidationError, match="must be from 1970 to 2199"):
        candidate(open_time=last_minute)
