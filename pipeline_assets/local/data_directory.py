"""The stack's data directory: made and held by one supervisor, and closed to other users of the machine. Its
content is not known here.

Candles are public, but the directory also holds credentials, Airflow's database and logs.
"""

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline_assets.local.errors import StackError
from pipeline_assets.stack_state import read_state

LOCK_FILE = "stack.lock"
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

    A directory below it that is closed to others already is not searched: other users cannot reach its
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


@contextlib.contextmanager
def making(data_dir: Path) -> Iterator[None]:
    """Turn a refusal of the operating system to make a file under `data_dir` into a StackError."""
    try:
        yield
    except OSError as error:
        raise StackError(
            f"{error.filename or data_dir} cannot be made ({error.strerror}). Set PIPELINE_DATA_DIR "
            "to a directory that you may write to."
        ) from error


@contextlib.contextmanager
def directory_lock(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir` for one supervisor. The kernel lets go of it when the process dies.

    Raises:
        StackError: another process holds it.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / LOCK_FILE).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StackError(
                f"A stack already runs over {data_dir} (pid {file.read().strip() or 'unknown'}). "
                "Use it, stop it with Ctrl-C or `kill` of that pid, "
                "or set another PIPELINE_DATA_DIR and other ports."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def wait_for_last_run(data_dir: Path, patience: float = 15.0) -> None:
    """Wait until no process of a stack killed a moment ago is left, which would hold its ports."""
    record = read_state(data_dir)
    deadline = time.monotonic() + patience
    while record and time.monotonic() < deadline:
        if not any(process.runs() for process in record.processes):
            break
        time.sleep(0.1)
