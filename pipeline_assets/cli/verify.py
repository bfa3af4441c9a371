"""The command `verify`. The check of all objects is in collection/lake_sweep.py."""

import sys
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

import click

from pipeline_assets.cli.options import Values, day_option, json_option, symbols_option
from pipeline_assets.cli.output import print_json
from pipeline_assets.market.intervals import Interval
from pipeline_assets.outside_text import printable
from pipeline_assets.settings import is_symbol, load_settings

if TYPE_CHECKING:
    from pipeline_assets.collection.lake_sweep import SweepReport


@click.command()
@click.option(
    "--interval", type=Values(Interval), help="Candles of this interval; by default of all."
)
@symbols_option("Candles of these only, separated by commas; by default of all.")
@day_option("--start", "First UTC day; by default the first that is stored.")
@day_option("--end", "UTC day before which to stop (excluded); by default up to now.")
@click.option(
    "--set-aside", is_flag=True, help="Move damaged objects below damaged/: they are made again."
)
@json_option
def verify(
    *,
    interval: Interval | None,
    symbols: list[str] | None,
    start: date | None,
    end: date | None,
    set_aside: bool,
    as_json: bool,
) -> None:
    """Read what is stored on the lake, compare it with its digests, and name what is damaged.

    Without options: candles, candidates, gaps, set-aside rows and documents. The exit status is 1
    if an object is damaged, or if nothing is stored of the symbols that were named.
    """
    from pipeline_assets.collection.lake_sweep import Selection, sweep
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.s3_clients import PERSON_PATIENCE

    if start and end and end <= start:
        raise click.BadParameter("it must be after --start.", param_hint="'--end'")
    for symbol in symbols or ():
        if not is_symbol(symbol):
            raise click.BadParameter(
                f"{printable(symbol)!r} is not a symbol.", param_hint="'--symbols'"
            )
    selection = Selection((interval,) if interval else tuple(Interval), symbols, start, end)
    store = ObjectStore(load_settings().s3, PERSON_PATIENCE)
    report = sweep(store, selection, quarantine=set_aside)
    if as_json:
        print_json(report.to_dict())
    else:
        for line in _as_lines(report):
            click.echo(line)
    absent = bool(symbols) and not report.objects
    if absent:
        click.echo("Nothing is stored of what was selected.", err=True)
    if report.damaged or absent:
        sys.exit(1)


def _as_lines(report: "SweepReport") -> Iterator[str]:
    """The report for a terminal: one line for each damaged object, and what to do."""
    for each in report.damaged:
        moved = f"; moved to {each.kept}" if each.kept else ""
        yield f"{each.key}: {each.why}{moved}"
    yield (
        f"{report.objects:,} objects ({report.size:,} bytes) read, {len(report.damaged):,} damaged, "
        f"{report.without_digest:,} without a digest."
    )
    if any(each.kept is None for each in report.damaged):
        yield (
            "To have them made again: `pipeline-assets verify --set-aside` with the same options, then "
            "`pipeline-assets gaps --repair` for candles. docs/operations.md (Damaged objects) has the rest."
        )
    elif report.damaged:
        yield "`pipeline-assets gaps --repair` fetches the candles again."
