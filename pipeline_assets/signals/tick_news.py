"""News of a tick of the candidates, and a summary in words. The caller decides how to show both."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline_assets.collection.findings import Table, moment
from pipeline_assets.market.intervals import Interval
from pipeline_assets.signals.tick import TickReport

if TYPE_CHECKING:
    import polars as pl

_COLUMNS = {
    **dict.fromkeys(("minute", "symbol", "strategy", "side"), "string"),
    "price": "float",
}


@dataclass(frozen=True)
class News:
    """The news in a tick's report.

    Attributes:
        days: by day of the evaluated minutes, what to report of its candidates.
        skipped: the minutes that were not evaluated because they are too old; None if none were.
        silent: symbols and strategies that began to give no candidates, and why; None if none did.
        reported: all symbols and strategies that give no candidates now, for the next tick.
    """

    days: dict[date, dict[str, Any]] = field(default_factory=dict)
    skipped: Table | None = None
    silent: Table | None = None
    reported: frozenset[str] = frozenset()


def news(report: TickReport, reported: frozenset[str]) -> News:
    """Return the news in a report, given the news reported before.

    Runless events are never deleted, so only news is reported: candidates, skipped minutes, a
    strategy that began to fail, a symbol that began to warm up because its history is too short.
    """
    standing = {
        **{f"strategy {name}": reason for name, reason in report.failed_strategies.items()},
        **{f"symbol {symbol}": reason for symbol, reason in report.short.items()},
    }
    new = sorted((name, why) for name, why in standing.items() if name not in reported)
    if report.candles:
        # A tick without a minute to evaluate runs no strategy, so their failures are still those of before.
        reported = frozenset(standing)
    return News(
        _by_day(report),
        _skipped(report),
        Table.of({"what": "string", "why": "string"}, new) if new else None,
        reported | standing.keys(),
    )


def _by_day(report: TickReport) -> dict[date, dict[str, Any]]:
    import polars as pl

    both = [
        *(each.with_columns(late=pl.lit(value=False)) for each in report.candidates),
        *(each.with_columns(late=pl.lit(value=True)) for each in report.late),
    ]
    if not both:
        return {}
    evaluated = pl.concat(both).unique("id", keep="last", maintain_order=True)
    days = evaluated.with_columns(day=pl.col("open_time").dt.date()).partition_by(
        "day", as_dict=True, include_key=False, maintain_order=True
    )
    return {day: _values(frame, report) for (day,), frame in days.items()}


def _values(evaluated: "pl.DataFrame", report: TickReport) -> dict[str, Any]:
    import polars as pl

    frame = evaluated.filter(~pl.col("late"))
    counted = frame.group_by("strategy", "side").len().sort("strategy", "side")
    newest = frame.sort("open_time", "symbol", descending=[True, False])
    rows = newest.select("open_time", "symbol", "strategy", "side", "price").iter_rows()
    counts = {"strategy": "string", "side": "string", "candidates": "int"}
    values: dict[str, Any] = {
        "candidates": frame.height,
        "evaluated late": evaluated.height - frame.height,
        "symbols": frame["symbol"].n_unique(),
        "newest candidates": Table.of(_COLUMNS, ((moment(at), *others) for at, *others in rows)),
        "by strategy": Table.of(counts, counted.rows()),
    }
    if report.failed_strategies:
        columns = {"strategy": "string", "reason": "string"}
        failed = sorted(report.failed_strategies.items())
        values["failed strategies"] = Table.of(columns, failed)
    if report.lag is not None:
        values["lag from candle close (s)"] = round(report.lag / timedelta(seconds=1), 3)
    return values


def _skipped(report: TickReport) -> Table | None:
    if not report.skipped:
        return None
    columns = {"symbol": "string", "from": "string", "until": "string", "minutes": "int"}
    records = [
        (symbol, moment(window.start), moment(window.end), window.candles(Interval.ONE_MINUTE))
        for symbol, window in sorted(report.skipped.items())
    ]
    return Table.of(columns, records)


def summary(report: TickReport) -> str:
    """Summarize a tick in a sentence or two, for Dagster's list of the sensor's ticks."""
    if not report.symbols:
        return (
            "No symbol is collected yet: the first tick_1m run tells which the exchange lists. Is the "
            "schedule on?"
        )
    published = sum(frame.height for frame in report.candidates)
    if report.candles:
        minute = _minute(report.newest)
        said = [f"Evaluated {report.candles} candles up to {minute}: {published} candidates."]
        late = sum(frame.height for frame in report.late)
        if late:
            said.append(f"{late} more are stored as evaluated late and were not published.")
    elif report.empty:
        said = ["There are no candles in the slots. Do the ticks of 1m run?"]
    else:
        said = [f"No new minute since {_minute(report.cursor.evaluated)}."]
    said += _first(report.warming, "warming up")
    said += _first(
        {symbol: f"waits for {_minute(at)}" for symbol, at in report.waiting.items()}, "waiting"
    )
    said += _first({s: f"from {moment(w.start)}" for s, w in report.skipped.items()}, "skipped")
    said += _first(report.failed_strategies, "failed", of="strategies")
    said += _first(report.problems, "held up")
    return " ".join(said)


def _minute(opened: datetime | None) -> str:
    return "the beginning" if opened is None else f"{opened:%Y-%m-%d %H:%M}"


def _first(reasons: Mapping[str, str], what: str, of: str = "symbols") -> Iterable[str]:
    if reasons:
        name = min(reasons)
        yield f"{len(reasons)} {of} {what}, the first {name}: {reasons[name].rstrip('.')}."
