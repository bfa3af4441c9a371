"""Writing a file so that it is whole or not there. The content of a file is its command's."""

import os
import tempfile
from pathlib import Path

import click

from pipeline_assets.errors import OutsideSystemError


class FileNotWrittenError(OutsideSystemError):
    """A file could not be written; one that was there before is unchanged."""


def check_place(option: str, path: Path | None) -> None:
    """Refuse a path whose file cannot be made, before the work that fills the file."""
    if path is None:
        return
    if path.is_dir():
        raise click.BadParameter(f"{path} is a directory; name a file.", param_hint=f"'{option}'")
    if path.exists() and not path.is_file():
        raise click.BadParameter(
            f"{path} is no regular file; name another.", param_hint=f"'{option}'"
        )
    if not path.parent.is_dir():
        raise click.BadParameter(
            f"there is no directory {path.parent}; make it first.", param_hint=f"'{option}'"
        )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, flush it to the disk, and then rename it. A link is followed.

    Raises:
        FileNotWrittenError: the disk is full, or the directory cannot be written.
    """
    beside: Path | None = None
    path = path.resolve()
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".new", delete=False
        ) as file:
            beside = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # The temporary file is its owner's only; a report is as open as other new files.
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    except OSError as error:
        if beside is not None:
            beside.unlink(missing_ok=True)
        raise FileNotWrittenError(
            f"{path} was not written: {error.strerror}. {len(content):,} bytes are needed in "
            f"{path.parent}. Make room or name another file, then repeat the command."
        ) from error


def _umask() -> int:
    held = os.umask(0o077)
    os.umask(held)
    return held
