"""Progress messages during a fetch, by a clock that the test moves."""

from io import StringIO

import pytest
from rich.console import Console

from pipeline_assets.cli.progress import TerminalProgress
from pipeline_assets.collection.progress import LogProgress
from pipeline_assets_tests.fixtures.platform import SYMBOLS, Platform


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
        progress.advance(100, 100)
    progress.finish()
    assert lines == []


def test_long_work_reports_every_ten_seconds(clock: Clock) -> None:
    """Long work reports every ten seconds its share, its rate and the time left."""
    lines: list[str] = []
    progress = LogProgress(lines.append, clock)
    progress.start("1m candles", 100_000)
    for _ in range(25):
        clock.now += 1
        progress.advance(2000, 2000)
    assert lines == [
        "1m candles: 20,000 of 100,000 planned, 20,000 rows fetched, 2,000 rows/s, 40 s left",
        "1m candles: 40,000 of 100,000 planned, 40,000 rows fetched, 2,000 rows/s, 30 s left",
    ]


def test_weight_and_later_work_are_reported(clock: Clock) -> None:
    """The weight used this minute is reported, and the time left includes later fetches."""
    lines: list[str] = []
    progress = LogProgress(lines.append, clock)
    progress.later = 40_000
    progress.start("1m candles", 100_000)
    clock.now += 10
    progress.weight(1980, 2340)
    progress.advance(20_000, 20_000)
    assert lines == [
        "1m candles: 20,000 of 100,000 planned, 20,000 rows fetched, 2,000 rows/s, "
        "weight 1,980 of 2,340 this minute, 60 s left"
    ]


@pytest.fixture
def terminal() -> Console:
    return Console(file=StringIO(), force_terminal=True, width=140, color_system=None)


def test_terminal_shows_bar_per_interval(terminal: Console) -> None:
    """On a terminal a long range is one bar an interval."""
    with TerminalProgress(terminal) as progress:
        progress.later = 3000
        progress.start("1m candles", 1000)
        progress.weight(1980, 2340)
        progress.advance(1000, 1000)
        progress.finish()
        progress.later = 0
        progress.start("1m candles", 3000)
        progress.advance(1500, 1500)
        progress.start("1h candles", 50)
        progress.weight(7, 2340)
        progress.advance(50, 50)
    shown = terminal.file.getvalue().split("\n")
    minutes = [line for line in shown if "1m candles" in line][-1]
    hours = [line for line in shown if "1h candles" in line][-1]
    assert "2500/4000" in minutes
    assert "weight 1,980 of 2,340" in minutes
    assert "50/50" in hours
    assert "weight 7 of 2,340" in hours


def test_plain_output_ends_each_fetch() -> None:
    """Without a terminal the end of each fetch is a plain line."""
    console = Console(file=StringIO(), width=140)
    with TerminalProgress(console) as progress:
        progress.start("1m candles", 1000)
        progress.advance(1000, 1000)
        progress.finish()
    assert console.file.getvalue().startswith("1m candles: 1,000 rows fetched, ")


def test_excess_rows_leave_no_time(clock: Clock) -> None:
    """If more rows come than expected, the time left is zero and not negative."""
    lines: list[str] = []
    progress = LogProgress(lines.append, clock)
    progress.start("1h candles", 10)
    clock.now += 10
    progress.advance(20, 20)
    assert lines == ["1h candles: 20 of 10 planned, 20 rows fetched, 2 rows/s, 0 s left"]


def test_a_second_fetch_starts_counting_anew(clock: Clock) -> None:
    lines: list[str] = []
    progress = LogProgress(lines.append, clock)
    progress.start("1m candles", 10)
    progress.advance(10, 10)
    progress.finish()
    progress.start("15m candles", 40)
    clock.now += 10
    progress.advance(20, 20)
    assert lines == ["15m candles: 20 of 40 planned, 20 rows fetched, 2 rows/s, 10 s left"]


def test_missing_rows_are_not_counted(clock: Clock, terminal: Console) -> None:
    """Rows that did not come are not shown as fetched.

    A symbol of 600 candles failed, and of 400 planned ones the exchange had 250.
    """
    lines: list[str] = []
    progress = LogProgress(lines.append, clock)
    progress.start("1m candles", 2000)
    progress.advance(0, 600)
    clock.now += 10
    progress.advance(250, 400)
    assert lines == ["1m candles: 1,000 of 2,000 planned, 250 rows fetched, 25 rows/s, 10 s left"]
    with TerminalProgress(terminal) as bars:
        bars.start("1m candles", 2000)
        bars.advance(0, 600)
        bars.advance(250, 400)
    last = [line for line in terminal.file.getvalue().split("\n") if "1m candles" in line][-1]
    assert "1000/2000" in last
    assert "250 rows," in last


def test_unsettled_fetch_has_unknown_time(clock: Clock) -> None:
    """A fetch without any result yet says that the time left is unknown."""
    lines: list[str] = []
    progress = LogProgress(lines.append, clock)
    progress.start("1m candles", 100)
    clock.now += 10
    progress.advance(0, 0)
    assert lines == ["1m candles: 0 of 100 planned, 0 rows fetched, 0 rows/s, time left unknown"]


class Noted:
    """Progress that records its calls."""

    def __init__(self) -> None:
        self.later = 0
        self.expected = self.rows = self.planned = 0

    def start(self, label: str, rows: int) -> None:
        self.expected += rows

    def advance(self, rows: int, planned: int) -> None:
        self.rows += rows
        self.planned += planned

    def weight(self, used: int, allowed: int) -> None: ...

    def finish(self) -> None: ...


@pytest.mark.parametrize("archive", [False, True])
def test_backfill_counts_received_rows(minutes: Platform, archive: bool) -> None:
    """A backfill counts the rows that came.

    One symbol fails, and two hours never were on the exchange.
    """
    failing, *others = SYMBOLS
    minutes.exchange.faults(symbols={failing: {"cut_json": 1}})
    minutes.exchange.outages("2026-11-18T10:00:00Z/2026-11-18T12:00:00Z")
    noted = Noted()
    with_progress = minutes.with_settings(binance={"archive": archive})
    with_progress.backfill("1m", "2026-11-18", progress=noted)
    assert noted.expected == noted.planned == 1440 * len(SYMBOLS)
    assert noted.rows == (1440 - 120) * len(others)
