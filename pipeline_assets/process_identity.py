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


def mark_now() -> str:
    """Return this moment as a mark: the boot's id and the seconds since the boot."""
    return f"{_boot_id()}/{_seconds_since_boot():.2f}"


def mark_of(pid: int) -> str:
    """Return the mark of a process's start; empty if there is no such process."""
    started = _started(pid)
    return "" if started is None else f"{_boot_id()}/{started:.2f}"


def is_alive(pid: int, at: float, mark: str = "") -> bool:
    """Return whether the process that had this pid then still runs; a zombie does not.

    Args:
        pid: the process's number.
        at: when the process was created, or a later time at which it ran (UNIX seconds). It counts
            only without a mark: records of older versions have none.
        mark: the same moment as `mark_of` or `mark_now` returned it.
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


def mark_at(mark: str, marked_at: float, at: float) -> str:
    """Return the mark of the time `at`, given a mark and its time (both UNIX seconds)."""
    boot_id, _, seconds = mark.rpartition("/")
    return f"{boot_id}/{float(seconds) + at - marked_at:.2f}"


def _started_by(pid: int, mark: str) -> bool:
    """Return whether the process that has this pid now was started by then, in this boot."""
    boot_id, _, seconds = mark.rpartition("/")
    started = _started(pid)
    if started is None or boot_id != _boot_id():
        return False
    return started - float(seconds) < _TOLERANCE_SECONDS


def _started(pid: int) -> float | None:
    """Return when a process started, in seconds on the clock of `_seconds_since_boot`."""
    if sys.platform != "linux":
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


def _seconds_since_boot() -> float:
    # Elsewhere than on Linux, psutil has only the wall clock's time of a process's start.
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.time()


@cache
def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"
