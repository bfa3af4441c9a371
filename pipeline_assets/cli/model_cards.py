"""The subcommand `inference card`: the model card of a stored model as a file. How a card is made is in
research/model_card.py.
"""

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline_assets.cli.options import known_strategy
from pipeline_assets.cli.output import print_problems
from pipeline_assets.cli.whole_file import check_place, write_whole
from pipeline_assets.errors import InputError
from pipeline_assets.settings import load_settings

if TYPE_CHECKING:
    from pipeline_assets.resources.object_store import ObjectStore


class NoCurrentModelError(InputError):
    """No model of the strategy is current. The message says how to name another one."""

    exit_status = 1


@click.command()
@click.argument("strategy")
@click.option("--model", "model_id", help="The id of a model; by default the current one.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="The file to write; by default STRATEGY-MODEL.html in the working directory.",
)
@click.option("--open", "opens", is_flag=True, help="Open the file in a browser, too.")
def card(strategy: str, model_id: str | None, output: Path | None, opens: bool) -> None:
    """Write the model card of a STRATEGY's model to a file: what the model is worth, in pictures and figures.

    Exit status 1: no model is current, the card is damaged, or no browser was found.
    """
    from pipeline_assets.resources.model_objects import read_card
    from pipeline_assets.resources.object_store import ObjectStore
    from pipeline_assets.resources.s3_clients import PERSON_PATIENCE

    check_place("--output", output)
    known_strategy(strategy)
    store = ObjectStore(load_settings().s3, PERSON_PATIENCE)
    chosen = model_id or _current(store, strategy)
    content = read_card(store, strategy, chosen)
    path = output or Path(f"{strategy}-{chosen}.html")
    write_whole(path, content)
    click.echo(f"The model card of {strategy} {chosen} is in {path}.")
    if opens and not webbrowser.open(path.resolve().as_uri()):
        print_problems([f"No browser was found. Open {path} yourself."])
        raise click.exceptions.Exit(1)


def _current(store: "ObjectStore", strategy: str) -> str:
    """Return the id of the current model."""
    from pipeline_assets.resources.current_models import read_current
    from pipeline_assets.resources.model_objects import stored_models

    current = read_current(store, strategy).current
    if current is not None:
        return current.model_id
    stored = stored_models(store, strategy)
    raise NoCurrentModelError(
        f"No model of {strategy} is current. "
        + (
            f"The card of the newest one: `pipeline-assets inference card {strategy} --model {stored[-1]}`."
            if stored
            else f"No model is stored, either: `pipeline-assets inference train {strategy}` trains one."
        )
    )
