"""Progress of a fetch, or of other long work, on a terminal, by rich. Plain lines of a fetch are in
collection/progress.py.
"""

import time
from types import TracebackType
from typing import Self

from rich.console import Console  # noqa: TID253  a command's own module: no run imports it
from rich.progress import (  # noqa: TID253
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text  # noqa: TID253

from pipeline_assets.collection.progress import LogProgress

_MINUTES_OF_RATE = 180.0  # seconds
_PLAIN_SECONDS = 10.0


class _Rate(ProgressColumn):
    def render(self, task: "object") -> Text:
        speed = getattr(task, "finished_speed", None) or getattr(task, "speed", None)
        # The bar counts planned candles; of some of them no row came.
        completed = getattr(task, "completed", 0)
        if not speed or not completed:
            return Text("")
        rows = getattr(task, "fields", {})["fetched"]
        return Text(f"{rows:,} rows, {speed * rows / completed:,.0f} rows/s", style="cyan")


class _Bars:
    """The bars of a terminal, shown while the work runs; elsewhere nothing is drawn."""

    def __init__(self, console: Console, bars: Progress) -> None:
        self._console, self._bars = console, bars

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()


class TerminalProgress(_Bars):
    """A bar for each interval on a terminal, plain lines elsewhere.

    The bar moves by planned candles, and says how many rows came of them, the rate, the weight and the
    time left.
    """

    def __init__(self, console: Console) -> None:
        self._plain = LogProgress(console.print) if not console.is_terminal else None
        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TextColumn("{task.fields[weight]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            # The exchange's limit lets all of a minute's rows come within seconds of it.
            speed_estimate_period=_MINUTES_OF_RATE,
        )
        super().__init__(console, bars)
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        self._fetched: dict[str, int] = {}
        self._said: set[str] = set()
        self.later = 0

    def say(self, line: str) -> None:
        """Print a line above the bars, unless it was printed before."""
        if line not in self._said:
            self._said.add(line)
            self._console.print(line, markup=False, soft_wrap=True)

    def start(self, label: str, rows: int) -> None:
        """See collection.progress.Progress."""
        self._label, self._rows, self._started = label, 0, time.monotonic()
        if self._plain is not None:
            self._plain.later = self.later
            self._plain.start(label, rows)
        else:
            # A long range is many fetches: one bar an interval, not one bar a fetch.
            if label not in self._tasks:
                self._tasks[label] = self._bars.add_task(label, total=None, weight="", fetched=0)
                self._done[label] = self._fetched[label] = 0
            total = self._done[label] + rows + self.later
            self._bars.update(self._tasks[label], total=total)

    def advance(self, rows: int, planned: int) -> None:
        """See collection.progress.Progress."""
        self._rows += rows
        if self._plain is not None:
            self._plain.advance(rows, planned)
        else:
            self._done[self._label] += planned
            self._fetched[self._label] += rows
            task = self._tasks[self._label]
            self._bars.update(task, advance=planned, fetched=self._fetched[self._label])

    def weight(self, used: int, allowed: int) -> None:
        """See collection.progress.Progress."""
        if self._plain is not None:
            self._plain.weight(used, allowed)
        else:
            message = f"weight {used:,} of {allowed:,}"
            self._bars.update(self._tasks[self._label], weight=message)

    def finish(self) -> None:
        """See collection.progress.Progress."""
        if self._plain is not None:
            self._plain.finish()
            seconds = time.monotonic() - self._started
            rate = self._rows / seconds
            self._console.print(f"{self._label}: {self._rows:,} rows fetched, {rate:,.0f} rows/s")


class StepProgress(_Bars):
    """A bar for work of known length on a terminal, a plain line every ten seconds elsewhere.

    Shows how much is done, the rate and the time left.
    """

    def __init__(self, console: Console, label: str, unit: str) -> None:
        self._label, self._unit = label, unit
        self._started = self._printed = time.monotonic()
        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TextColumn("{task.fields[rate]}", style="cyan"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            # The bar gives way to the result.
            transient=True,
        )
        super().__init__(console, bars)
        self._task: TaskID | None = None

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` units are done."""
        now = time.monotonic()
        rate = done / max(now - self._started, 1e-9)
        if self._console.is_terminal:
            if self._task is None:
                self._task = self._bars.add_task(self._label, total=total, rate="")
            text = self._rate(rate)
            self._bars.update(self._task, completed=done, total=total, rate=text)
        elif now - self._printed >= _PLAIN_SECONDS:
            self._printed = now
            left = (total - done) / rate if rate else 0
            self._console.print(
                f"{self._label}: {done:,} of {total:,} {self._unit}, {self._rate(rate)}, {left:,.0f} s left"
            )

    def _rate(self, rate: float) -> str:
        # A report has six sections in half a minute: "0 sections/s" would say that nothing moves.
        return (
            f"{rate:,.0f} {self._unit}/s"
            if rate >= 1
            else f"{1 / rate:,.0f} s each"
            if rate
            else "–"
        )
