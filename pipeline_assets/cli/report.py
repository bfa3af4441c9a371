"""The command `report`. Reports are made and stored in research/daily_report/."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline_assets.cli.options import json_option, refuse_future
from pipeline_assets.cli.output import Row, console, print_json, print_rows
from pipeline_assets.collection.scheduled_days import Span
from pipeline_assets.market.intervals import DAY
from pipeline_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipeline_assets.research.daily_report.parts import Edition
    from pipeline_assets.research.daily_report.summary import ReportSummary
    from pipeline_assets.resources.object_store import ObjectStore


@click.command()
@click.argument("day", type=click.DateTime(formats=["%Y-%m-%d", "%Y%m%d"]), required=False)
@click.option("--week", "span", flag_value="week", help="The week of DAY; by default the last one.")
@click.option(
    "--month", "span", flag_value="month", help="The month of DAY; by default the last one."
)
@click.option("--open", "opened", is_flag=True, help="Show the page in a browser.")
@click.option("--pdf", type=click.Path(path_type=Path), help="Write the PDF as this file.")
@json_option
def report(
    *,
    day: datetime | None,
    span: Span | None,
    opened: bool,
    pdf: Path | None,
    as_json: bool,
) -> None:
    """Show the report of a UTC DAY, by default of yesterday: what happened, in a sentence a subject.

    The stored report is read. One that is not stored yet, or was made before its time was over, is made
    and stored.
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
    refuse_future(day.date() if day else None, now.date())
    edition = Edition.of(kind, day.date() if day else _last_ended(kind, now.date()))
    store = ObjectStore(settings.s3, PERSON_PATIENCE)
    summary = _read_or_make(settings, store, edition, now)
    files = {}
    if pdf is not None:
        write_whole(pdf, _object(store, report_key(edition, "pdf")))
        files["pdf"] = str(pdf)
    if opened:
        files["html"] = _show_page(store, edition)
    page = store.address(report_key(edition, "html"))
    if as_json:
        from pipeline_assets.research.daily_report.summary import DOCUMENT

        document = DOCUMENT.dump_python(summary, mode="json")
        print_json(document | {"report": page, "files": files})
        return
    _print(summary, page)
    for path in files.values():
        click.echo(f"Written: {path}")


def _last_ended(span: Span, today: date) -> date:
    """Return a day of the newest span that is over."""
    if span == "month":
        return today.replace(day=1) - DAY
    return today - (DAY if span == "day" else timedelta(days=7))


def _read_or_make(
    settings: Settings, store: "ObjectStore", edition: "Edition", now: datetime
) -> "ReportSummary":
    from pipeline_assets.cli.progress import StepProgress
    from pipeline_assets.research.daily_report.readers import Readers
    from pipeline_assets.research.daily_report.stored_edition import keep_report, make_report
    from pipeline_assets.research.daily_report.summary import read_summary
    from pipeline_assets.resources.report_queries import ReportQueries
    from pipeline_assets.resources.warehouse import Warehouse

    found = read_summary(store, edition)
    # A report made within its span is not about all of it.
    if found is not None and found.made_at >= edition.end:
        return found
    queries = ReportQueries(Warehouse(settings.snowflake, settings.s3))
    readers = Readers(queries, store, settings.trading.account)
    with StepProgress(console(stderr=True), f"Report {edition.name()}", "sections") as shown:
        made = make_report(readers, edition, now, shown.update)
        return keep_report(store, made, settings.dagster.public_url).summary


def _object(store: "ObjectStore", key: str) -> bytes:
    from pipeline_assets.errors import DataError

    body = store.get(key)
    if body is None:
        raise DataError(
            f"{store.address(key)} is missing beside its summary: materialize the report's partition again."
        )
    return body


def _show_page(store: "ObjectStore", edition: "Edition") -> str:
    """Write the page as a temporary file, show the file in a browser, and return its path."""
    import tempfile
    import webbrowser

    from pipeline_assets.cli.whole_file import write_whole
    from pipeline_assets.research.daily_report.summary import report_key

    path = Path(tempfile.mkdtemp(prefix="pipeline-report-")) / f"{edition.name()}.html"
    write_whole(path, _object(store, report_key(edition, "html")))
    if not webbrowser.open(path.as_uri()):
        click.echo("No browser was found: open the file in one.", err=True)
    return str(path)


def _print(summary: "ReportSummary", page: str) -> None:
    click.secho(summary.title, bold=True)
    for warning in summary.warnings:
        click.secho(warning, fg="yellow")
    rows = [
        Row((each.title,), "dim" if each.empty else "bold", each.said())
        for each in summary.sections
    ]
    print_rows(console(), ("section",), rows)
    click.echo(f"Made {summary.made_at:%Y-%m-%d %H:%M} UTC: {page}")
