"""Which output of an earlier step a step takes: its own run's, or else the newest that is retained of its
days. Where outputs lie and how they are read is in resources/staging.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.collection.handover import Handover, handover
from pipeline_assets.collection.step_rows import Candles, CleanedReplies, within
from pipeline_assets.market.cleaning import clean
from pipeline_assets.market.intervals import Interval
from pipeline_assets.market.partition_keys import partition_days
from pipeline_assets.resources.candle_objects import window_start
from pipeline_assets.resources.finalized_days import FinalizedDay
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

# The assets that make the outputs, without their interval, in the order of the data.
MAKERS = {
    Output.RAW: "raw_candles",
    Output.FORMATTED: "candles",
    Output.OBJECTS: "candle_objects",
}


@dataclass(frozen=True)
class Stored:
    """The objects and marks that an upload stored.

    Attributes:
        source: where the upload's own outputs lie.
        objects: the keys of the objects.
        finalized: the marks of finalized days, by day and symbol.
    """

    source: Staged
    objects: list[str]
    finalized: dict[date, dict[str, FinalizedDay]]

    def of_days(self, days: Sequence[date]) -> "Stored":
        """Return the part that lies in these days."""
        starts = {key: window_start(key) for key in self.objects}
        return replace(
            self,
            objects=[key for key, start in starts.items() if start and start.date() in days],
            finalized={day: marks for day, marks in self.finalized.items() if day in days},
        )


@dataclass(frozen=True)
class Step:
    """A step over days of one interval.

    Attributes:
        store: the lake.
        own: where the step's own run leaves its outputs.
        days: the days of the run's partitions, ascending.
        name: the asset or check that is made.
        run: the run's own id, where it repeats another run.
    """

    store: ObjectStore
    own: Staged
    days: list[date]
    name: str
    run: str = ""

    @classmethod
    def of(
        cls,
        store: ObjectStore,
        interval: Interval,
        keys: Sequence[str],
        root_run: str,
        name: str,
        run: str | None = None,
    ) -> "Step":
        """Return the step of a run over partitions; raises PartitionError if a partition key is no day."""
        # Only the fetch knows the exchange's clock. For a future day nothing is retained.
        days = partition_days(keys, date.max)
        return cls(
            store, Staged(interval, days[0], days[-1], root_run), days, name, run or root_run
        )

    def _sources(self, output: Output) -> Iterator[Staged]:
        """Yield the places where the input may lie, the preferred one first.

        The own run's comes first: beside other runs on the same days, each run reads what it fetched.
        """
        yield self.own
        yield from (each for each in self._covering(output) if each != self.own)

    @property
    def handover(self) -> Handover:
        """Return the outputs of the run's earlier steps that this process holds."""
        return handover(self.store, self.run)

    @contextmanager
    def cleaned_replies(self) -> Iterator[CleanedReplies]:
        """Open the replies of the fetch, cleaned, with their plan; cleaned already where it was here.

        Raises:
            StagingError: as `candles`.
        """
        held = self.handover.take_replies(self.own)
        if held is not None:
            yield CleanedReplies(self._plan(self.own), self.own, held)
            return
        with self._staged(Output.RAW) as raw:
            plan = raw.plan
            frames = (clean(frame, plan.interval, plan.windows) for frame in raw.frames)
            yield CleanedReplies(plan, raw.source, frames)

    @contextmanager
    def candles(
        self, wanted: Callable[[FetchPlan], bool] = lambda plan: True, *, last: bool = False
    ) -> Iterator[Candles]:
        """Open the formatted candles, with their plan.

        Args:
            wanted: whether the candles of a plan are read at all; they may be a million.
            last: whether no later step of the run reads them.

        Raises:
            StagingError: no output of these days is retained. The message names what to select.
        """
        take = self.handover.take_candles if last else self.handover.candles
        held = take(self.own)
        if held is not None:
            plan = self._plan(self.own)
            yield Candles(plan, self.own, held if wanted(plan) else iter(()))
            return
        with self._staged(Output.FORMATTED, wanted) as found:
            yield found

    @contextmanager
    def _staged(
        self, output: Output, wanted: Callable[[FetchPlan], bool] = lambda plan: True
    ) -> Iterator[Candles]:
        """Open the rows of an earlier step as they are staged on S3."""
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
                yield Candles(plan, source, within(frames, plan, source))
                return
        raise self._missing(output)

    def stored(self) -> Stored:
        """Return the objects that the upload stored, and the marks of their days.

        Raises:
            StagingError: no list of these days is retained.
        """
        for source in self._sources(Output.OBJECTS):
            try:
                held = self._document(source.key(Output.OBJECTS))
            except AbsentError:
                continue
            stored = Stored(source, held["objects"], _marks(held["sealed"]))
            whole = (source.first, source.last) == (self.days[0], self.days[-1])
            return stored if whole else stored.of_days(self.days)
        raise self._missing(Output.OBJECTS)

    def keep_stored(
        self, objects: Sequence[str], finalized: Mapping[date, Mapping[str, FinalizedDay]]
    ) -> None:
        """Keep what the step itself has stored, for the steps that follow."""
        marks = {
            day.isoformat(): {symbol: mark.to_dict() for symbol, mark in held.items()}
            for day, held in finalized.items()
        }
        document = {"objects": list(objects), "sealed": marks}
        self._keep(self.own.key(Output.OBJECTS), document)

    def plan_of_stored(self) -> FetchPlan:
        """Return the plan of the newest run that stored these days.

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
            self._keep(self.own.plan, plan.to_dict())

    def _keep(self, key: str, document: Any) -> None:
        write_document(self.store, key, document)
        self.handover.documents[key] = document

    def _document(self, key: str) -> Any:
        held = self.handover.documents.get(key)
        return read_document(self.store, key) if held is None else held

    def _plan(self, source: Staged) -> FetchPlan:
        return FetchPlan.from_dict(self._document(source.plan)).of_days(self.days)

    def _missing(self, output: Output) -> StagingError:
        interval, first, last = self.own.interval, self.days[0], self.days[-1]
        days = f"{first}" if first == last else f"{first} to {last}"
        outputs = list(Output)
        select: list[str] = []
        for each in reversed(outputs[: outputs.index(output) + 1]):
            if select and self._covering(each):
                break
            select.insert(0, f"{MAKERS[each]}_{interval}")
        text = (
            f"No output of {select[-1]} is retained for {days} (PIPELINE_HOUSEKEEPING__STAGING_DAYS says "
            f"how long outputs are). Select {' and '.join(select)} together with {self.name}, and "
            "materialize again."
        )
        if any(
            each.first <= last and first <= each.last
            for each in newest_first(self.store, interval, output)
        ):
            text += " Several runs made parts of these days: single partitions need no more than their own."
        return StagingError(text)

    def _covering(self, output: Output) -> list[Staged]:
        """Return the retained outputs of all the step's days, the newest first."""
        return [
            each
            for each in newest_first(self.store, self.own.interval, output)
            if each.first <= self.days[0] and self.days[-1] <= each.last
        ]


def _marks(held: Mapping[str, Mapping[str, Any]]) -> dict[date, dict[str, FinalizedDay]]:
    return {
        date.fromisoformat(day): {s: FinalizedDay.from_dict(facts) for s, facts in marks.items()}
        for day, marks in held.items()
    }
