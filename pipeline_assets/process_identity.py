"""Whether a recorded process still runs; another process may have its number by now. The caller decides
what to do about a dead process.

A process is recognised by its start on the clock that counts from boot, which does not move when the
wall clock is set. With the wall clock, a forward step of two seconds made every living process look dead.
"""

import sys
import time
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Starts are compared across two clocks whose resolutions differ by at most this.
_TOLERANCE_SECONDS = 1.0


def boot_clock() -> float:
    """Return seconds on a clock that cannot be set and that runs while the machine sleeps (Linux)."""
    clock = time.CLOCK_BOOTTIME if sys.platform == "linux" else time.CLOCK_MONOTONIC
    return time.clock_gettime(clock)


def mark_of(pid: int) -> str:
    """Return the mark of a process's start: the boot's id and seconds; empty if there is no such process."""
    started = _started(pid)
    return "" if started is None else f"{_boot_id()}/{started:.2f}"


def is_alive(pid: int, at: float, mark: str = "") -> bool:
    """Return whether the process that had this pid then still runs; a zombie does not.

    Args:
        pid: the process's number.
        at: when the process was created, or a later time at which it ran (UNIX seconds). It counts
            only without a mark: records of older versions have none.
        mark: the process's start, as `mark_of` returned it.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if mark:
            return _started_by(pid, mark)
        return bool(process.create_time() - at < _TOLERANCE_SECONDS)
    except psutil.Error:
        return False


def _started_by(pid: int, mark: str) -> bool:
    """Return whether the process that has this pid now was started by then, in this boot."""
    boot_id, _, seconds = mark.rpartition("/")
    started = _started(pid)
    if started is None or boot_id != _boot_id():
        return False
    return started - float(seconds) < _TOLERANCE_SECONDS


def _started(pid: int) -> float | None:
    """Return when a process started, in seconds since the boot; elsewhere than on Linux, in UNIX seconds."""
    if sys.platform != "linux":
        # psutil has only the wall clock's time of it there.
        import psutil

        try:
            return float(psutil.Process(pid).create_time())
        except psutil.Error:
            return None
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in brackets, and may hold blanks and brackets.
    ticks = text.rpartition(")")[2].split()[19]
    return int(ticks) / _ticks_per_second()


@cache
def _ticks_per_second() -> int:
    import os

    return os.sysconf("SC_CLK_TCK")


@cache
def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
