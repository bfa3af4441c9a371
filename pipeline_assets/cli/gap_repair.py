"""Filling the gaps of a report that can be filled. collection/gap_report.py finds the gaps; gaps.py prints
them.
"""

from typing import TYPE_CHECKING

from pipeline_assets.cli.backfill_runs import backfill
from pipeline_assets.cli.day_runs import BackfillError
from pipeline_assets.collection.gap_report import Repaired, Report, repairs
from pipeline_assets.collection.symbol_names import listed_now
from pipeline_assets.settings import Settings

if TYPE_CHECKING:
    from pipeline_assets.collection.progress import Progress


def repair(settings: Settings, report: Report, progress: "Progress | None" = None) -> Repaired:
    """Fetch the gaps of a report that can be filled, with the jobs that the sensor gap_repair requests.

    These jobs also update the ledger on the lake and the table of gaps. The call may be repeated: complete
    days are skipped. A range that fails is reported, and the others are fetched all the same.

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
