"""The rows that a step reads, with their plan and where both lie. Which rows a step takes is decided in
step_inputs.py.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.market.cleaning import Cleaned
from pipeline_assets.market.intervals import to_milliseconds
from pipeline_assets.market.windows import Window, day_window
from pipeline_assets.resources.staging import Staged

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Candles:
    """The rows that a step reads, their plan, and where both lie."""

    plan: FetchPlan
    source: Staged
    frames: Iterator["pl.DataFrame"]


@dataclass(frozen=True)
class CleanedReplies:
    """The replies that the format step reads, cleaned, their plan, and where both lie."""

    plan: FetchPlan
    source: Staged
    frames: Iterator[Cleaned]


def within(
    frames: Iterable["pl.DataFrame"], plan: FetchPlan, source: Staged
) -> Iterator["pl.DataFrame"]:
    """Return the rows of the plan's days, where the run that made them had more days."""
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
    """Return a span in the frame's own time: replies have milliseconds, candles have timestamps."""
    if frame.schema["open_time"].is_integer():
        return to_milliseconds(span.start), to_milliseconds(span.end)
    return span.start, span.end
