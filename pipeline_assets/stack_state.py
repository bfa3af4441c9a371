"""The file stack.json, in which the embedded stack's supervisor says what runs and what is wrong.
local/supervisor.py writes the file; `status` and the watchdog read it. It holds no secret.
"""

import errno
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline_assets.errors import DataError
from pipeline_assets.process_identity import is_alive

STATE_FILE = "stack.json"
# The watchdog's incidents and alerts, and the time of its last check (`checked_at`).
WATCHDOG_FILE = "watchdog.json"
WATCHDOG = "watchdog"
# Less room than this under the data directory counts as a full disk; twice as much ends it.
FREE_BYTES = 20_000_000
# The supervisor writes the file at every change, and at least this often.
REPORT_SECONDS = 5.0
# A report older than this means that the supervisor is stopped or dead, or that it cannot write.
SILENT_AFTER = timedelta(seconds=30)
# The sizes of the files are multiples of this.
_ROOM = 16_384
_READS = 3

UP = "up"
STARTING = "starting"
RESTARTING = "restarting"
UNHEALTHY = "unhealthy"


class StackStateError(DataError):
    """stack.json is not what a supervisor writes. The message names the file and a remedy."""


@dataclass(frozen=True)
class ProcessRecord:
    """The entry of one process in stack.json.

    Attributes:
        created: with `mark`, distinguishes the process from a later one of the same pid.
        mark: see process_identity.py; empty in files of older versions.
        state: UP, STARTING, RESTARTING or UNHEALTHY; empty in files of older versions.
        healthy: whether the last health checks were answered.
        problem: why the state is not UP, for people.
        since: when the state began (UTC, ISO 8601).
        last_restart: the reason of the last restart.
    """

    name: str
    pid: int
    created: float
    address: str | None
    log: str
    started_at: str
    ready: bool
    seconds_to_ready: float | None
    restarts: int
    mark: str = ""
    state: str = ""
    healthy: bool = True
    problem: str | None = None
    since: str | None = None
    last_restart: str | None = None

    def runs(self) -> bool:
        """Return whether the process exists, healthy or not."""
        return is_alive(self.pid, self.created, self.mark)

    def is_up(self) -> bool:
        """Return whether the process exists, was ready and answers its health checks."""
        return self.ready and self.state in ("", UP) and self.runs()


@dataclass(frozen=True)
class StackRecord:
    """The content of stack.json: the supervisor, its start (UTC, ISO 8601), and the processes.

    Attributes:
        checked_at: when the supervisor wrote the file (UTC, ISO 8601); None in files of older versions.
        problem: the reason why the whole stack does not work, such as a full disk.
    """

    pid: int
    created: float
    started_at: str
    processes: tuple[ProcessRecord, ...]
    mark: str = ""
    checked_at: str | None = None
    problem: str | None = None

    def runs(self) -> bool:
        """Return whether the supervisor's process exists, stopped or not."""
        return is_alive(self.pid, self.created, self.mark)

    def silence(self, now: datetime) -> str | None:
        """Return why the supervisor's report cannot be relied on at `now` (UTC); None if it can."""
        if not self.runs():
            return "the supervisor was killed"
        if self.checked_at is None:
            return None
        age = now - datetime.fromisoformat(self.checked_at)
        if age < SILENT_AFTER:
            return None
        return f"the supervisor has not reported for {age.total_seconds():.0f} s"


def read_state(data_dir: Path) -> StackRecord | None:
    """Return what stack.json under `data_dir` says; None without one. Its processes may be dead.

    Files of older and newer versions are read: an absent key has its default, an unknown key is
    passed over.

    Raises:
        StackStateError: the file is not what a supervisor writes.
    """
    path = data_dir / STATE_FILE
    try:
        content = _read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _damaged(path, error) from error
    try:
        entries = [_known(ProcessRecord, entry) for entry in content["processes"]]
        held = _known(StackRecord, content) | {
            "processes": tuple(ProcessRecord(**entry) for entry in entries)
        }
        return StackRecord(**held)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> StackStateError:
    return StackStateError(
        f"{path} cannot be read ({error}). Delete it if no stack runs over this directory."
    )


def _read_json(path: Path) -> Any:
    """Read a file that may just be written over on a full disk, when a first look may see half of it."""
    for _ in range(_READS - 1):
        with suppress(ValueError):
            return json.loads(path.read_bytes())
        time.sleep(0.05)
    return json.loads(path.read_bytes())


def write_state(data_dir: Path, record: StackRecord) -> None:
    """Replace stack.json.

    Raises:
        OSError: it cannot be written, as on a full disk; the former one stays.
    """
    write_atomically(data_dir / STATE_FILE, asdict(record))


def write_atomically(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file whole, so that a reader never sees half of it.

    On a full disk the content is written over the old one, in the room that the file has already: what
    the supervisor and the watchdog know must not go stale just then. The file is padded for it.

    Raises:
        OSError: it cannot be written, and the file is too small to be written over.
    """
    text = json.dumps(content, indent=1).encode()
    text += b" " * (-len(text) % _ROOM)
    temporary = path.with_name(path.name + ".new")
    try:
        temporary.write_bytes(text)
        temporary.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        temporary.unlink(missing_ok=True)
        with path.open("r+b") as file:
            room = os.fstat(file.fileno()).st_size
            if room < len(text):
                raise
            file.write(text.ljust(room))


def utc_now() -> str:
    """Return the current time in the format of stack.json: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _known(kind: type, entry: Mapping[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in entry.items() if name in names}


def disk_problem(data_dir: Path, free_bytes: int = FREE_BYTES) -> str | None:
    """Return the problem of the disk under `data_dir`: less room than `free_bytes`; None if there is none."""
    try:
        found = os.statvfs(data_dir)
    except OSError as error:
        return f"{data_dir} cannot be read ({error.strerror})"
    free = found.f_bavail * found.f_frsize
    if free >= free_bytes:
        return None
    return (
        f"disk full: {free / 1e6:.1f} MB left under {data_dir}. Make room: the stack then goes on "
        "by itself"
    )
