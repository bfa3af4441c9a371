"""The format step: raw rows to typed, sorted, checked candles. The rules for a valid candle are in
market/cleaning.py.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline_assets.collection.fetch_plan import FetchPlan
from pipeline_assets.collection.handover import Gathered
from pipeline_assets.collection.step_inputs import Step
from pipeline_assets.market.candles import empty_candles
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.staging import Output, write_frames

if TYPE_CHECKING:
    import polars as pl


@dataclass
class FormatReport:
    """The result of formatting a fetch's rows.

    Attributes:
        plan: of the fetch.
        rows: valid candles.
        repeated: identical rows, of which one was kept.
        reasons: how many rows were rejected, by reason.
    """

    plan: FetchPlan
    rows: int = 0
    repeated: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def format_rows(step: Step) -> FormatReport:
    """Store the valid candles of a fetch, and the rejected rows beside them."""
    rejected: list[pl.DataFrame] = []
    gathered: Gathered[pl.DataFrame] = Gathered()
    with step.cleaned_replies() as raw:
        report = FormatReport(raw.plan)

        def cleaned() -> Iterator["pl.DataFrame"]:
            for result in raw.frames:
                report.repeated += result.repeated
                if result.rejected.height:
                    rejected.append(result.rejected)
                gathered.add(result.candles, result.candles.height)
                yield result.candles
            # Before the candles are seen: who reads them reads these too.
            report.reasons = _keep_rejected(step.store, step.own.rejected, rejected)
            step.keep_plan(raw.plan, raw.source)

        key = step.own.key(Output.FORMATTED)
        report.rows = write_frames(step.store, key, empty_candles(), cleaned())
        step.handover.keep_candles(step.own, gathered)
    return report


def _keep_rejected(store: ObjectStore, key: str, frames: "list[pl.DataFrame]") -> Counter[str]:
    """Store the rows that failed a rule; return how many for each reason. A repeat replaces the rows."""
    if not frames:
        return Counter()
    write_frames(store, key, frames[0].clear(), frames)
    return Counter(reason for frame in frames for reason in frame["reason"])
