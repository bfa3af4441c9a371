"""The command `gaps`. collection/gap_report.py finds the gaps, and gap_repair.py fills them."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline_assets.cli import output
from pipeline_assets.cli.options import (
    Values,
    check_dagster_home,
    check_range,
    day_option,
    json_option,
    refuse_future,
    symbols_option,
)
from pipeline_assets.market.gap_causes import Cause
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.settings import load_settings
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline_assets.collection.gap_report import Repaired, Report
    from pipeline_assets.market.windows import Window

_TO_DO = {
    Cause.NOT_FETCHED: "--repair fetches them",
    Cause.REJECTED: "--repair fetches them again; the rows that came are under set_aside/",
    Cause.ARCHIVE_HOLE: "--repair asks the exchange for them",
    Cause.INVALID: "nothing: the exchange gives the same row each time; see set_aside/",
    Cause.EXCHANGE_OUTAGE: "nothing: the exchange has none",
    Cause.NOT_LISTED: "nothing: the symbol did not trade",
    Cause.STILL_OPEN: "nothing: they are not closed yet",
}
_ROWS = 50
_NAMED = 3


@click.command()
@click.option("--interval", type=Values(Interval), help="Candle interval; by default all.")
@symbols_option("Only these, separated by commas; by default all of the settings.")
@day_option("--start", "First UTC day; by default the first that is stored of an interval.")
@day_option("--end", "UTC day before which to stop (excluded); by default up to now.")
@click.option("--cause", type=Values(Cause), help="Only gaps of this cause.")
@click.option("--all", "every", is_flag=True, help="Also what is not listed or not closed yet.")
@click.option(
    "--repair", "fill", is_flag=True, help="Fetch what can be filled, then tell what is left."
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Draw symbols × days as this PNG file, of 1m or of --interval.",
)
@json_option
def gaps(  # noqa: PLR0913 - its options
    *,
    interval: Interval | None,
    symbols: list[str] | None,
    start: date | None,
    end: date | None,
    cause: Cause | None,
    every: bool,
    fill: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Show which candles are missing now, why, and what to do about them.

    The exit status is 1 while something is missing that can be filled, or a symbol of the settings
    was never on the exchange. The newest candle does not count until its ingest run is overdue.
    """
    from pipeline_assets.cli.gap_repair import repair
    from pipeline_assets.cli.progress import TerminalProgress
    from pipeline_assets.collection.gap_report import Asked, find_gaps
    from pipeline_assets.collection.symbol_names import never_listed
    from pipeline_assets.market.partition_keys import FIRST_DAY
    from pipeline_assets.resources.exchange_access import Exchange

    settings = load_settings()
    if fill:
        check_dagster_home()
    intervals = [interval] if interval else list(Interval)
    asked = Asked(
        intervals, symbols, start, end, [cause] if cause else list(Cause) if every else None
    )
    if start or end:
        today = Exchange(settings).server_time().date()
        refuse_future(start, today)
        check_range(start or FIRST_DAY, end or today + DAY, today)
    report, repaired = find_gaps(settings, asked), None
    if fill and report.fillable().height:
        with TerminalProgress(output.console(stderr=True)) as progress:
            repaired = repair(settings, report, progress)
        report = find_gaps(settings, asked)
    if picture is not None:
        _draw(report, intervals[0], picture)
    if as_json:
        output.print_json(_as_document(report, repaired))
    else:
        if repaired is not None:
            click.echo(
                f"{repaired.rows:,} rows fetched in {counted(len(repaired.runs), 'Dagster run')}."
            )
        _print_report(output.console(), report)
    left = report.left(repaired).height > 0
    problems = list(repaired.problems) if repaired is not None else []
    problems += [*report.unread, *never_listed(report.unknown, "PIPELINE_SYMBOLS")]
    output.print_problems([*problems, *(repaired.remarks if repaired is not None and left else [])])
    if problems or left:
        sys.exit(1)


