"""The tables of docs/production.md, and how single runs become a day."""

from collections import Counter

import pytest

from pipeline_assets.market.intervals import Interval
from pipeline_assets_tests.benchmarks.cost_model import (
    SYMBOLS,
    Day,
    Measured,
    day_of,
    loads_of_a_day,
    measured,
    runs_of_a_day,
    s3_dollars,
    warehouse_dollars,
    warehouse_minutes,
    warehouse_use,
)
from pipeline_assets_tests.benchmarks.cost_table import PAGE, page


def test_tables_are_current() -> None:
    """`make generate` writes them from the recorded counts and the prices."""
    text = PAGE.read_text("utf-8")
    assert page(text) == text


@pytest.mark.parametrize(
    ("upload_minutes", "uploads"), [(1, 1440), (5, 288), (7, 24 * 9), (15, 96)]
)
def test_day_has_each_minute_once(upload_minutes: int, uploads: int) -> None:
    runs = runs_of_a_day(upload_minutes)
    minutes = {run: n for run, n in runs.items() if run.startswith(("upload", "wait"))}
    assert sum(minutes.values()) == 1440
    assert runs["upload"] + runs["upload_after_hour"] == uploads


def test_loads_share_their_wakes() -> None:
    loads = loads_of_a_day(60)
    assert len(loads[Interval.FIFTEEN_MINUTES]) == len(loads[Interval.ONE_HOUR]) == 24
    assert loads[Interval.FIFTEEN_MINUTES] == loads[Interval.ONE_HOUR]
    assert len(loads_of_a_day(1440)[Interval.ONE_HOUR]) == 1


def test_counts_between_two_measured_ones_lie_on_a_line() -> None:
    found = [
        Measured(symbols, run, 1, {"PUT": 5 + symbols, "statements": 4})
        for symbols in (10, 100)
        for run in runs_of_a_day(1)
    ]
    day = day_of(found, 500, 1, 15)
    assert day.counts["PUT"] == 505 * (1440 + 96 + 24 + 1 + 1)
    assert day.counts["statements"] == 4 * (1440 + 96 + 24 + 1 + 1)
    assert day_of(found, 500, 1, 60).counts["statements"] == 4 * (1440 + 24 + 24 + 1 + 1)


def test_dollars_are_counts_times_prices() -> None:
    """A million writes and a million reads a day; a hundred wakes of 65 seconds."""
    day = Day(Counter({"PUT": 900_000, "LIST": 100_000, "GET": 1_000_000, "DELETE": 77}), 100)
    assert s3_dollars(day) == pytest.approx(30 * (5.0 + 0.4))
    assert warehouse_minutes(day) == pytest.approx(100 * 65 / 60)
    assert warehouse_dollars(day) == pytest.approx(100 * 65 / 3600 * 2.0 * 30)


def test_features_share_the_wakes() -> None:
    """Features add the seconds of their statements; reads keep the warehouse awake until a minute after."""
    loads, features, inference = (
        warehouse_use(15, features=features, inference=inference)
        for features, inference in ((False, False), (True, False), (True, True))
    )
    assert loads.seconds / 60 == pytest.approx(97 * 65 / 60)
    assert loads.seconds == 60 * warehouse_minutes(day_of(measured(), 100, 1, 15))
    assert (loads.statements, features.statements, inference.statements) == (0, 244, 364)
    assert features.seconds - loads.seconds == 5 * 122
    # The read ends 64 seconds after the close, when the load began 54 seconds ago.
    assert inference.seconds == 96 * (54 + 60) + 75
    assert inference.credits == pytest.approx(inference.seconds / 3600)


def test_recorded_counts_cover_every_kind_of_run() -> None:
    found = measured()
    for symbols in SYMBOLS:
        for upload_minutes in (1, 5, 15):
            assert day_of(found, symbols, upload_minutes, 15).counts["candle_objects"] > 0
