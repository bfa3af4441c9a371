"""The command pipeline-assets: arguments, output, exit status. What the commands do is in commands/,
local/ and the assets.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline_assets.local.exchange.command import exchange
from pipeline_assets.local.private_files import UMASK
from pipeline_assets.market.gap_causes import Cause
from pipeline_assets.market.intervals import DAY, Interval
from pipeline_assets.outside_text import printable
from pipeline_assets.process_memory import return_freed_memory
from pipeline_assets.proxies import ProxyError, complete_environment
from pipeline_assets.settings import Settings, SettingsError, is_symbol, load_settings

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline_assets.local.stack import StackStatus

_BINANCE = {
    "PIPELINE_BINANCE__REST_URL": "https://fapi.binance.com",
    "PIPELINE_BINANCE__ARCHIVE_URL": "https://data.binance.vision",
    "PIPELINE_BINANCE__STREAM_URL": "wss://fstream.binance.com/",
}
_DAY = click.DateTime(formats=["%Y-%m-%d"])


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A trading data platform for Binance USD-M Futures.

    Start with `pipeline-assets up`, look at it with `pipeline-assets status`.
    """


cli.add_command(exchange)


def main() -> None:
    """Run the command; an expected error is one message on standard error, not a traceback."""
    return_freed_memory()
    complete_environment()
    from pipeline_assets.cli.backfill import BackfillError, StoppedError
    from pipeline_assets.collection.fetch_plan import SymbolError
    from pipeline_assets.collection.listings import NothingListedError
    from pipeline_assets.local.supervisor import StackError
    from pipeline_assets.market.strategy import StrategyError
    from pipeline_assets.resources.exchange_errors import ExchangeError
    from pipeline_assets.resources.kafka_clients import BrokerError
    from pipeline_assets.resources.s3_errors import ObjectStoreError
    from pipeline_assets.resources.slots import SlotsError
    from pipeline_assets.resources.staging import StagingError
    from pipeline_assets.resources.warehouse_connection import WarehouseError
    from pipeline_assets.resources.weight_budget import WeightBudgetError

    try:
        cli()
    except (
        BackfillError,
        BrokerError,
        ExchangeError,
        NothingListedError,
        ObjectStoreError,
        ProxyError,
        SettingsError,
        SlotsError,
        StackError,
        StagingError,
        StoppedError,
        StrategyError,
        SymbolError,
        WarehouseError,
        WeightBudgetError,
    ) as error:
        click.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(1)


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def _choose_exchange(name: str) -> None:
    """Let the chosen exchange stand above config.yaml and .env, for this process and its children."""
    if name == "binance":
        os.environ.update(_BINANCE)
        # Candles of two sources in one lake could not be told apart, and sealed days would stay.
        held = load_settings().data_dir
        os.environ["PIPELINE_DATA_DIR"] = str(held.with_name(f"{held.name}-binance"))


def _check_strategies(settings: Settings) -> None:
    """Refuse strategies that there are not, before a sensor fails by them every five seconds."""
    from pipeline_assets.market.strategies import configured_strategies

    configured_strategies(settings.strategies)


def _check_external_store(settings: Settings) -> None:
    """Refuse an S3 store that would lose candles, before anything is started.

    A store that does not answer may answer later: runs check it before their first write.
    """
    from pipeline_assets.local.stack import systems
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.s3_clients import PERSON_PATIENCE
    from pipeline_assets.resources.s3_errors import StoreUnreachableError

    if any(each.name == "s3" and each.embedded for each in systems(settings)):
        return
    try:
        ObjectStore(settings.s3, PERSON_PATIENCE).check()
    except StoreUnreachableError as error:
        click.secho(f"The store could not be checked: {error}", fg="yellow", err=True)


def _check_dagster_home() -> None:
    """Refuse a DAGSTER_HOME that Dagster would refuse once the exchange was asked.

    For commands that record runs there: files that they make are their owner's only.
    """
    os.umask(UMASK)
    named = os.environ.get("DAGSTER_HOME")
    home = Path(named or "").expanduser()
    if named is not None and not (home.is_absolute() and home.is_dir()):
        raise SettingsError(
            f"DAGSTER_HOME: {named!r} is not the absolute path of a directory. Make it, or unset "
            "DAGSTER_HOME for the one under PIPELINE_DATA_DIR."
        )


_airflow_option = click.option(
    "--airflow", is_flag=True, help="Let Airflow schedule, beside the rest; Dagster's stay off."
)


