"""The command group `inference`. Its subcommands about models are in models.py."""

import click

from pipeline_assets.cli.models import add_model_commands


@click.group()
def inference() -> None:
    """Trained models: list them, choose the one that decides, go back."""


add_model_commands(inference)
