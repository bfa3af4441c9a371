"""The command `airflow`: Airflow's own command line over the embedded Airflow, which is local/airflow.py."""

import os
import sys

import click

from pipeline_assets.local.data_directory import UMASK
from pipeline_assets.settings import load_settings


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def airflow(arguments: tuple[str, ...]) -> None:
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
