"""Code shared by the commands that start or show the embedded stack: the source of candles, the scheduler,
and the table of systems. The stack itself is local/stack.py.
"""

import os
from typing import TYPE_CHECKING

import click

from pipeline_assets.cli.output import table
from pipeline_assets.settings import PRODUCTION_BINANCE, Settings, load_settings

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline_assets.local.stack import StackStatus

exchange_option = click.option(
    "--exchange",
    "exchange_name",
    type=click.Choice(["replay", "binance"]),
    default="replay",
    show_default=True,
    help="binance: the real public API (no key needed); all else embedded.",
)
airflow_option = click.option(
    "--airflow", is_flag=True, help="Let Airflow schedule, beside the rest; Dagster's stay off."
)

inference_option = click.option(
    "--inference",
    is_flag=True,
    help="Let the promoted models decide about candidates, and not the trader.",
)


def choose_author(*, inference: bool) -> None:
    """Let models decide, for this process and its children, if this is asked for."""
    if inference:
        os.environ["PIPELINE_INFERENCE__ENABLED"] = "true"


def choose_exchange(name: str) -> None:
    """Let the chosen exchange stand above config.yaml and .env, for this process and its children."""
    if name == "binance":
        os.environ.update(PRODUCTION_BINANCE)
        # Candles of two sources in one lake could not be distinguished, and finalized days would stay.
        held = load_settings().data_dir
        os.environ["PIPELINE_DATA_DIR"] = str(held.with_name(f"{held.name}-binance"))


def choose_scheduler(*, schedules: bool, airflow: bool) -> None:
    """Let either Airflow or Dagster schedule runs, or neither: both together would run everything twice."""
    if airflow:
        os.environ["PIPELINE_AIRFLOW__ENABLED"] = "true"
    by_airflow = load_settings().airflow.enabled
    os.environ["PIPELINE_DAGSTER__SCHEDULES"] = str(schedules and not by_airflow)


def check_strategies(settings: Settings) -> None:
    """Refuse unknown strategies at the start: otherwise the sensor would fail on them every five seconds.

    Raises:
        StrategyError: a strategy or parameter does not exist; the message names those that do.
    """
    from pipeline_assets.market.strategies import configured_strategies

    configured_strategies(settings.strategies)


def print_addresses(console: "Console", stack: "StackStatus") -> None:
    """Print the systems with their addresses and states."""
    from rich.text import Text

    shown = table("Systems")
    for name in ("system", "address", "", "pid", "restarts"):
        # An address or a reason may be longer than the terminal is wide; the rest must stay seen.
        shown.add_column(name, no_wrap=name not in ("address", ""), overflow="fold")
    for each in stack.services:
        message = f"{each.state}: {each.problem}" if each.problem else each.state
        state = Text(message, style="green" if each.alive else "red")
        where = each.address + ("" if each.embedded else " (external)")
        shown.add_row(each.name, where, state, str(each.pid or ""), str(each.restarts or ""))
    console.print(shown)
    if stack.problem:
        console.print(Text(f"The stack is not well: {stack.problem}", style="red"))


def print_author(console: "Console", settings: Settings) -> None:
    """Print which program decides about candidates, and which models there are."""
    console.print(_author(settings) + " " + _models(settings), markup=False, highlight=False)


def _author(settings: Settings) -> str:
    if settings.inference.enabled:
        return (
            "Inference is on: each strategy's current model decides about its candidates; without one they "
            "are declined as no_model."
        )
    return (
        "Inference is off: the trader accepts all candidates that the position rules allow, until "
        "`--inference` (PIPELINE_INFERENCE__ENABLED=true) lets models decide."
    )


def _models(settings: Settings) -> str:
    """Return the current models of the configured strategies as a sentence."""
    from pipeline_assets.errors import PipelineError
    from pipeline_assets.resources.current_models import read_current
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.s3_clients import PERSON_PATIENCE

    store, held, none = ObjectStore(settings.s3, PERSON_PATIENCE), [], []
    for name in dict.fromkeys(each.name for each in settings.strategies):
        try:
            current = read_current(store, name).current
        except PipelineError as error:
            return f"Current models are unknown: {error}"
        if current is None:
            none.append(name)
        else:
            held.append(f"{name} {current.model_id}")
    found = f"Current models: {', '.join(held)}" if held else "Current models: none yet"
    return f"{found}; none yet of {', '.join(none)}." if held and none else f"{found}."


def print_live_gateway(console: "Console", settings: Settings) -> None:
    """Print how to start the gateway if the venue is live: `up` lists it as down and starts none."""
    trading = settings.trading
    if trading.venue == "live":
        console.print(
            "PIPELINE_TRADING__VENUE is live, so the gateway is not started here. To trade with money: "
            f"`pipeline-assets gateway --live {trading.account}`.",
            markup=False,
            highlight=False,
        )


def print_login(console: "Console", settings: Settings) -> None:
    """Print where Airflow is and how to log in, if it is enabled."""
    if settings.airflow.enabled:
        from pipeline_assets.local.airflow import address, login

        user, password = login(settings)
        console.print(f"Airflow: {address(settings)}, user {user}, password {password}")
