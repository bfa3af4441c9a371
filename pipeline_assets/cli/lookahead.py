"""The command `lookahead`. The comparison of signals is in research/lookahead.py."""

import sys
from datetime import date
from typing import TYPE_CHECKING

import click

from pipeline_assets.cli.backtest import strategy_option
from pipeline_assets.cli.options import day_option, json_option, symbols_option
from pipeline_assets.cli.output import console, print_json, print_problems
from pipeline_assets.settings import load_settings

if TYPE_CHECKING:
    from pipeline_assets.research.lookahead import LookaheadReport


@click.command()
@strategy_option("Its name; repeat it for several. By default all of the settings.")
@symbols_option("Separated by commas; by default three of the day.")
@day_option("--day", "Judge the end of this UTC day; by default the newest finalized one.")
@click.option(
    "--minutes",
    type=click.IntRange(min=2, max=1440),
    default=240,
    show_default=True,
    help="How many candles to judge; a history ends with each of them.",
)
@json_option
def lookahead(
    *,
    names: tuple[str, ...],
    symbols: list[str] | None,
    day: date | None,
    minutes: int,
    as_json: bool,
) -> None:
    """Check that strategies read no candle of the future, and that more warm-up changes no signal.

    Signals on each truncated history must equal those on the whole. The exit status is 1 if one
    does not, or a strategy raised an error.
    """
    from pipeline_assets.cli.progress import StepProgress
    from pipeline_assets.collection.symbol_names import unknown_symbols
    from pipeline_assets.research.lookahead import check_strategies
    from pipeline_assets.research.lookahead_history import FUTURE, stored_history
    from pipeline_assets.research.strategy_choice import chosen_strategies
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.s3_clients import PERSON_PATIENCE

    settings = load_settings()
    strategies = chosen_strategies(settings, names)
    store = ObjectStore(settings.s3, PERSON_PATIENCE)
    if symbols is not None:
        unknown_symbols(settings, store, symbols)
    history = stored_history(store, strategies, symbols, day, minutes)
    with StepProgress(console(stderr=True), "Look-ahead", "histories") as progress:
        report = check_strategies(strategies, history, minutes, progress.update, future=FUTURE)
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report, len(strategies), sorted(history))
    print_problems(f"{name}: {why}" for name, why in report.failures.items())
    if report.findings or report.failures:
        sys.exit(1)


def _print(report: "LookaheadReport", strategies: int, symbols: list[str]) -> None:
    print_problems(found.text() for found in report.findings)
    click.echo(
        f"{strategies:,} strategies on {', '.join(symbols)}: {report.truncations:,} cut-off points of "
        f"the history compared, {report.signals:,} signals, {len(report.findings):,} findings, "
        f"{report.tied:,} differences by rounding at a threshold."
    )
    if not report.signals:
        click.echo(
            "No candle had a signal, so nothing is shown: judge more --minutes or another --day."
        )
