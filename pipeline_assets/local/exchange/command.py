"""The command line of the replay exchange: options in, a running server out."""

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline_assets.local.exchange.candles import CandleSource


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=28080,
    show_default=True,
    help="Port; 0: a free one.",
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address of this machine to listen on."
)
@click.option(
    "--symbols",
    default="30",
    show_default=True,
    help="How many USDT perpetuals (up to 4938), or their names: BTCUSDT,ETHUSDT.",
)
@click.option("--seed", default=1, show_default=True, help="Seed of the synthetic candles.")
@click.option(
    "--candles",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Serve your own Parquet files below this directory, named SYMBOL-INTERVAL-….parquet "
    "and SYMBOL-fundingRate-….parquet.",
)
@click.option(
    "--clock",
    default="real",
    show_default=True,
    help="real, offset:SECONDS, start:ISO (runs from there), stepped:ISO (moved by /control/clock).",
)
@click.option(
    "--weight-limit", default=2400, show_default=True, help="Request weight a minute; 0: no limit."
)
@click.option(
    "--ban-after", default=100, show_default=True, help="Refused calls a minute before a ban."
)
@click.option(
    "--funding-limit",
    default=500,
    show_default=True,
    help="Requests for funding rates in five minutes; 0: no limit.",
)
@click.option("--ban-seconds", default=120, show_default=True, help="Length of the first ban.")
@click.option(
    "--listed",
    multiple=True,
    metavar="SYMBOL=ISO",
    help="List a symbol at this moment (UTC) instead. May be repeated.",
)
@click.option(
    "--outage",
    multiple=True,
    metavar="START/END[/SYMBOL,…]",
    help="A span without candles, for all symbols or some. May be repeated.",
)
@click.option(
    "--faults",
    default="{}",
    metavar="JSON",
    help='Faults from the start, e.g. \'{"http_500": 0.05, "seed": 7}\'; see faults.py.',
)
@click.option(
    "--archive-header",
    default="later",
    show_default=True,
    help="Column names in the archive's files: later (from June 2022 on), always, never.",
)
@click.option(
    "--archive-times", default="ms", show_default=True, help="Times in the archive's files: ms, us."
)
@click.option("--json", "as_json", is_flag=True, help="Print where it listens as one JSON line.")
def exchange(  # noqa: PLR0913, PLR0917 - one parameter an option is click's way
    port: int,
    host: str,
    symbols: str,
    seed: int,
    candles: Path | None,
    clock: str,
    weight_limit: int,
    ban_after: int,
    funding_limit: int,
    ban_seconds: int,
    listed: tuple[str, ...],
    outage: tuple[str, ...],
    faults: str,
    archive_header: str,
    archive_times: str,
    as_json: bool,
) -> None:
    """Serve the Binance USD-M futures REST interface with candles of your own or made-up ones.

    Point python-binance at it by setting FUTURES_URL to the address that is printed. Closed days
    and months are below /data/futures/um/ as on data.binance.vision. The server's state is at
    /control/state; changes there are POSTs with Content-Type: application/json. Names of this server
    beside 127.0.0.1 and localhost are set by PIPELINE_ALLOWED_HOSTS.
    """
    import asyncio

    from pipeline_assets.local.exchange.archive import ArchiveForm
    from pipeline_assets.local.exchange.clock import ExchangeClock
    from pipeline_assets.local.exchange.faults import FaultPlan, Faults
    from pipeline_assets.local.exchange.funding import FundingMarket
    from pipeline_assets.local.exchange.funding_files import own_rates
    from pipeline_assets.local.exchange.market import Market
    from pipeline_assets.local.exchange.outages import Outage
    from pipeline_assets.local.exchange.server import Exchange
    from pipeline_assets.local.exchange.serving import serve
    from pipeline_assets.local.exchange.weights import WeightBudget
    from pipeline_assets.web_guard import allowed_hosts

    try:
        source: CandleSource = (
            parquet_source(candles) if candles else synthetic_source(symbols, seed, listed)
        )
        market = Market(source, [Outage.parse(text) for text in outage])
        served = Exchange(
            market,
            ExchangeClock.parse(clock),
            WeightBudget(weight_limit, ban_after, ban_seconds),
            FaultPlan(Faults.parse(json.loads(faults))),
            ArchiveForm(archive_header, archive_times),
            allowed_hosts(os.environ),
            FundingMarket(market, seed, own_rates(candles) if candles else None, funding_limit),
        )
    except json.JSONDecodeError as error:
        raise click.ClickException(f"--faults {faults!r} is no JSON: {error}") from error
    except ValueError as error:
        raise click.ClickException(str(error)) from error

    try:
        ready = partial(announce, host, len(source.contracts), clock, as_json)
        asyncio.run(serve(served, host, port, ready))
    except OSError as error:
        raise click.ClickException(
            f"Port {port} on {host} cannot be had ({error.strerror}): "
            "stop what listens there, or choose another by --port"
        ) from error


def announce(host: str, symbols: int, clock: str, as_json: bool, port: int) -> None:
    """Print where the exchange listens."""
    url = f"http://{host}:{port}/fapi"
    reported = {"url": url, "port": port, "symbols": symbols, "clock": clock}
    text = f"Replay exchange: {url} ({symbols} symbol{'s' * (symbols != 1)}, clock {clock})"
    click.echo(json.dumps(reported) if as_json else text)
    sys.stdout.flush()


def synthetic_source(symbols: str, seed: int, listed: tuple[str, ...]) -> "CandleSource":
    """Made-up candles of the catalogue's contracts.

    Raises:
        ValueError: a number or name of symbols, or a listing, that cannot be.
    """
    from dataclasses import replace

    from pipeline_assets.local.exchange.catalogue import catalogue
    from pipeline_assets.local.exchange.moments import parse_moment
    from pipeline_assets.local.exchange.synthetic import SyntheticCandles

    names = [name.strip() for name in symbols.split(",") if name.strip()]
    contracts = catalogue(int(symbols) if symbols.isdecimal() else names)
    for text in listed:
        symbol, _, moment = text.partition("=")
        if symbol not in contracts:
            raise ValueError(f"--listed {text!r} names no symbol of this exchange: use SYMBOL=ISO")
        contracts[symbol] = replace(contracts[symbol], onboard_ms=parse_moment(moment))
    return SyntheticCandles(contracts, seed)


def parquet_source(directory: Path) -> "CandleSource":
    """Return the source of a person's files; absent columns and skipped files are reported on standard error.

    Raises:
        ValueError: there are no candle files.
    """
    from pipeline_assets.local.exchange.moments import format_moment
    from pipeline_assets.local.exchange.parquet import ParquetCandles

    source = ParquetCandles(directory)
    for name, columns in source.absent_columns().items():
        click.echo(f"{name}: absent and served as 0: {', '.join(columns)}", err=True)
    for name, reason in source.skipped.items():
        click.echo(f"{name}: left out, {reason}", err=True)
    newest = format_moment(source.newest_ms())
    click.echo(f"The newest candle ends {newest}; --clock start:{newest} goes there", err=True)
    return source
