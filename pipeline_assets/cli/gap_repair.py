"""Filling what a report of gaps says can be filled. What is missing is judged in collection/gap_report.py;
printing is in gaps.py.
"""

from typing import TYPE_CHECKING

from pipeline_assets.cli.backfill_runs import BackfillError, backfill
from pipeline_assets.collection.gap_report import Repaired, Report, listed_now, repairs
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from pipeline_assets.collection.progress import Progress


def repair(settings: Settings, report: Report, progress: "Progress | None" = None) -> Repaired:
    """Fetch what can be filled of a report's gaps, by the jobs that the sensor gap_repair asks for.

    So the ledger on the lake and the table of gaps follow. May be repeated: what is stored and complete
    is left out. A range that fails is told, and does not keep the others from being fetched.

    Raises:
        ExchangeUnreachableError, WeightBudgetError: a system does not answer.
    """
    import polars as pl

    done = Repaired()
    fillable = report.fillable()
    listed = listed_now(settings)
    gone = sorted(set(fillable["symbol"].unique()) - listed)
    if gone:
        done.problems.append(
            f"The exchange does not list {', '.join(gone)} any more, and serves no candles of them."
        )
    left = fillable.filter(~pl.col("symbol").is_in(gone))
    for interval, symbols, start, end in repairs(left):
        try:
            ran = backfill(settings, interval, symbols, start, end, progress, judge=True)
        except BackfillError as error:
            done.problems.append(f"{interval} from {start} until {end}: {error}")
        else:
            done.runs += ran.runs
            done.rows += ran.rows
            done.remarks += ran.problems
    return done
