"""The command `verify`. The check of all objects is in collection/lake_sweep.py."""

import sys
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING

import click

from pipeline_assets.cli.options import (
    Values,
    check_range,
    day_option,
    json_option,
    refuse_future,
    symbols_option,
)
from pipeline_assets.cli.output import print_json
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.settings import Settings, is_symbol, load_settings

if TYPE_CHECKING:
    from pipeline_assets.collection.lake_sweep import SweepReport
    from pipeline_assets.resources.object_store import ObjectStore


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

    Without options: candles, candidates, gaps, set-aside rows and documents. A finished day with
    damaged candles loses its mark, so that `pipeline-assets gaps` names it. The exit status is 1 if
    an object is damaged, or if nothing is stored of what was selected.
    """
    from pipeline_assets.collection.lake_sweep import Selection, sweep
    from pipeline_assets.resources.exchange_access import Exchange
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.s3_clients import PERSON_PATIENCE

    settings = load_settings()
    store = ObjectStore(settings.s3, PERSON_PATIENCE)
    if start or end:
        _check_days(start, end, today=None)
    if symbols:
        _check_symbols(settings, store, symbols)
    selection = Selection((interval,) if interval else tuple(Interval), symbols, start, end)
    report = sweep(store, selection, quarantine=set_aside)
    if (start or end) and not report.objects:
        # Only then, so that what is stored can be verified while the exchange does not answer.
        _check_days(start, end, Exchange(settings).server_time().date())
    if as_json:
        print_json(report.to_dict())
    else:
        for line in _as_lines(report):
            click.echo(line)
    absent = not selection.everything and not report.objects
    if absent:
        click.echo("Nothing is stored of what was selected.", err=True)
    if report.damaged or absent:
        sys.exit(1)


def _check_days(start: date | None, end: date | None, today: date | None) -> None:
    """Refuse days before the exchange opened, an empty range, and with `today` days in the future.

    Raises:
        InputError: the range is wrong.
    """
    from pipeline_assets.market.partition_keys import FIRST_DAY

    if today is not None:
        refuse_future(start, today)
    check_range(start or FIRST_DAY, end or max(today or start or FIRST_DAY, FIRST_DAY) + DAY, today)


def _check_symbols(settings: Settings, store: "ObjectStore", symbols: list[str]) -> None:
    """Refuse symbols of which nothing is stored and that the exchange never listed.

    Raises:
        SymbolError: such a symbol was named.
    """
    from pipeline_assets.collection.symbol_names import unknown_symbols
    from pipeline_assets.resources.candle_objects import prefix

    def is_stored(symbol: str) -> bool:
        return is_symbol(symbol) and any(
            next(store.objects(prefix(interval, symbol)), None) for interval in Interval
        )

    strange = [symbol for symbol in symbols if not is_stored(symbol)]
    if strange:
        unknown_symbols(settings, store, strange)


def _as_lines(report: "SweepReport") -> Iterator[str]:
    """Yield the report for a terminal: one line for each damaged object, and what to do."""
    for each in report.damaged:
        moved = f"; moved to {each.kept}" if each.kept else ""
        yield f"{each.key}: {each.why}{moved}"
    yield from report.refused
    yield (
        f"{report.objects:,} objects ({report.size:,} bytes) read, {len(report.damaged):,} damaged, "
        f"{report.without_digest:,} without a digest."
    )
    if any(each.kept is None for each in report.damaged):
        yield (
            "To have them made again: `pipeline-assets gaps --repair` for candles, `pipeline-assets verify "
            "--set-aside` with the same options for the rest: docs/operations.md (Damaged objects)."
        )
    elif report.damaged:
        yield "`pipeline-assets gaps --repair` fetches the candles again."
