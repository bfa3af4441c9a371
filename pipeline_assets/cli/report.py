"""The command `report`. Reports are made and stored in research/daily_report/."""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline_assets.cli.options import DayType, json_option
from pipeline_assets.cli.output import Row, console, print_json, print_problems, print_rows
from pipeline_assets.collection.scheduled_days import Span
from pipeline_assets.errors import InputError
from pipeline_assets.market.intervals import DAY
from pipeline_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipeline_assets.market.windows import Window
    from pipeline_assets.research.daily_report.parts import Edition
    from pipeline_assets.research.daily_report.readers import RunRecord
    from pipeline_assets.research.daily_report.summary import ReportSummary
    from pipeline_assets.resources.object_store import ObjectStore


@click.command()
@click.argument("day", type=DayType(), required=False)
@click.option("--week", "span", flag_value="week", help="The week of DAY; by default the last one.")
@click.option(
    "--month", "span", flag_value="month", help="The month of DAY; by default the last one."
)
@click.option("--open", "opened", is_flag=True, help="Show the page in a browser.")
@click.option("--pdf", type=click.Path(path_type=Path), help="Write the PDF as this file.")
@click.option("--again", is_flag=True, help="Make and store the report anew.")
@json_option
def report(
    *,
    day: datetime | None,
    span: Span | None,
    again: bool,
    opened: bool,
    pdf: Path | None,
    as_json: bool,
) -> None:
    """Show the report of a UTC DAY, by default of yesterday: what happened, in a sentence a subject.

    The stored report is read. One that is not stored yet, or was made before its time was over, is made
    and stored; --again does so with any, such as one that was made before its data were complete.

    Exit status: 1 if a system that the report is made from does not answer, or no browser was found.
    """
    from pipeline_assets.cli.whole_file import check_place, write_whole
    from pipeline_assets.research.daily_report.parts import Edition
    from pipeline_assets.research.daily_report.summary import report_key
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.s3_clients import PERSON_PATIENCE

    settings = load_settings()
    check_place("--pdf", pdf)
    now = datetime.now(UTC)
    kind: Span = span or "day"
    edition = Edition.of(
        kind, _past(day.date(), now.date()) if day else _last_ended(kind, now.date())
    )
    edition.check(now.date())
    store = ObjectStore(settings.s3, PERSON_PATIENCE)
    summary, is_new = _read_or_make(settings, store, edition, now, again=again)
    files = {}
    if pdf is not None:
        write_whole(pdf, _object(store, report_key(edition, "pdf")))
        files["pdf"] = str(pdf)
    if opened:
        files["html"] = str(_page_file(store, edition))
    page = store.address(report_key(edition, "html"))
    if as_json:
        from pipeline_assets.research.daily_report.summary import DOCUMENT

        document = DOCUMENT.dump_python(summary, mode="json")
        print_json(document | {"report": page, "files": files})
    else:
        _print(summary, page, is_new=is_new)
        for path in files.values():
            click.echo(f"Written: {path}")
    if opened:
        _open(Path(files["html"]))


def _past(day: date, today: date) -> date:
    """Return a day that has begun.

    Raises:
        InputError: the day lies in the future.
    """
    if day > today:
        raise InputError(
            f"There is no report of {day}, which lies in the future: today is {today}, UTC."
        )
    return day


def _last_ended(span: Span, today: date) -> date:
    """Return a day of the newest span that is over."""
    if span == "month":
        return today.replace(day=1) - DAY
    return today - (DAY if span == "day" else timedelta(days=7))


def _read_or_make(
    settings: Settings, store: "ObjectStore", edition: "Edition", now: datetime, *, again: bool
) -> "tuple[ReportSummary, bool]":
    """Return the report, and whether it was made now.

    Raises:
        InputError: the report was to be made again and would lose its figures of runs.
    """
    from pipeline_assets.cli.progress import StepProgress
    from pipeline_assets.research.daily_report.readers import Readers
    from pipeline_assets.research.daily_report.stored_edition import (
        has_run_figures,
        keep_report,
        make_report,
    )
    from pipeline_assets.research.daily_report.summary import read_summary
    from pipeline_assets.resources.report_queries import ReportQueries
    from pipeline_assets.resources.warehouse import Warehouse

    found = read_summary(store, edition)
    # A report made within its span is not about all of it.
    if found is not None and found.made_at >= edition.end and not again:
        return found, False
    runs = _runs(settings, edition.window())
    if runs is None and again and found is not None and has_run_figures(found):
        raise InputError(
            f"The report {edition.name()} has figures of runs and would lose these: Dagster's records cannot "
            "be read here. Materialize its partition in Dagster, or set DAGSTER_HOME to that Dagster's."
        )
    queries = ReportQueries(Warehouse(settings.snowflake, settings.s3))
    readers = Readers(queries, store, settings.trading.account, runs)
    with StepProgress(console(stderr=True), f"Report {edition.name()}", "sections") as shown:
        made = make_report(readers, edition, now, shown.update)
        return keep_report(store, made, settings.dagster.public_url).summary, True


def _runs(settings: Settings, window: "Window") -> "tuple[RunRecord, ...] | None":
    """Return the records of runs within a window; None if Dagster's records cannot be read."""
    home = Path(os.environ.get("DAGSTER_HOME", settings.data_dir / "dagster"))
    if not (home / "dagster.yaml").is_file():
        return None
    from dagster import DagsterError
    from sqlalchemy.exc import SQLAlchemyError

    from pipeline_assets.assets.run_records import run_records
    from pipeline_assets.cli.run_executor import dagster_instance

    try:
        with dagster_instance(settings) as instance:
            return run_records(instance, window)
    except (DagsterError, SQLAlchemyError) as error:
        # The text may have an address with a password.
        name = type(error).__name__
        print_problems(
            [f"Dagster's records of {home} could not be read ({name}): is its storage up?"]
        )
        return None


def _object(store: "ObjectStore", key: str) -> bytes:
    from pipeline_assets.errors import DataError

    body = store.get(key)
    if body is None:
        raise DataError(
            f"{store.address(key)} is missing beside its summary: materialize the report's partition again."
        )
    return body


def _page_file(store: "ObjectStore", edition: "Edition") -> Path:
    """Write the page as a temporary file, and return its path."""
    import tempfile

    from pipeline_assets.cli.whole_file import write_whole
    from pipeline_assets.research.daily_report.summary import report_key

    path = Path(tempfile.mkdtemp(prefix="pipeline-report-")) / f"{edition.name()}.html"
    write_whole(path, _object(store, report_key(edition, "html")))
    return path


def _open(path: Path) -> None:
    """Show a file in a browser; without one, say where the file is, and end with status 1."""
    import webbrowser

    if not webbrowser.open(path.as_uri()):
        print_problems([f"No browser was found. Open {path} yourself."])
        raise click.exceptions.Exit(1)


def _print(summary: "ReportSummary", page: str, *, is_new: bool) -> None:
    click.secho(summary.title, bold=True)
    for warning in summary.warnings:
        click.secho(warning, fg="yellow")
    rows = [
        Row((each.title,), "dim" if each.empty else "bold", each.said())
        for each in summary.sections
    ]
    print_rows(console(), ("",), rows)
    hint = "" if is_new else " (--again makes it anew)"
    click.echo(f"Made {summary.made_at:%Y-%m-%d %H:%M} UTC{hint}: {page}")
