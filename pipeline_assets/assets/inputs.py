"""Which output of an earlier step a step takes: its own run's, or else the newest that is retained of its
days. Where outputs lie and how they are read is in resources/staging.py.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from dagster import AssetCheckExecutionContext, AssetExecutionContext

from pipeline_assets.assets import layer
from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.market.intervals import Interval, to_milliseconds
from pipeline_assets.market.partition_keys import partition_days
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.candle_objects import window_start
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import (
    AbsentError,
    Output,
    Staged,
    StagingError,
    newest_first,
    read_document,
    read_frames,
    write_document,
)

if TYPE_CHECKING:
    import polars as pl

# Who makes each output, in the order of the data.
_MAKERS = {Output.RAW: layer.RAW, Output.FORMATTED: layer.FORMATTED, Output.OBJECTS: layer.OBJECTS}


@dataclass(frozen=True)
class Step:
    """A step over days of one interval.

    Attributes:
        store: the lake.
        own: where the step's own run leaves its outputs.
        days: the days of the run's partitions, ascending.
        name: the asset or check that is made.
    """

    store: ObjectStore
    own: Staged
    days: list[date]
    name: str

    @classmethod
    def of(
        cls,
        context: AssetExecutionContext | AssetCheckExecutionContext,
        store: ObjectStore,
        interval: Interval,
        name: str,
    ) -> "Step":
        """The step that is executed now; raises PartitionError if a partition key is no day."""
        keys = context.op_execution_context.partition_keys
        # Only the fetch knows the exchange's clock. Of a day to come, nothing is retained.
        days = partition_days(keys, date.max)
        run = context.run.root_run_id or context.run.run_id
        return cls(store, Staged(interval, days[0], days[-1], run), days, name)

    def _sources(self, output: Output) -> Iterator[Staged]:
        """Where the input may lie, the preferred one first.

        The own run's comes first: beside other runs on the same days, each run reads what it fetched.
        """
        yield self.own
        yield from (each for each in self._covering(output) if each != self.own)

    @contextmanager
    def rows(
        self, output: Output, wanted: Callable[[FetchPlan], bool] = lambda plan: True
    ) -> Iterator["Rows"]:
        """Open the rows of an earlier step, with their plan.

        Args:
            output: of which step.
            wanted: whether the rows of a plan are read at all; they may be a million.

        Raises:
            StagingError: no output of these days is retained. The message names what to select.
        """
        with ExitStack() as opened:
            for source in self._sources(output):
                try:
                    plan = self._plan(source)
                    key = source.key(output)
                    frames = (
                        opened.enter_context(read_frames(self.store, key))
                        if wanted(plan)
                        else iter(())
                    )
                except AbsentError:
                    continue
                yield Rows(plan, source, _within(frames, plan, source))
                return
        raise self._missing(output)

    def stored(self) -> dict[str, Any]:
        """The list of the objects that the upload stored, and the marks of their days.

        Raises:
            StagingError: no list of these days is retained.
        """
        for source in self._sources(Output.OBJECTS):
            try:
                return _of_days(
                    read_document(self.store, source.key(Output.OBJECTS)), source, self.days
                )
            except AbsentError:
                continue
        raise self._missing(Output.OBJECTS)

    def plan_of_stored(self) -> FetchPlan:
        """The plan of the newest run that stored these days.

        Raises:
            StagingError: no plan of these days is retained.
        """
        for source in self._sources(Output.OBJECTS):
            try:
                return self._plan(source)
            except AbsentError:
                continue
        raise self._missing(Output.OBJECTS)

    def keep_plan(self, plan: FetchPlan, source: Staged) -> None:
        """Keep another run's plan beside the outputs made from it, so that later steps find both."""
        if source != self.own:
            write_document(self.store, self.own.plan, plan.to_facts())

    def _plan(self, source: Staged) -> FetchPlan:
        plan = FetchPlan.from_facts(read_document(self.store, source.plan))
        return plan.of_days(self.days)

    def _missing(self, output: Output) -> StagingError:
        interval, first, last = self.own.interval, self.days[0], self.days[-1]
        days = f"{first}" if first == last else f"{first} to {last}"
        outputs = list(Output)
        select: list[str] = []
        for each in reversed(outputs[: outputs.index(output) + 1]):
            if select and self._covering(each):
                break
            select.insert(0, layer.key(_MAKERS[each], interval).to_user_string())
        told = (
            f"No output of {select[-1]} is retained for {days} (PIPELINE_HOUSEKEEPING__STAGING_DAYS says "
            f"how long outputs are). Select {' and '.join(select)} together with {self.name}, and "
            "materialize again."
        )
        if any(
            each.first <= last and first <= each.last
            for each in newest_first(self.store, interval, output)
        ):
            told += " Several runs made parts of these days: single partitions need no more than their own."
        return StagingError(told)

    def _covering(self, output: Output) -> list[Staged]:
        """The retained outputs of all the step's days, the newest first."""
        return [
            each
            for each in newest_first(self.store, self.own.interval, output)
            if each.first <= self.days[0] and self.days[-1] <= each.last
        ]


@dataclass(frozen=True)
class Rows:
    """The rows that a step reads, their plan, and where both lie."""

    plan: FetchPlan
    source: Staged
    frames: Iterator["pl.DataFrame"]


def _within(
    frames: Iterable["pl.DataFrame"], plan: FetchPlan, source: Staged
) -> Iterator["pl.DataFrame"]:
    """The rows of the plan's days, where the run that made them had more days."""
    import polars as pl

    if (source.first, source.last) == (plan.days[0], plan.days[-1]):
        yield from frames
        return
    span = Window(day_window(plan.days[0]).start, day_window(plan.days[-1]).end)
    for frame in frames:
        opens, start, end = pl.col("open_time"), *_bounds(frame, span)
        part = frame.filter(
            opens.is_between(start, end, closed="left"), pl.col("symbol").is_in(list(plan.windows))
        )
        if part.height:
            yield part


def _bounds(frame: "pl.DataFrame", span: Window) -> tuple[Any, Any]:
    """A span in the frame's own time: replies have milliseconds, candles have timestamps."""
    if frame.schema["open_time"].is_integer():
        return to_milliseconds(span.start), to_milliseconds(span.end)
    return span.start, span.end


def _of_days(stored: dict[str, Any], source: Staged, days: Sequence[date]) -> dict[str, Any]:
    """The part of a list of stored objects that lies in these days."""
    if (source.first, source.last) == (days[0], days[-1]):
        return stored
    starts = {key: window_start(key) for key in stored["objects"]}
    return {
        "objects": [key for key, start in starts.items() if start and start.date() in days],
        "sealed": {
            day: marks for day, marks in stored["sealed"].items() if date.fromisoformat(day) in days
        },
    }
