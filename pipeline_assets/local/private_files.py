"""Keeps the data directory from other users of the machine: modes of files, and the umask.

Candles are public, but the directory also holds credentials, Airflow's database and logs.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

UMASK = 0o077
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@contextlib.contextmanager
def private_umask() -> Iterator[None]:
    """Make files of this process and its children readable by their owner only, within the block."""
    before = os.umask(UMASK)
    try:
        yield
    finally:
        os.umask(before)


def make_private(directory: Path) -> None:
    """Make the directory if it is absent, and take it and its content from other users.

    A directory below it that is closed to others already is not searched: nobody else reaches its
    content, and a lake of a million objects would delay each start. A directory is closed after its
    content, so that an interrupted call is completed by the next one. Links are left alone.

    Raises:
        OSError: the directory cannot be made, or belongs to somebody else.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close(directory)


def _close(directory: Path) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            # A server that still runs over the directory may remove files meanwhile.
            with contextlib.suppress(FileNotFoundError):
                if entry.is_symlink() or not entry.stat(follow_symlinks=False).st_mode & _OTHERS:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    _close(Path(entry.path))
                else:
                    _drop_others(entry.path)
    _drop_others(directory)


def _drop_others(path: str | Path) -> None:
    mode = stat.S_IMODE(os.stat(path).st_mode)
    if mode & _OTHERS:
        os.chmod(path, mode & ~_OTHERS)
