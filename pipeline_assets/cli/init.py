"""The command `init`: the files with which the product runs outside a clone of its repository. Their content
is in init_files/, which are the repository's own.
"""

from importlib.resources import files
from pathlib import Path

import click

from pipeline_assets.cli.whole_file import FileNotWrittenError, write_whole

FILES = ("config.yaml", ".env.example", "dagster.yaml", "workspace.yaml")


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=".")
def init(directory: Path) -> None:
    """Write config.yaml, .env.example, dagster.yaml and workspace.yaml into DIRECTORY.

    Files that exist are kept. `pipeline-assets up` and all other commands take the files of the directory in
    which they are started.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileNotWrittenError(
            f"{directory} cannot be made: {error.strerror}. Name another directory."
        ) from error
    for name in FILES:
        path = directory / name
        if path.exists():
            click.echo(f"kept     {path}")
            continue
        write_whole(path, files("pipeline_assets").joinpath("init_files", name).read_bytes())
        click.echo(f"written  {path}")
