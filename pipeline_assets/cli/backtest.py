"""The command `backtest`. The engine is in research/backtest.py, the result's text in backtest_output.py."""

from collections.abc import Callable
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline_assets.cli.options import (
    Command,
    check_range,
    day_option,
    json_option,
    refuse_future,
    symbols_option,
)
from pipeline_assets.cli.output import console, print_json
from pipeline_assets.market.intervals import DAY
from pipeline_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipeline_assets.research.backtest_types import (
        BacktestRequest,
        BacktestResult,
        CandleReader,
    )
    from pipeline_assets.resources.object_store import ObjectStore

_FILE = click.Path(path_type=Path)
_COMPILES = (
    "Compiling the backtest's loop: some ten seconds, once after an installation or upgrade."
)


def strategy_option(text: str) -> Callable[[Command], Command]:
    """Return the option --strategy, which may be repeated; the command gets a tuple of names."""
    return click.option("--strategy", "names", multiple=True, help=text)


def _amount(_: click.Context, __: click.Parameter, value: str | None) -> Decimal | None:
    try:
        amount = None if value is None else Decimal(value)
    except InvalidOperation:
        amount = Decimal("NaN")
    if amount is not None and not amount.is_finite():
        raise click.BadParameter(f"{value!r} is no number, such as 10000.")
    return amount


@click.command()
@strategy_option("Its name; repeat it for several. By default all of the settings.")
@symbols_option(
    "Separated by commas, or `all`: each listed one while it was listed. By default those of the settings."
)
@day_option("--start", "First UTC day.", required=True)
@day_option("--end", "UTC day before which to stop (excluded).", required=True)
@click.option(
    "--set",
    "changes",
    multiple=True,
    help="A parameter: fast=8, macd_cross.fast=8 of one strategy, rules.stop=0.01. May be repeated.",
)
@click.option(
    "--capital", callback=_amount, help="In the quote asset; by default as in the settings."
)
@click.option("--html", type=_FILE, help="Write the report with charts as this file.")
@click.option("--trades", type=_FILE, help="Write all trades as this Parquet file.")
@click.option("--skip-damaged", is_flag=True, help="Leave damaged objects out, and name them.")
@click.option("--skip-missing", is_flag=True, help="Go on although days have no stored candle.")
@json_option
def backtest(  # noqa: PLR0913 - its options
    *,
    names: tuple[str, ...],
    symbols: list[str] | None,
    start: date,
    end: date,
    changes: tuple[str, ...],
    capital: Decimal | None,
    html: Path | None,
    trades: Path | None,
    skip_damaged: bool,
    skip_missing: bool,
    as_json: bool,
) -> None:
    """Show what strategies would have earned over stored 1m candles, by their rules in the settings.

    Orders fill at the second open after the signal's close, with fees, slippage and funding;
    docs/research.md says what is assumed. The candles must be stored: `pipeline-assets backfill`.
    """
    from pipeline_assets.cli.whole_file import check_place
    from pipeline_assets.market.windows import Window
    from pipeline_assets.research.readers import LakeCandles
    from pipeline_assets.research.report_candles import ChartedCandles
    from pipeline_assets.research.stored_backtest import MissingDaysError, request_of
    from pipeline_assets.research.strategy_choice import chosen_strategies
    from pipeline_assets.resources.exchange_access import Exchange
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.s3_clients import PERSON_PATIENCE

    settings = load_settings()
    check_range(start, end, None)
    for option, path in (("--html", html), ("--trades", trades)):
        check_place(option, path)
    if html is not None and trades is not None and html.resolve() == trades.resolve():
        raise click.UsageError(f"--html and --trades name the same file {html}; name two.")
    strategies = chosen_strategies(settings, names, changes)
    store = ObjectStore(settings.s3, PERSON_PATIENCE)
    request = request_of(
        settings, strategies, _symbols(settings, store, symbols), start, end, capital
    )
    # Candles that the report shows are kept while the backtest reads.
    candles = (
        LakeCandles(store, skip_damaged=skip_damaged)
        if html is None
        else ChartedCandles(store, Window(request.start, request.end), skip_damaged=skip_damaged)
    )
    try:
        result = _run(store, request, candles, skip_missing=skip_missing)
    except MissingDaysError:
        refuse_future(end - DAY, Exchange(settings).server_time().date())
        raise
    _write(result, candles, html, trades)
    _show(result, html, trades, as_json=as_json)


def _symbols(settings: Settings, store: "ObjectStore", asked: list[str] | None) -> list[str] | None:
    """Return the symbols, or None for every symbol that was listed; refuses one that never was."""
    from pipeline_assets.collection.symbol_names import unknown_symbols

    if asked == ["all"] or (asked is None and settings.symbols == "all"):
        return None
    if asked is not None:
        unknown_symbols(settings, store, asked)
        return asked
    return list(settings.symbols)


def _run(
    store: "ObjectStore",
    request: "BacktestRequest",
    candles: Any,
    *,
    skip_missing: bool,
) -> "BacktestResult":
    from pipeline_assets.cli.progress import StepProgress
    from pipeline_assets.market.step_compilation import before_compilation
    from pipeline_assets.research.backtest_types import Progress
    from pipeline_assets.research.stored_backtest import run_stored

    days = (request.end - request.start).days
    errors = console(stderr=True)
    with (
        StepProgress(errors, "Backtest", "days") as shown,
        before_compilation(lambda: errors.print(_COMPILES, soft_wrap=True)),
    ):

        def progress(at: Progress) -> None:
            shown.update((at.end - request.start).days, days)

        shown.update(0, days)
        return run_stored(store, request, candles, skip_missing=skip_missing, progress=progress)


def _write(
    result: "BacktestResult", candles: "CandleReader", html: Path | None, trades: Path | None
) -> None:
    from pipeline_assets.cli.whole_file import write_whole

    if html is not None:
        from pipeline_assets.research.report import report_of

        write_whole(html, report_of(result, candles).encode())
    if trades is not None:
        import io

        import pyarrow.parquet as pq

        body = io.BytesIO()
        pq.write_table(result.trades, body)
        write_whole(trades, body.getvalue())


def _show(
    result: "BacktestResult", html: Path | None, trades: Path | None, *, as_json: bool
) -> None:
    from pipeline_assets.cli.backtest_output import as_document, print_result

    files = {
        name: str(path) for name, path in (("html", html), ("trades", trades)) if path is not None
    }
    if as_json:
        print_json(as_document(result) | {"files": files})
        return
    print_result(console(), result)
    for path in files.values():
        click.echo(f"Written: {path}")
