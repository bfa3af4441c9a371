"""The command `trader`: it runs the trader of services/trader.py."""

from importlib.resources import files

import click

from pipeline_assets.settings import load_settings


@click.command()
@click.option("--schema", is_flag=True, help="Print the JSON Schema of a decision, and end.")
def trader(schema: bool) -> None:
    """Decide about candidates and trade them through the gateway, until Ctrl-C.

    It needs Kafka, Redis, S3 and a running `pipeline-assets gateway`. It may be killed at any time.
    """
    if schema:
        found = files("pipeline_assets.trading") / "decision.schema.json"
        click.echo(found.read_text(encoding="utf-8"), nl=False)
        return
    from pipeline_assets.services.trader import main

    main(load_settings())
