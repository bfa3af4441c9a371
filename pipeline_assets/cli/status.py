"""The command `status`. status_report.py has its questions to each system, and their deadlines."""

import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import click

from pipeline_assets.cli.options import json_option
from pipeline_assets.cli.output import console as terminal
from pipeline_assets.cli.output import print_json, print_problems
from pipeline_assets.cli.output import table as plain_table
from pipeline_assets.cli.questions import leave
from pipeline_assets.cli.stack import check_strategies, print_addresses
from pipeline_assets.cli.unblock import describe
from pipeline_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline_assets.cli.filling import Filling
    from pipeline_assets.cli.status_report import Status
    from pipeline_assets.collection.overview import Overview
    from pipeline_assets.local.stack import StackStatus

_UNKNOWN = "?"
_ODD_SHOWN = 5


@click.command()
@click.option(
    "--days",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Look at this many days, today included.",
)
@click.option(
    "--timeout",
    "seconds",
    type=click.FloatRange(min=0.1),
    default=3,
    show_default=True,
    help="Wait so many seconds for each part; one that does not answer is left out.",
)
@json_option
def status(days: int, seconds: float, as_json: bool) -> None:
    """Show the running systems, their addresses, and how fresh each symbol is.

    A part that does not answer in time is named, and the others are shown. The exit status is 0 if
    every system is up, every part answered and every day could be judged, 1 otherwise.
    """
    console, settings = terminal(), load_settings()
    check_strategies(settings)
    sys.exit(
        show_status(
            settings,
            console,
            days=days,
            seconds=seconds,
            as_json=as_json,
            machine_time=datetime.now(UTC),
            print_systems=lambda stack: print_addresses(console, stack),
        )
    )


def show_status(
    settings: Settings,
    console: "Console",
    *,
    days: int,
    seconds: float,
    as_json: bool,
    machine_time: datetime,
    print_systems: Callable[["StackStatus"], None],
) -> int:
    """Print the status and return the command's exit status; ends the process if a part hangs.

    Args:
        settings: the settings.
        console: where tables go.
        days: how many UTC days to count, today included.
        seconds: how long each part may take to answer.
        as_json: print one JSON document instead of tables.
        machine_time: this machine's time, UTC, for when the exchange does not answer.
        print_systems: prints the table of systems.
    """
    from pipeline_assets.cli.status_report import Look

    shown: Callable[[StackStatus], None] = (lambda _: None) if as_json else print_systems
    found = Look(settings, days, seconds, machine_time, shown).take()
    if as_json:
        print_json(found.to_dict())
    else:
        _print_found(console, found)
    print_problems(_complaints(settings, found))
    code = 0 if found.well else 1
    if found.hung:
        leave(code)
    return code


def _complaints(settings: Settings, status: "Status") -> Iterator[str]:
    """Yield what does not answer, what is unknown thereby, and what to do."""
    from pipeline_assets.cli.status_report import down_systems, unknown_without

    if status.stack is not None:
        yield from _silent(settings, status.stack)
    if status.block is not None:
        yield (
            f"The exchange: {describe(status.block)}. Nothing is sent until then. If the exchange did not "
            "mean this address, `pipeline-assets unblock` lifts the block."
        )
    down, unknown_by_part = down_systems(status.stack), unknown_without(settings)
    for part, error in status.errors.items():
        # A system that is down is already in the table above.
        if error is not None and part not in down:
            unknown = f" ({unknown_by_part[part]})" if part in unknown_by_part else ""
            yield f"{part}: {error}{unknown}"
    yield from status.unread
    for name, why in list(status.left_out.items())[:_ODD_SHOWN]:
        yield f"The exchange's entry of {name} cannot be read, and is left out: {why}."
    if len(status.left_out) > _ODD_SHOWN:
        yield f"So are {len(status.left_out) - _ODD_SHOWN} more; --json names all of them."


