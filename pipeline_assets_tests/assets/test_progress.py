"""What a person reads while a fetch goes on, by a clock that the test moves."""

import pytest

from pipeline_assets.assets.progress import LogProgress


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_short_work_stays_silent(clock: Clock) -> None:
    lines: list[str] = []
    progress = LogProgress(lines.append, clock)
    progress.start("1m candles", 1000)
    for _ in range(10):
        clock.now += 0.9
        progress.advance(100)
    progress.finish()
    assert lines == []


def test_long_work_tells_every_ten_seconds_how_far_how_fast_and_how_long(clock: Clock) -> None:
    lines: list[str] = []
    progress = LogProgress(lines.append, clock)
    progress.start("1m candles", 100_000)
    for _ in range(25):
        clock.now += 1
        progress.advance(2000)
    assert lines == [
        "1m candles: 20,000 of 100,000 rows, 2,000 rows/s, 40 s left",
        "1m candles: 40,000 of 100,000 rows, 2,000 rows/s, 30 s left",
    ]


def test_more_rows_than_expected_leave_no_time_and_not_less(clock: Clock) -> None:
    lines: list[str] = []
    progress = LogProgress(lines.append, clock)
    progress.start("1h candles", 10)
    clock.now += 10
    progress.advance(20)
    assert lines == ["1h candles: 20 of 10 rows, 2 rows/s, 0 s left"]


def test_a_second_fetch_starts_counting_anew(clock: Clock) -> None:
    lines: list[str] = []
    progress = LogProgress(lines.append, clock)
    progress.start("1m candles", 10)
    progress.advance(10)
    progress.finish()
    progress.start("15m candles", 40)
    clock.now += 10
    progress.advance(20)
    assert lines == ["15m candles: 20 of 40 rows, 2 rows/s, 10 s left"]
