"""The command `demo`, the first look: the embedded stack, three days of candles, a model of these, then live
minutes. The trades of the day are printed by demo_trading.py.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import click

from pipeline_assets.cli.demo_trading import print_trading
from pipeline_assets.cli.output import console
from pipeline_assets.cli.run_outcomes import StoppedError, UnfollowedError
from pipeline_assets.cli.stack import (
    airflow_option,
    check_strategies,
    choose_author,
    choose_exchange,
    choose_scheduler,
    exchange_option,
    inference_option,
    print_addresses,
    print_author,
    print_login,
)
from pipeline_assets.market.intervals import DAY, EPOCH, Interval
from pipeline_assets.settings import Settings, load_settings
from pipeline_assets.wording import counted

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline_assets.collection.overview import Overview
    from pipeline_assets.local.stack import StackStatus
    from pipeline_assets.resources.object_store import ObjectStore

# Today and the two days before it.
DAYS = 3
# Its trades are many and short. Two finished days of rsi_reversal left a dozen candidates to calibrate on.
_TRAINED = "macd_cross"


@click.command()
@click.option(
    "--once",
    is_flag=True,
    help="Stop after the three days are filled; status 0 if nothing is missing.",
)
@exchange_option
@airflow_option
@inference_option
def demo(once: bool, exchange_name: str, airflow: bool, inference: bool) -> None:
    """Start everything, fill three days, train a model, go on live, and show what was traded."""
    from pipeline_assets.cli.candidates import follow
    from pipeline_assets.cli.options import check_dagster_home
    from pipeline_assets.local.stack import prepared

    choose_exchange(exchange_name)
    choose_author(inference=inference)
    choose_scheduler(schedules=not once, airflow=airflow)
    if once:
        # Nothing goes on after the filling, so nothing may begin beside it, or find it stale.
        os.environ |= {"PIPELINE_DAGSTER__SENSORS": "false", "PIPELINE_ALERTS__WEBHOOK_URL": ""}
    settings = load_settings()
    check_strategies(settings)
    settings = prepared(settings)
    check_dagster_home()
    terminal = console()
    with _stack(terminal, settings) as stack:
        missing, problems = _fill_and_show(settings, terminal)
        for problem in problems:
            terminal.print(problem, style="red")
        _train_and_show(settings, terminal)
        print_addresses(terminal, stack)
        print_author(terminal, settings)
        print_login(terminal, settings)
        if once:
            print_trading(terminal, settings, live=False)
            terminal.print(
                f"{counted(missing, 'candle')} missing.", style="red" if missing else "green"
            )
            terminal.print(
                "The systems stop now; `pipeline-assets up` starts them over the same data."
            )
            sys.exit(1 if missing or problems else 0)
        terminal.print(
            "Live minutes are being materialized: see the runs page. Candidates are printed as they "
            "come from Kafka. Ctrl-C shows what was traded and stops; data stays."
        )
        follow(settings, terminal, from_beginning=False, as_json=False)
        print_trading(terminal, settings)


@contextmanager
def _stack(terminal: "Console", settings: Settings) -> Iterator["StackStatus"]:
    """Provide the embedded stack: the one that runs already, or one for as long as this command."""
    from pipeline_assets.local.stack import running_stack, stack_status

    status = stack_status(settings)
    if status.running:
        terminal.print(f"A stack runs already over {status.data_dir}; it is used as it is.")
        yield status
        return
    also = ", Airflow" if settings.airflow.enabled else ""
    terminal.print(
        f"Starting the embedded stack (exchange, S3, Redis, Snowflake, Kafka, Dagster{also}) …"
    )
    with running_stack(settings) as status, runs_end_with_stack():
        yield status


@contextmanager
def runs_end_with_stack() -> Iterator[None]:
    """Say upon a signal within the block that the stack is stopped, and the followed run with it."""
    try:
        yield
    except UnfollowedError as error:
        raise StoppedError(
            "Stopped: the demo and the stack that it started, and with it the run that was under way. Stored "
            "data stays. The same command goes on from there; `pipeline-assets up` starts the stack alone."
        ) from error


def _fill_and_show(settings: Settings, terminal: "Console") -> tuple[int, list[str]]:
    """Backfill the demo's days, print what is stored then; return what is missing and the problems."""
    from pipeline_assets.cli.backfill_runs import backfill
    from pipeline_assets.cli.progress import TerminalProgress
    from pipeline_assets.cli.status import print_overview
    from pipeline_assets.collection.overview import collected_symbols, days_overview, first_day
    from pipeline_assets.resources.exchange_access import Exchange
    from pipeline_assets.resources.object_store import ObjectStore

    exchange, store = Exchange(settings), ObjectStore(settings.s3)
    now = exchange.server_time()
    today = now.date()
    symbols = collected_symbols(settings, store)
    terminal.print(
        f"Filling {DAYS} days up to {now:%Y-%m-%d %H:%M} UTC, {counted(len(symbols), 'symbol')}."
    )
    problems: list[str] = []
    with TerminalProgress(terminal) as progress:
        for interval in Interval:
            # With `all`, the universe is known once the first interval has been fetched.
            symbols = collected_symbols(settings, store)
            first = _first_missing_day(store, interval, symbols, today)
            done = backfill(
                settings, interval, None, first, today + DAY, progress, say=progress.say
            )
            problems += done.problems
    # Minutes that closed since then are stored by ingest runs, not by this pass.
    found = days_overview(settings, DAYS, now, exchange.server_time())
    _report_freshness(settings, found, now)
    print_overview(terminal, found, first_day(DAYS, now), now)
    return sum(each.missing or 0 for each in found), problems


