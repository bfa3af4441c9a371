"""Writing a file so that it is whole or not there. The content of a file is its command's."""

import contextlib
import errno
import fcntl
import os
import re
import tempfile
from pathlib import Path

import click

from pipeline_assets.errors import OutsideSystemError

_SUFFIX = ".new"
# The operating system's refusals that more room does not change.
_REFUSALS = (errno.EROFS, errno.EACCES, errno.EPERM)


class FileNotWrittenError(OutsideSystemError):
    """A file could not be written; one that was there before is unchanged."""


def check_place(option: str, path: Path | None) -> None:
    """Refuse a path whose file cannot be made, before the work that fills the file."""
    if path is None:
        return
    try:
        place = path.resolve().parent
    # Python raises no OSError for a loop of links before 3.13.
    except (OSError, RuntimeError) as error:
        raise click.BadParameter(
            f"{path} cannot be followed: {error}. Name another.", param_hint=f"'{option}'"
        ) from error
    if path.is_dir():
        raise click.BadParameter(f"{path} is a directory; name a file.", param_hint=f"'{option}'")
    if path.exists() and not path.is_file():
        raise click.BadParameter(
            f"{path} is no regular file; name another.", param_hint=f"'{option}'"
        )
    if not place.is_dir():
        raise click.BadParameter(
            f"there is no directory {place if path.is_symlink() else path.parent}; make it first.",
            param_hint=f"'{option}'",
        )
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise click.BadParameter(
            f"{place} cannot be written: {error.strerror}. Name a file elsewhere.",
            param_hint=f"'{option}'",
        ) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, flush it to the disk, and then rename it. A link is followed.

    A writer that was killed leaves its part behind: the next writer of the same file removes the part. Parts
    of writers that are still at work are locked by these, and stay.

    Raises:
        FileNotWrittenError: the disk is full, or the directory cannot be written.
    """
    path = path.resolve()
    try:
        _remove_parts(path)
        descriptor, part = _new_part(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                # The temporary file is its owner's only; a report is as open as other new files.
                part.chmod(0o666 & ~_umask())
                part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        if error.errno in _REFUSALS:
            remedy = f"Name a place that you may write to instead of {path.parent}"
        else:
            remedy = f"{len(content):,} bytes are needed in {path.parent}. Make room or name another file"
        raise FileNotWrittenError(
            f"{path} was not written: {error.strerror}. {remedy}, then repeat the command."
        ) from error


def _new_part(path: Path) -> tuple[int, Path]:
    """Return a new file beside the place of another one, locked while its descriptor is open."""
    while True:
        descriptor, name = tempfile.mkstemp(_SUFFIX, f".{path.name}.", path.parent)
        # Some network drives have no locks: nothing is removed there, and files are written all the same.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Between its making and its lock, another writer may have taken the file for one left behind.
        if Path(name).exists():
            return descriptor, Path(name)
        os.close(descriptor)


def _remove_parts(path: Path) -> None:
    """Remove what killed writers of a file left: parts that no process has locked."""
    left = re.compile(re.escape(f".{path.name}.") + r"[a-z0-9_]{8}" + re.escape(_SUFFIX))
    with contextlib.suppress(PermissionError):
        for part in filter(lambda each: left.fullmatch(each.name), list(path.parent.iterdir())):
            # The part is locked by a writer at work, or renamed meanwhile, or another user's.
            with contextlib.suppress(OSError), part.open("rb") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()


def _umask() -> int:
    held = os.umask(0o077)
    os.umask(held)
    return held
