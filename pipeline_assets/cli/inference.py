"""The command group `inference`: it runs the inference service of services/inference/. Commands about models
are in models.py.
"""

import click

from pipeline_assets.cli.models import add_model_commands
from pipeline_assets.settings import load_settings


@click.group(invoke_without_command=True)
@click.pass_context
def inference(context: click.Context) -> None:
    """Decide about candidates by the promoted models, or manage the models.

    Without a subcommand it decides until Ctrl-C; `pipeline-assets up` starts it too, where
    PIPELINE_INFERENCE__ENABLED is true.
    """
    if context.invoked_subcommand is None:
        context.invoke(run)


@inference.command()
def run() -> None:
    """Decide about candidates until Ctrl-C. Several instances share the work; each may be killed at any time.

    It needs Kafka, S3, Redis, the exchange's time and, for features, Snowflake.
    """
    from pipeline_assets.services.inference.process import main

    main(load_settings())


add_model_commands(inference)