def _choose_scheduler(*, schedules: bool, airflow: bool) -> None:
    """Let one of Airflow and Dagster tick, or none: two of them would do everything twice."""
    if airflow:
        os.environ["PIPELINE_AIRFLOW__ENABLED"] = "true"
    by_airflow = load_settings().airflow.enabled
    os.environ["PIPELINE_DAGSTER__SCHEDULES"] = str(schedules and not by_airflow)


@cli.command()
@click.option(
    "--exchange",
    "exchange_name",
    type=click.Choice(["replay", "binance"]),
    default="replay",
    show_default=True,
    help="binance: the real public API (no key needed); all else embedded.",
)
@click.option(
    "--candles",
    type=click.Path(exists=True, file_okay=False),
    help="Replay these Parquet files. Give them a PIPELINE_DATA_DIR of their own.",
)
@click.option("--clock", help="The replay exchange's clock: see `pipeline-assets exchange --help`.")
@click.option(
    "--schedules/--no-schedules", default=True, help="Let Dagster tick by its own schedules."
)
@_airflow_option
@click.option(
    "--read-only", is_flag=True, help="Let Dagster's UI show everything and change nothing."
)
def up(
    exchange_name: str,
    candles: str | None,
    clock: str | None,
    schedules: bool,
    airflow: bool,
    read_only: bool,
) -> None:
    """Start the embedded stack with Dagster's UI, until Ctrl-C.

    Only systems whose address in the settings is this machine's are started.
    """
    from pipeline_assets.local.stack import prepared, run_stack

    _choose_exchange(exchange_name)
    _choose_scheduler(schedules=schedules, airflow=airflow)
    if read_only:
        os.environ["PIPELINE_DAGSTER__READ_ONLY"] = "true"
    options = [*(["--candles", candles] if candles else []), *(["--clock", clock] if clock else [])]
    console, settings = _console(), load_settings()
    _check_strategies(settings)
    _check_external_store(settings)
    settings = prepared(settings)

    def tell(status: "StackStatus") -> None:
        _print_addresses(console, status)
        _print_login(console, settings)
        console.print(
            "Ctrl-C stops everything. In another terminal, `pipeline-assets status` shows how it is."
        )

    console.print("Starting the embedded stack …")
    run_stack(settings, exchange_options=options, on_ready=tell)


