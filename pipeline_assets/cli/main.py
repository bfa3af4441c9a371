"""The command group pipeline-assets, and how a failure of any command is shown. Each command is in the
module of its name, and `exchange` in local/exchange/command.py.
"""

import errno
import os
import sys
from typing import NoReturn

import click

from pipeline_assets.cli.airflow import airflow
from pipeline_assets.cli.backfill import backfill
from pipeline_assets.cli.backtest import backtest
from pipeline_assets.cli.candidates import candidates
from pipeline_assets.cli.decisions import decisions
from pipeline_assets.cli.demo import demo
from pipeline_assets.cli.gaps import gaps
from pipeline_assets.cli.gateway import gateway
from pipeline_assets.cli.inference import inference
from pipeline_assets.cli.init import init
from pipeline_assets.cli.lookahead import lookahead
from pipeline_assets.cli.report import report
from pipeline_assets.cli.status import status
from pipeline_assets.cli.trader import trader
from pipeline_assets.cli.unblock import unblock
from pipeline_assets.cli.up import up
from pipeline_assets.cli.verify import verify
from pipeline_assets.cli.watch import watch
from pipeline_assets.errors import PipelineError
from pipeline_assets.local.exchange.command import exchange
from pipeline_assets.process_memory import return_freed_memory
from pipeline_assets.proxies import complete_environment

COMMANDS = (
    airflow,
    backfill,
    backtest,
    candidates,
    decisions,
    demo,
    exchange,
    gaps,
    gateway,
    inference,
    init,
    lookahead,
    report,
    status,
    trader,
    unblock,
    up,
    verify,
    watch,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """A trading data platform for Binance USD-M Futures.

    Start with `pipeline-assets up`, look at it with `pipeline-assets status`.
    """


for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command; a foreseen error is one message on standard error, not a traceback."""
    return_freed_memory()
    complete_environment()
    try:
        cli()
    except PipelineError as error:
        click.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(error.exit_status)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _end_without_room(error)


def _end_without_room(error: OSError) -> NoReturn:
    """End a command that found a disk full, most likely the one that its output is redirected to."""
    where = error.filename or "the output"
    click.secho(
        f"Error: {where} was not written whole: {error.strerror}. Make room, then repeat the command.",
        fg="red",
        err=True,
    )
    # Python writes the rest of the output when it ends, and would fail again with another status.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