def _silent(settings: Settings, stack: "StackStatus") -> Iterator[str]:
    """Yield what to do about the systems that are down: `up` starts this machine's only."""
    from pipeline_assets.local.stack import systems
    from pipeline_assets.resources.postgres_check import databases

    down = [each for each in stack.counted if not each.alive]
    embedded = ", ".join(each.name for each in down if each.embedded)
    if embedded and stack.running:
        logs = settings.data_dir / "logs"
        yield f"Not up: {embedded}. The running stack restarts what fails; {logs} says why, a file each."
    elif embedded:
        yield f"Not answering: {embedded}. Start them with `pipeline-assets up`."
    named = {each.name: each.setting for each in systems(settings)}
    missed = {each.name: f" ({each.missed})" for each in databases(settings)}
    for each in down:
        if not each.embedded:
            yield (
                f"{each.name} at {each.address} is not answering{missed.get(each.name, '')}: check that it "
                f"runs and {named[each.name]}."
            )


def _print_found(console: "Console", status: "Status") -> None:
    if not status.found:
        if status.errors["s3"] is None:
            # With a list of symbols there is a row for each of them.
            console.print(
                "No symbol is known yet that PIPELINE_SYMBOLS=all means. The next ingest run or "
                "`pipeline-assets backfill` asks the exchange what it lists."
            )
        return
    print_overview(console, status.found, status.first, status.now, by_exchange=status.by_exchange)
    missing = any(each.missing for each in status.found)
    for line in filling_lines(status.filling, missing=missing):
        console.print(line, highlight=False)
    if missing:
        console.print(
            "`pipeline-assets gaps` shows the causes, from each interval's first stored day on, and --repair "
            "fills what can be filled. To fetch earlier days: `pipeline-assets backfill`, or "
            f"`gaps --repair --start {status.first}`."
        )


def filling_lines(being_filled: "Filling | None", *, missing: bool) -> Iterator[str]:
    """Yield what is being filled, and what becomes of the rest."""
    if being_filled is None:
        yield "Dagster's web server does not answer: what is being filled is not known."
        return
    for run in being_filled.runs:
        days = run.first if run.first == run.last else f"{run.first} to {run.last}"
        yield f"{'Running' if run.running else 'Queued'}: {run.job} of {days}."
    if missing and being_filled.next_request is None:
        yield "Nothing more is requested: the sensor gap_repair is off, or has not run since the start."
    elif missing:
        said = f" Its last answer: {being_filled.said}" if being_filled.said else ""
        yield (
            f"The sensor gap_repair requests the next runs at {being_filled.next_request:%H:%M:%S} UTC, "
            "for finished days from the oldest ledger on, newest first. "
            f"Gaps of the open day are filled by the next ingest runs.{said}"
        )


def print_overview(
    console: "Console",
    found: Sequence["Overview"],
    first: date,
    now: datetime,
    *,
    by_exchange: bool = True,
) -> None:
    """Print what is stored as a table, from the UTC day `first` to that of `now`."""
    clock = "the exchange's clock" if by_exchange else "this machine's clock"
    table = plain_table(
        title=f"Stored, days {first} to {now.astimezone(UTC):%Y-%m-%d}",
        caption=f"By {clock} at {now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC. Table rows: all days.",
    )
    for name in ("symbol", "interval"):
        table.add_column(name, no_wrap=True)
    for name in ("objects", "rows", "newest candle", "slots", "table rows", "gaps"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found:
        table.add_row(each.symbol, each.interval, *_cells(each))
    console.print(table)


def _cells(each: "Overview") -> list[str]:
    """Return the numbers of one row; a question mark for what a part that did not answer would show."""
    colour = "red" if each.missing else "green"
    return [
        _count(each.objects),
        _count(each.rows),
        _UNKNOWN if each.objects is None else _short(each.newest),
        _count(each.slots) if each.interval.has_slots else "",
        _count(each.table_rows) if each.interval.has_table else "",
        _UNKNOWN if each.missing is None else f"[{colour}]{each.missing}[/]",
    ]


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def _short(moment: datetime | None) -> str:
    return moment.strftime("%m-%d %H:%M") if moment else "none"