@cli.command()
@click.option(
    "--interval",
    required=True,
    type=click.Choice([each.value for each in Interval]),
    help="Candle interval.",
)
@click.option("--symbols", help="Only these, separated by commas; by default all of the settings.")
@click.option("--start", required=True, type=_DAY, help="First UTC day.")
@click.option("--end", required=True, type=_DAY, help="UTC day before which to stop (excluded).")
@click.option(
    "--refresh", is_flag=True, help="Fetch days again that are stored and complete already."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def backfill(
    interval: str,
    symbols: str | None,
    start: datetime,
    end: datetime,
    refresh: bool,
    as_json: bool,
) -> None:
    """Fetch and store whole days of candles, through the same assets that Dagster's runs use.

    May be repeated: nothing is duplicated or lost. One that was stopped goes on where it was: days
    that are stored and complete are left out. The runs are seen in Dagster's UI.
    """
    from pipeline_assets.cli.backfill import backfill as run
    from pipeline_assets.cli.backfill import check_range
    from pipeline_assets.cli.demo import exchange_time
    from pipeline_assets.cli.progress import TerminalProgress

    wanted = _symbols(symbols)
    settings = load_settings()
    _check_dagster_home()
    check_range(start.date(), end.date(), None)
    today = exchange_time(settings).date()
    _refuse_future(start.date(), today)
    check_range(start.date(), end.date(), today)
    with TerminalProgress(_console(stderr=True)) as progress:
        result = run(
            settings,
            Interval(interval),
            wanted,
            start.date(),
            end.date(),
            progress,
            refresh=refresh,
        )
    if as_json:
        click.echo(json.dumps(asdict(result), default=str, ensure_ascii=False))
    else:
        click.echo(
            f"{result.rows:,} rows of {interval} in {result.objects:,} objects, "
            f"weight {result.weight:,}, {len(result.runs)} Dagster runs; "
            f"{result.stored_before:,} symbol-days were stored before."
        )
        for problem in result.problems:
            click.secho(problem, fg="red", err=True)
    if result.problems:
        sys.exit(1)


@cli.command()
@click.option(
    "--interval",
    type=click.Choice([each.value for each in Interval]),
    help="Candle interval; by default all.",
)
@click.option("--symbols", help="Only these, separated by commas; by default all of the settings.")
@click.option(
    "--start", type=_DAY, help="First UTC day; by default the first that is stored of an interval."
)
@click.option(
    "--end", type=_DAY, help="UTC day before which to stop (excluded); by default up to now."
)
@click.option(
    "--cause", type=click.Choice([each.value for each in Cause]), help="Only gaps of this cause."
)
@click.option("--all", "every", is_flag=True, help="Also what is not listed or not closed yet.")
@click.option(
    "--repair", "fill", is_flag=True, help="Fetch what can be filled, then tell what is left."
)
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Draw symbols × days as this PNG file, of 1m or of --interval.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def gaps(  # noqa: PLR0913 - its options
    *,
    interval: str | None,
    symbols: str | None,
    start: datetime | None,
    end: datetime | None,
    cause: str | None,
    every: bool,
    fill: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Which candles are missing and why, as it stands now, and what to do about it.

    The exit status is 1 while something is missing that can be filled, or a symbol of the settings
    was never on the exchange.
    """
    from pipeline_assets.cli import gaps as command
    from pipeline_assets.cli.backfill import check_range
    from pipeline_assets.cli.demo import exchange_time
    from pipeline_assets.cli.progress import TerminalProgress
    from pipeline_assets.market.partition_keys import FIRST_DAY

    settings = load_settings()
    if fill:
        _check_dagster_home()
    asked = command.Asked(
        intervals=[Interval(interval)] if interval else list(Interval),
        symbols=_symbols(symbols),
        start=start.date() if start else None,
        end=end.date() if end else None,
        causes=[Cause(cause)] if cause else list(Cause) if every else None,
    )
    if asked.start or asked.end:
        today = exchange_time(settings).date()
        _refuse_future(asked.start, today)
        check_range(asked.start or FIRST_DAY, asked.end or today + DAY, today)
    report, repaired = command.find_gaps(settings, asked), None
    if fill and report.fillable().height:
        with TerminalProgress(_console(stderr=True)) as progress:
            repaired = command.repair(settings, report, progress)
        report = command.find_gaps(settings, asked)
    if picture is not None:
        try:
            command.draw(report, asked.intervals[0], picture)
        except OSError as error:
            raise click.FileError(str(picture), error.strerror) from None
    if as_json:
        click.echo(json.dumps(command.as_document(report, repaired), ensure_ascii=False))
    else:
        if repaired is not None:
            click.echo(f"{repaired.rows:,} rows fetched in {len(repaired.runs)} Dagster runs.")
        command.print_report(_console(), report)
    left = report.left(repaired).height > 0
    problems = list(repaired.problems) if repaired is not None else []
    problems += command.never_listed(report.unknown, "PIPELINE_SYMBOLS")
    for problem in [*problems, *(repaired.remarks if repaired is not None and left else [])]:
        click.secho(problem, fg="red", err=True)
    if problems or left:
        sys.exit(1)


@cli.command()
@click.option(
    "--interval",
    type=click.Choice([each.value for each in Interval]),
    help="Candles of this interval; by default of all.",
)
@click.option("--symbols", help="Candles of these only, separated by commas; by default of all.")
@click.option("--start", type=_DAY, help="First UTC day; by default the first that is stored.")
@click.option(
    "--end", type=_DAY, help="UTC day before which to stop (excluded); by default up to now."
)
@click.option(
    "--set-aside", is_flag=True, help="Move damaged objects below damaged/: they are made again."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(
    *,
    interval: str | None,
    symbols: str | None,
    start: datetime | None,
    end: datetime | None,
    set_aside: bool,
    as_json: bool,
) -> None:
    """Read what is stored on the lake, compare it with its digests, and name what is damaged.

    Without options: candles, candidates, gaps, set-aside rows and documents. The exit status is 1
    if an object is damaged, or if nothing is stored of the symbols that were named.
    """
    from pipeline_assets.cli import verify as command
    from pipeline_assets.collection.lake_sweep import Selection

    if start and end and end <= start:
        raise click.BadParameter("it must be after --start.", param_hint="'--end'")
    named = _symbols(symbols)
    for symbol in named or ():
        if not is_symbol(symbol):
            raise click.BadParameter(
                f"{printable(symbol)!r} is not a symbol.", param_hint="'--symbols'"
            )
    selection = Selection(
        intervals=(Interval(interval),) if interval else tuple(Interval),
        symbols=named,
        start=start.date() if start else None,
        end=end.date() if end else None,
    )
    report = command.verify(load_settings(), selection, set_aside=set_aside)
    if as_json:
        click.echo(json.dumps(report.to_dict(), ensure_ascii=False))
    else:
        for line in command.as_lines(report):
            click.echo(line)
    if symbols and not report.objects:
        click.echo("Nothing is stored of what was selected.", err=True)
    if report.damaged or (symbols and not report.objects):
        sys.exit(1)


def _refuse_future(day: date | None, today: date) -> None:
    """Refuse a day that the exchange's clock has not come to."""
    if day is not None and day > today:
        raise click.ClickException(
            f"{day} lies in the future: by the exchange's clock today is {today}."
        )


def _symbols(text: str | None) -> list[str] | None:
    """The symbols of an option, or None where it was not given."""
    if text is None:
        return None
    symbols = [part.strip() for part in text.split(",") if part.strip()]
    if not symbols:
        raise click.BadParameter("it names no symbol.", param_hint="'--symbols'")
    return symbols


@cli.command()
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
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def status(days: int, seconds: float, as_json: bool) -> None:
    """What runs, at which addresses, and how fresh each symbol is.

    A part that does not answer in time is named, and the others are shown. The exit status is 0 if
    every system is up and every part answered, 1 otherwise.
    """
    from pipeline_assets.cli.status import show_status

    console = _console()
    sys.exit(
        show_status(
            load_settings(),
            console,
            days=days,
            seconds=seconds,
            as_json=as_json,
            machine_time=datetime.now(UTC),
            print_systems=lambda stack: _print_addresses(console, stack),
        )
    )


@cli.command()
def watch() -> None:
    """Alert when candles become stale, a service fails or the disk is full, until Ctrl-C.

    The alerts go to PIPELINE_ALERTS__WEBHOOK_URL. `up` starts this by itself where that is set.
    """
    from pipeline_assets.services.watchdog import watch as run

    settings = load_settings()
    if settings.alerts.webhook_url is None:
        raise SettingsError(
            "PIPELINE_ALERTS__WEBHOOK_URL: there is nobody to alert. Example: "
            "PIPELINE_ALERTS__WEBHOOK_URL=https://hooks.slack.com/services/…"
        )
    run(settings)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def unblock(as_json: bool) -> None:
    """Lift the block that a refusal of the exchange (429 or 418) put on this address.

    `pipeline-assets status` names the block and the reply that asked for it. Every process of this
    address goes on within ten seconds. If the exchange did ban the address, its next reply blocks it
    again. The exit status is 1 if there was no block.
    """
    from pipeline_assets.cli.block import as_document, describe, lift_block

    lifted = lift_block(load_settings())
    if as_json:
        click.echo(json.dumps({"lifted": as_document(lifted)}, ensure_ascii=False))
    elif lifted:
        click.echo(f"Lifted: {describe(lifted)}.")
    else:
        click.echo("Nothing was blocked.")
    if not lifted:
        sys.exit(1)


@cli.command()
@click.option(
    "--follow",
    "follow_topic",
    is_flag=True,
    help="Print them as they come from Kafka; Ctrl-C ends.",
)
@click.option("--from-beginning", is_flag=True, help="With --follow: first all that Kafka keeps.")
@click.option("--day", type=_DAY, help="Those of this UTC day; by default of the exchange's today.")
@click.option(
    "--last", type=click.IntRange(min=1), default=20, show_default=True, help="At most that many."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON record a line.")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of these records, and end.")
def candidates(
    *,
    follow_topic: bool,
    from_beginning: bool,
    day: datetime | None,
    last: int,
    as_json: bool,
    schema: bool,
) -> None:
    """The trade candidates: what a day published, or what arrives now."""
    from pipeline_assets.cli.candidates import (
        as_line,
        follow,
        print_table,
        published,
        schema_text,
    )
    from pipeline_assets.cli.demo import exchange_time

    if from_beginning and not follow_topic:
        raise click.UsageError("--from-beginning reads Kafka: give --follow, too.")
    if schema:
        click.echo(schema_text(), nl=False)
        return
    settings = load_settings()
    if follow_topic:
        follow(settings, _console(), from_beginning=from_beginning, as_json=as_json)
        return
    wanted = day.date() if day else exchange_time(settings).date()
    found, total = published(settings, wanted, last)
    if not total:
        # Only then, so that what is stored can be read while the exchange does not answer.
        _refuse_future(wanted, exchange_time(settings).date())
    if as_json:
        for candidate in found:
            click.echo(as_line(candidate))
    else:
        print_table(_console(), found, wanted, total)


@cli.command()
@click.option(
    "--once", is_flag=True, help="Stop after the first pass; status 0 if nothing is missing."
)
@click.option(
    "--exchange", "exchange_name", type=click.Choice(["replay", "binance"]), default="replay"
)
@_airflow_option
def demo(once: bool, exchange_name: str, airflow: bool) -> None:
    """The first look: start everything, fill three days, show what is stored, go on live."""
    from pipeline_assets.cli.candidates import follow
    from pipeline_assets.cli.demo import DAYS, exchange_time, fill, report_freshness
    from pipeline_assets.cli.progress import TerminalProgress
    from pipeline_assets.cli.status import print_overview
    from pipeline_assets.collection.overview import collected_symbols, days_overview, first_day
    from pipeline_assets.local.stack import prepared
    from pipeline_assets.resources.object_store import ObjectStore

    _choose_exchange(exchange_name)
    _choose_scheduler(schedules=not once, airflow=airflow)
    if once:
        # Nothing goes on after the filling, so nothing may begin beside it, or find it stale.
        os.environ |= {"PIPELINE_DAGSTER__SENSORS": "false", "PIPELINE_ALERTS__WEBHOOK_URL": ""}
    settings = load_settings()
    _check_strategies(settings)
    settings = prepared(settings)
    _check_dagster_home()
    console = _console()
    with _stack(console, settings) as stack:
        now = exchange_time(settings)
        symbols = collected_symbols(settings, ObjectStore(settings.s3))
        console.print(
            f"Filling {DAYS} days up to {now:%Y-%m-%d %H:%M} UTC, {len(symbols)} symbols."
        )
        problems: list[str] = []
        with TerminalProgress(console) as progress:
            for interval in Interval:
                # With `all`, the universe is known once the first interval has been fetched.
                symbols = collected_symbols(settings, ObjectStore(settings.s3))
                problems += fill(settings, interval, symbols, now.date(), progress).problems
        # Minutes that closed since then are the ticks' to store, not this pass's.
        found = days_overview(settings, DAYS, now)
        report_freshness(settings, found, now)
        print_overview(console, found, first_day(DAYS, now), now)
        for problem in problems:
            console.print(problem, style="red")
        _print_addresses(console, stack)
        _print_login(console, settings)
        if once:
            missing = sum(each.missing or 0 for each in found)
            console.print(f"{missing} candles missing.", style="red" if missing else "green")
            sys.exit(1 if missing or problems else 0)
        console.print(
            "Live minutes are being materialized: see the runs page. Candidates are printed as they "
            "come from Kafka. Ctrl-C stops; data stays."
        )
        follow(settings, console, from_beginning=False, as_json=False)


@cli.command("airflow", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def airflow_command(arguments: tuple[str, ...]) -> None:
    """Airflow's own command line, over the embedded Airflow.

    For example `pipeline-assets airflow dags list`, or `… airflow backfill create --dag-id
    candles_seal --from-date 2026-11-18 --to-date 2026-11-20`.
    """
    from pipeline_assets.local.airflow import airflow_environment, require_airflow

    require_airflow()
    os.umask(UMASK)
    environment = airflow_environment(load_settings())
    command = [sys.executable, "-m", "airflow", *arguments]
    os.execve(sys.executable, command, environment)  # noqa: S606 - what the person typed


@contextmanager
def _stack(console: "Console", settings: Settings) -> Iterator["StackStatus"]:
    """The embedded stack: the one that runs already, or one for as long as this command."""
    from pipeline_assets.local.stack import running_stack, stack_status

    status = stack_status(settings)
    if status.running:
        console.print(f"A stack runs already over {status.data_dir}; it is used as it is.")
        yield status
        return
    also = ", Airflow" if settings.airflow.enabled else ""
    console.print(
        f"Starting the embedded stack (exchange, S3, Redis, Snowflake, Kafka, Dagster{also}) …"
    )
    with running_stack(settings) as status:
        yield status


def _print_addresses(console: "Console", stack: "StackStatus") -> None:
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), title="Systems")
    for name in ("system", "address", "", "pid", "restarts"):
        # An address or a reason may be longer than the terminal is wide; the rest must stay seen.
        table.add_column(name, no_wrap=name not in ("address", ""), overflow="fold")
    for each in stack.services:
        told = f"{each.state}: {each.problem}" if each.problem else each.state
        state = Text(told, style="green" if each.alive else "red")
        where = each.address + ("" if each.embedded else " (external)")
        table.add_row(each.name, where, state, str(each.pid or ""), str(each.restarts or ""))
    console.print(table)
    if stack.problem:
        console.print(Text(f"The stack is not well: {stack.problem}", style="red"))


def _print_login(console: "Console", settings: Settings) -> None:
    if settings.airflow.enabled:
        from pipeline_assets.local.airflow import address, login

        user, password = login(settings)
        console.print(f"Airflow: {address(settings)}, user {user}, password {password}")
