"""The command `backfill`. The runs that it makes are in backfill_runs.py."""

import sys
from datetime import date
from typing import TYPE_CHECKING

import click

from pipeline_assets.cli.options import (
    Values,
    check_dagster_home,
    check_range,
    day_option,
    json_option,
    refuse_future,
    symbols_option,
)
from pipeline_assets.cli.output import console, print_json, print_problems
from pipeline_assets.market.intervals import Interval
from pipeline_assets.settings import load_settings
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    from pipeline_assets.cli.backfill_runs import BackfillResult
    from pipeline_assets.cli.funding_runs import FundingBackfill


@click.command()
@click.option("--interval", type=Values(Interval), help="Backfill candles of this interval.")
@click.option("--funding", is_flag=True, help="Backfill funding rates instead, by whole months.")
@symbols_option("Only these, separated by commas; by default all of the settings.")
@day_option("--start", "First UTC day.", required=True)
@day_option("--end", "UTC day before which to stop (excluded).", required=True)
@click.option(
    "--refresh", is_flag=True, help="Fetch days again that are stored and complete already."
)
@json_option
def backfill(
    interval: Interval | None,
    funding: bool,
    symbols: list[str] | None,
    start: date,
    end: date,
    refresh: bool,
    as_json: bool,
) -> None:
    """Fetch and store whole days of candles or of funding rates, by runs in Dagster's queue.

    The command follows the runs. Without a Dagster daemon and worker it executes them itself. May be
    repeated: nothing is duplicated or lost. One that was stopped goes on where it was: days that are
    stored and complete are left out. The runs are seen in Dagster's UI.
    """
    if funding == (interval is not None):
        raise click.UsageError("Give either --interval, for candles, or --funding.")
    from pipeline_assets.cli.backfill_runs import backfill as run_backfill
    from pipeline_assets.cli.funding_runs import backfill_funding
    from pipeline_assets.cli.progress import TerminalProgress
    from pipeline_assets.collection.symbol_names import unknown_symbols
    from pipeline_assets.resources.exchange_access import Exchange
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.s3_clients import PERSON_PATIENCE

    settings = load_settings()
    check_dagster_home()
    check_range(start, end, None)
    today = Exchange(settings).server_time().date()
    refuse_future(start, today)
    check_range(start, end, today)
    if symbols is not None:
        # Refused before a run, which would leave its days as failed partitions.
        unknown_symbols(settings, ObjectStore(settings.s3, PERSON_PATIENCE), symbols)
    with TerminalProgress(console(stderr=True)) as progress:
        result: FundingBackfill | BackfillResult
        if interval is None:
            result = backfill_funding(
                settings, symbols, start, end, progress, refresh=refresh, say=progress.say
            )
            lines = _funding_lines(result)
        else:
            result = run_backfill(
                settings, interval, symbols, start, end, progress, refresh=refresh, say=progress.say
            )
            lines = _candle_lines(result)
    if as_json:
        print_json(result.to_dict())
    else:
        for line in lines:
            click.echo(line)
        print_problems(result.problems)
    if result.problems:
        sys.exit(1)


def _candle_lines(result: "BackfillResult") -> list[str]:
    return [
        f"{result.rows:,} rows of {result.interval} in {result.objects:,} objects, "
        f"weight {result.weight:,}, {counted(len(result.runs), 'Dagster run')}; "
        f"{result.stored_before:,} symbol-days were stored before."
    ]


def _funding_lines(result: "FundingBackfill") -> list[str]:
    counts = result.counts
    lines = [
        f"{counts['rates']:,} funding rates stored, {counts['objects_changed']:,} objects written, "
        f"{counts['requests']:,} requests, {counted(len(result.runs), 'Dagster run')}; "
        f"{counts['stored_before']:,} symbol-months were stored before."
    ]
    if counts["missing"]:
        lines.append(f"The exchange has no rate of {counted(counts['missing'], 'settlement')}.")
    return lines
