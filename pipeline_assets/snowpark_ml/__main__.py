"""The command `python -m pipeline_assets.snowpark_ml`, which deploys a strategy's current model to Snowflake.
It runs in the environment of `make snowpark-ml`. The work is in deployment.py and recording.py.
"""

import hashlib
import sys
from pathlib import Path

import click

from pipeline_assets.errors import PipelineError
from pipeline_assets.research.model_registry import LoadedModel, ModelRegistry
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.warehouse_connection import WarehouseSessions
from pipeline_assets.settings import load_settings
from pipeline_assets.snowpark_ml.deployment import current_model, deploy
from pipeline_assets.snowpark_ml.names import prediction_sql
from pipeline_assets.snowpark_ml.recording import Recording, recorded


@click.command()
@click.argument("strategy")
@click.option(
    "--dry-run",
    type=click.Path(path_type=Path, file_okay=False),
    help="Make no model; write the statements and files that would be sent to this new directory.",
)
def main(strategy: str, dry_run: Path | None) -> None:
    """Deploy the current model of a STRATEGY to Snowflake as a version, and make it the default.

    May be repeated. A dry run logs in, and its files lie on a temporary stage until its session ends.
    """
    settings = load_settings()
    loaded = current_model(ModelRegistry(ObjectStore(settings.s3)), strategy)
    sessions = WarehouseSessions(settings.snowflake, settings.s3.bucket)
    if dry_run is None:
        done = deploy(sessions, loaded)
        what = "is deployed" if done.created else "was deployed before"
        click.echo(f"{done.model} version {done.version} {what} and is the default.")
        return
    if dry_run.exists():
        raise click.UsageError(f"{dry_run} exists; name a new directory.")
    with recorded() as recording:
        deploy(sessions, loaded)
    write(recording, loaded, dry_run)
    click.echo(f"Nothing was deployed. Written: {dry_run}")


def write(recording: Recording, loaded: LoadedModel, directory: Path) -> None:
    """Write a recording: statements.sql, predict.sql, the files, and their SHA-256 by path."""
    digests = []
    for path, body in sorted(recording.files.items()):
        file = directory / "files" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
        digests.append(f"{hashlib.sha256(body).hexdigest()}  {path}\n")
    statements = "".join(f"{each};\n" for each in recording.statements)
    (directory / "statements.sql").write_text(statements, "utf-8")
    (directory / "predict.sql").write_text(prediction_sql(loaded.manifest), "utf-8")
    (directory / "files.sha256").write_text("".join(digests), "utf-8")


if __name__ == "__main__":
    try:
        main()
    except PipelineError as error:
        click.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(error.exit_status)
