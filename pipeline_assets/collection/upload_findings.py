"""The checks on what an upload stored: every candle of its window, and few minutes without a trade. Checks
of whole days are in day_checks.py.
"""

from collections.abc import Iterator
from datetime import date

from pipeline_assets.collection.findings import (
    MISSING_COLUMNS,
    Finding,
    Table,
    failures,
    moment,
)
from pipeline_assets.collection.upload import UploadReport
from pipeline_assets.market.windows import Window, common, day_window, joined, without
from pipeline_assets.wording import counted

# A symbol whose minutes are mostly without a trade is rare. In the exchange's archive many such minutes of
# a liquid symbol were a fault. Below this many rows a share says nothing.
_ZERO_VOLUME_SHARE = 0.5
_ZERO_VOLUME_ROWS = 30


def window_findings(report: UploadReport) -> dict[date, Finding]:
    """Return by day of the run whether every candle of the window is there."""
    plan = report.plan
    # An ingest run does what is due now, whatever day its partition is.
    return {
        day: _window_finding(report, plan.newest.date() if plan.is_ingest_run else day)
        for day in plan.days
    }


def _missing(report: UploadReport, day: date) -> Iterator[tuple[str, Window]]:
    """Yield the parts of a day that a fetch may still bring, by symbol."""
    plan, finalized = report.plan, report.finalized.get(day, {})
    # Finalized days are judged by their mark, not by this run's reply: the object may hold candles that
    # the reply did not have. A candle that is confirmed not to exist is not missing.
    for symbol, mark in finalized.items():
        yield from ((symbol, part) for part in joined(mark.to_fetch))
    for symbol, gaps in report.missing.items():
        if symbol not in finalized and day not in plan.complete.get(symbol, ()):
            # A symbol that was listed anew has no candles between its listings.
            for gap in common(day_window(day), gaps):
                yield from ((symbol, part) for part in without(gap, plan.pauses.get(symbol, ())))


def _window_finding(report: UploadReport, day: date) -> Finding:
    plan = report.plan
    records = [
        (symbol, moment(part.start), moment(part.end), part.candles(plan.interval))
        for symbol, part in sorted(_missing(report, day))
    ]
    problems = []
    if plan.failures:
        count = len(plan.failures)
        first = plan.failures[min(plan.failures)].rstrip(".")
        problems.append(f"{counted(count, 'symbol')} failed, the first: {first}")
    if records:
        symbol, start, until, _ = records[0]
        problems.append(
            f"{counted(sum(record[3] for record in records), 'candle')} missing, the first of {symbol} from "
            f"{start} until {until}"
        )
    return Finding(
        passed=not problems,
        description=". ".join(problems) or "Every candle of the window is there.",
        metadata={"missing": Table.of(MISSING_COLUMNS, records), **failures(plan)}
        if problems
        else {},
    )


def zero_volume_finding(report: UploadReport) -> Finding:
    """Return whether any symbol has mostly minutes without a trade."""
    import polars as pl

    if not report.zero_volume:
        return Finding(passed=True, description="No rows.")
    shares = pl.concat(report.zero_volume)
    worst = shares.filter(
        (pl.col("rows") >= _ZERO_VOLUME_ROWS) & (pl.col("share") > _ZERO_VOLUME_SHARE)
    ).sort("share", descending=True)
    total, zero = shares["rows"].sum(), shares["zero_volume"].sum()
    columns = {"symbol": "string", "rows": "int", "zero volume": "int", "share": "float"}
    return Finding(
        passed=worst.is_empty(),
        description=f"{zero:,} of {total:,} candles have no volume"
        + (f"; {counted(worst.height, 'symbol')} mostly." if worst.height else "."),
        metadata={"symbols": Table.of(columns, worst.rows())} if worst.height else {},
    )