def _train_and_show(settings: Settings, terminal: "Console") -> None:
    """Train one strategy's model on the filled days, and print what came of it."""
    from pipeline_assets.cli.model_training import train_model
    from pipeline_assets.cli.run_outcomes import BackfillError

    configured = [each.name for each in settings.strategies]
    if not configured:
        return
    strategy = _TRAINED if _TRAINED in configured else configured[0]
    terminal.print(f"Training a model of {strategy} on the filled days …")
    try:
        # Minutes on a busy machine: the lines name the run to look at.
        found = train_model(
            settings, strategy, say=lambda line: terminal.print(line, markup=False)
        ).description
    except BackfillError as error:
        # Too few candidates, for example. The demo goes on without a model.
        found = f"No model of {strategy} was trained: {error}"
    terminal.print(f"Model: {found}", markup=False, highlight=False)


def _first_missing_day(
    store: "ObjectStore", interval: Interval, symbols: Sequence[str], today: date
) -> date:
    """Return the first of the demo's days that is not finalized for every symbol; today at the latest."""
    from pipeline_assets.resources.finalized_days import finalized_symbols

    for ago in range(DAYS - 1, 0, -1):
        day = today - timedelta(days=ago)
        if not symbols or not finalized_symbols(store, interval, day).issuperset(symbols):
            return day
    return today


def _report_freshness(settings: Settings, stored: Iterable["Overview"], now: datetime) -> None:
    """Report the check `fresh` of each interval, judged by what the demo has filled up to `now`.

    Normally the sensor reports this check after ingest runs. With `--once` no sensor runs.

    Args:
        settings: the settings.
        stored: the stored candles, by symbol and interval.
        now: the exchange's time up to which the demo filled, UTC.
    """
    from pipeline_assets.assets.check_results import freshness_evaluation
    from pipeline_assets.cli.run_executor import dagster_instance
    from pipeline_assets.collection.freshness import judge
    from pipeline_assets.resources.ingest_state import IngestState

    newest: dict[Interval, dict[str, datetime]] = {}
    for each in stored:
        newest.setdefault(each.interval, {})[each.symbol] = each.newest or EPOCH
    with dagster_instance(settings) as instance:
        for interval, held in newest.items():
            verdict = judge(interval, IngestState(held), now, settings.ingest.upload_minutes)
            instance.report_runless_asset_event(freshness_evaluation(interval, verdict))
