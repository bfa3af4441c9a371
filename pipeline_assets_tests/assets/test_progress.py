"""What a person reads while a fetch goes on, by a clock that the test moves."""

from io import StringIO

import pytest
from rich.console import Console

from pipeline_assets.assets.progress import LogProgress
from pipeline_assets.commands.progress import TerminalProgress


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


def test_the_weight_of_the_minute_and_what_is_to_come_later_are_told(clock: Clock) -> None:
    lines: list[str] = []
    progress = LogProgress(lines.append, clock)
    progress.later = 40_000
    progress.start("1m candles", 100_000)
    clock.now += 10
    progress.weight(1980, 2340)
    progress.advance(20_000)
    assert lines == [
        "1m candles: 20,000 of 100,000 rows, 2,000 rows/s, weight 1,980 of 2,340 this minute, 60 s left"
    ]


@pytest.fixture
def terminal() -> Console:
    return Console(file=StringIO(), force_terminal=True, width=140, color_system=None)


def test_on_a_terminal_a_long_range_is_one_bar_an_interval(terminal: Console) -> None:
    with TerminalProgress(terminal) as progress:
        progress.later = 3000
        progress.start("1m candles", 1000)
        progress.weight(1980, 2340)
        progress.advance(1000)
        progress.finish()
        progress.later = 0
        progress.start("1m candles", 3000)
        progress.advance(1500)
        progress.start("1h candles", 50)
        progress.weight(7, 2340)
        progress.advance(50)
    shown = terminal.file.getvalue().split("\n")
    minutes = [line for line in shown if "1m candles" in line][-1]
    hours = [line for line in shown if "1h candles" in line][-1]
    assert "2500/4000" in minutes
    assert "weight 1,980 of 2,340" in minutes
    assert "50/50" in hours
    assert "weight 7 of 2,340" in hours


def test_elsewhere_the_end_of_each_fetch_is_a_plain_line() -> None:
    console = Console(file=StringIO(), width=140)
    with TerminalProgress(console) as progress:
        progress.start("1m candles", 1000)
        progress.advance(1000)
        progress.finish()
    assert console.file.getvalue().startswith("1m candles: 1,000 rows fetched, ")


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