def _draw(report: "Report", interval: Interval, path: Path) -> None:
    """Write the picture of completeness of an interval as a PNG."""
    from pipeline_assets.collection.completeness_picture import completeness_picture

    window = report.windows[interval]
    days = [
        window.start.date() + number * DAY for number in range((window.end - window.start) // DAY)
    ]
    drawn = completeness_picture(report.ledger, report.lifetimes, interval, window, days)
    try:
        path.write_bytes(drawn)
    except OSError as error:
        raise click.FileError(str(path), error.strerror) from None


def _as_document(report: "Report", repaired: "Repaired | None") -> dict[str, Any]:
    """Return the report as JSON-serialisable values, times in ISO 8601, UTC."""
    return {
        "at": report.at.isoformat(),
        "windows": {
            interval: {"start": window.start.isoformat(), "end": window.end.isoformat()}
            for interval, window in report.windows.items()
        },
        "gaps": [
            gap | {"first": gap["first"].isoformat(), "last": gap["last"].isoformat()}
            for gap in report.gaps.iter_rows(named=True)
        ],
        "causes": {cause: candles for cause, _, _, candles in _by_cause(report)},
        "fillable": int(report.fillable()["count"].sum()),
        "disagreements": report.disagreements,
        "zero_volume": {
            "runs": [
                run | {"first": run["first"].isoformat(), "last": run["last"].isoformat()}
                for run in report.zero_volume.runs
            ],
            "days_checked": report.zero_volume.checked,
            "days_unchecked": report.zero_volume.unchecked,
        },
        "unknown_symbols": report.unknown,
        "unread": report.unread,
        **(
            {
                "repair": {
                    "runs": repaired.runs,
                    "rows": repaired.rows,
                    "problems": repaired.problems,
                }
            }
            if repaired
            else {}
        ),
    }


def _print_report(console: "Console", report: "Report") -> None:
    """Print the gaps as a table, a summary by cause with what to do, and what the archive says otherwise."""
    looked = f"{counted(len(report.lifetimes), 'symbol')}, {_ranges(report.windows)}"
    if report.unknown and not report.lifetimes:
        console.print("Nothing was looked at.", style="red")
    elif report.gaps.is_empty():
        console.print(f"Nothing is missing: {looked}.", style="green")
    else:
        _print_gaps(console, report, looked)
        _print_causes(console, report)
    _print_disagreements(console, report)
    _print_zero_volume(console, report)


def _ranges(windows: "Mapping[Interval, Window]") -> str:
    """Return the days, last day included. Intervals are named if days differ or not all were judged."""
    days = {
        interval: f"{window.start:%Y-%m-%d} to {window.end - DAY:%Y-%m-%d}"
        for interval, window in windows.items()
    }
    if len(days) == len(Interval) and len(set(days.values())) == 1:
        return next(iter(days.values()))
    return ", ".join(f"{interval} {text}" for interval, text in days.items())


def _print_gaps(console: "Console", report: "Report", looked: str) -> None:
    from pipeline_assets.collection.coverage import FILLABLE

    found = report.gaps
    shown = found.sort("count", descending=True, maintain_order=True).head(_ROWS)
    table = _table(
        f"Missing candles of {looked}", "symbol", "interval", "first", "last", "", "cause"
    )
    for symbol, interval, first, last, count, cause in shown.sort(
        "symbol", "interval", "first"
    ).rows():
        colour = "red" if cause in FILLABLE else "default"
        table.add_row(
            symbol, interval, _short(first), _short(last), f"{count:,}", f"[{colour}]{cause}"
        )
    console.print(table)
    if found.height > _ROWS:
        console.print(
            f"These are the {_ROWS} longest of {found.height:,} gaps; --json prints all of them."
        )


def _print_causes(console: "Console", report: "Report") -> None:
    table = _table("By cause", "cause", "gaps", "symbols", "candles", "to do")
    for cause, gaps, symbols, candles in _by_cause(report):
        table.add_row(cause, f"{gaps:,}", f"{symbols:,}", f"{candles:,}", _to_do(report, cause))
    console.print(table)


def _to_do(report: "Report", cause: str) -> str:
    from pipeline_assets.collection.coverage import FILLABLE
    from pipeline_assets.market.windows import day_window

    advice = _TO_DO[Cause(cause)]
    if cause not in FILLABLE:
        return advice
    found = report.gaps.filter(cause=cause)
    symbols = set(found["symbol"])
    if any(found["last"] >= day_window(report.at.date()).start):
        advice += "; gaps of today that stay are judged when the day is finalized"
    gone = sorted(symbols.intersection(report.gone))
    if not gone:
        return advice
    names = ", ".join(gone[:_NAMED]) + (f" and {len(gone) - _NAMED} more" if gone[_NAMED:] else "")
    why = f"the exchange does not name {names} any more"
    return f"nothing: {why}" if len(gone) == len(symbols) else f"{advice}, but {why}"


def _print_disagreements(console: "Console", report: "Report") -> None:
    title = "Where the archive says otherwise than the exchange (the exchange's candles are stored)"
    found = [
        each | {name: datetime.fromisoformat(each[name]) for name in ("first", "last")}
        for each in report.disagreements
    ]
    _print_runs(console, title, found, ("kind", "what"))


def _print_zero_volume(console: "Console", report: "Report") -> None:
    title = "Stored without volume, which another interval contradicts (backfill --refresh fetches the days)"
    _print_runs(console, title, report.zero_volume.runs, ("why", "why"))


def _print_runs(
    console: "Console", title: str, runs: Sequence[dict[str, Any]], about: tuple[str, str]
) -> None:
    """Print runs of candles, if there are any; `about` is the key and the heading of the last column."""
    if not runs:
        return
    key, heading = about
    table = _table(title, "symbol", "interval", "first", "last", "", heading)
    for run in runs[:_ROWS]:
        first, last, count = _short(run["first"]), _short(run["last"]), f"{run['count']:,}"
        table.add_row(run["symbol"], run["interval"], first, last, count, run[key])
    console.print(table)
    if len(runs) > _ROWS:
        console.print(f"The first {_ROWS} of {len(runs):,}; --json prints all.")


def _table(title: str, *columns: str) -> Any:
    table = output.table(title)
    for name in columns:
        numbers = name in ("", "gaps", "symbols", "candles")
        header = name or "candles"
        table.add_column(header, justify="right" if numbers else "left", no_wrap=name != "to do")
    return table


def _short(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _by_cause(report: "Report") -> list[tuple[str, int, int, int]]:
    """Cause, gaps, symbols, candles; in the order of judgement."""
    import polars as pl

    counted = report.gaps.group_by("cause").agg(
        pl.len(), pl.col("symbol").n_unique(), pl.col("count").sum().alias("candles")
    )
    order = list(Cause)
    return sorted(counted.rows(), key=lambda row: order.index(Cause(row[0])))
