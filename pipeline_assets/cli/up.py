"""The command `up`. It starts the stack of local/stack.py."""

import os
from typing import TYPE_CHECKING

import click

from pipeline_assets.cli.output import console
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
    print_live_gateway,
    print_login,
)
from pipeline_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipeline_assets.local.stack import StackStatus


@click.command()
@exchange_option
@click.option(
    "--candles",
    type=click.Path(exists=True, file_okay=False),
    help="Replay these Parquet files. Give them a PIPELINE_DATA_DIR of their own.",
)
@click.option("--clock", help="The replay exchange's clock: see `pipeline-assets exchange --help`.")
@click.option(
    "--schedules/--no-schedules", default=True, help="Let Dagster launch runs by its own schedules."
)
@airflow_option
@inference_option
@click.option(
    "--read-only", is_flag=True, help="Let Dagster's UI show everything and change nothing."
)
def up(
    exchange_name: str,
    candles: str | None,
    clock: str | None,
    schedules: bool,
    airflow: bool,
    inference: bool,
    read_only: bool,
) -> None:
    """Start the embedded stack with Dagster's UI, until Ctrl-C.

    Only systems whose address in the settings is this machine's are started.
    """
    from pipeline_assets.local.stack import prepared, run_stack

    choose_exchange(exchange_name)
    choose_author(inference=inference)
    choose_scheduler(schedules=schedules, airflow=airflow)
    if read_only:
        os.environ["PIPELINE_DAGSTER__READ_ONLY"] = "true"
    options = [*(["--candles", candles] if candles else []), *(["--clock", clock] if clock else [])]
    terminal, settings = console(), load_settings()
    check_strategies(settings)
    _check_external_store(settings)
    settings = prepared(settings)

    def tell(status: "StackStatus") -> None:
        print_addresses(terminal, status)
        print_author(terminal, settings)
        print_live_gateway(terminal, settings)
        print_login(terminal, settings)
        terminal.print(
            "Ctrl-C stops everything. In another terminal, `pipeline-assets status` shows the state "
            "of each system."
        )

    terminal.print("Starting the embedded stack …")
    run_stack(settings, exchange_options=options, on_ready=tell)


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
