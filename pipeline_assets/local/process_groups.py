"""Process groups: how the stack's processes end together with all that they started, and how none outlives
a killed supervisor. When a process has to end is decided in supervisor.py.

The file is also a program: the guard, which `Guard` starts.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from typing import IO

# PR_SET_PDEATHSIG is set by the child itself before it becomes the server: Popen's preexec_fn may
# deadlock in a process with threads. The parent is compared because it may have died before that.
_DIES_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("its supervisor is gone")
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"cannot start {sys.argv[2]}: {error.strerror}")
"""
# Processes of a group that are left once its first process has ended get this long to end by themselves.
_LEFT_SECONDS = 2.0


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of all that it started, ended ones included; 0 if it is gone."""
    import psutil

    total = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                used = each.cpu_times()
                total += used.user + used.system + used.children_user + used.children_system
    return total


class Guard:
    """A process that ends the children's process groups when this one is killed.

    PR_SET_PDEATHSIG reaches a direct child only, and only on Linux; what the child started is
    reached through its group. The guard learns of a death by the end of its standard input.
    A guard that was itself killed is replaced.
    """

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process = self._start()

    def add(self, group: int) -> None:
        """Let a process group not outlive this process."""
        self._groups.add(group)
        self._tell(f"+{group}")

    def remove(self, group: int) -> None:
        """Take a process group off the list: it has ended."""
        self._groups.discard(group)
        self._tell(f"-{group}")

    def keep(self) -> None:
        """Replace the guard if it was killed. To be called from time to time."""
        if self._process.poll() is None:
            return
        self._process = self._start()
        for group in self._groups:
            self._tell(f"+{group}")

    def close(self, patience: float = 15.0) -> None:
        """Let it go; it ends whatever group is still on its list.

        A guard that is stopped (SIGSTOP) does not end by itself, and `up` hung at Ctrl-C.
        """
        assert self._process.stdin is not None  # noqa: S101 - Popen with stdin=PIPE
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603 - this file
            [sys.executable, "-I", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            # It reads no settings, and a person may have set secrets where `up` was started.
            env={name: each for name, each in os.environ.items() if not _is_setting(name)},
            start_new_session=True,
        )

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - Popen with stdin=PIPE
        # `keep` finds a dead guard and gives the next one the whole list.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()


class Ending:
    """The end of a process and all that it started, step by step, so that no caller waits for it."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", number: signal.Signals, patience: float
    ) -> None:
        """Send the signal.

        Args:
            process: the first of its process group.
            number: the signal that asks it to end.
            patience: seconds from now to SIGKILL.
        """
        self._process = process
        self._deadline = time.monotonic() + patience
        self._group_deadline: float | None = None
        if process.poll() is None:
            process.send_signal(number)

    def step(self, now: float) -> bool:
        """Return whether all has ended by `now` (monotonic seconds); to be repeated until then."""
        group = self._process.pid
        if self._process.poll() is None:
            if now >= self._deadline:
                # It had its signal and its time, and so had its children.
                signal_group(group, signal.SIGKILL)
            return False
        if self._group_deadline is None:
            self._group_deadline = now + _LEFT_SECONDS
            if not signal_group(group, signal.SIGTERM):
                return True
        if not group_is_alive(group):
            return True
        if now >= self._group_deadline:
            signal_group(group, signal.SIGKILL)
        return False


def _is_setting(name: str) -> bool:
    """Return whether a variable is a setting. This file is a program by itself, and imports no package."""
    return name.upper().startswith("PIPELINE_")


def keep_guard(lines: Iterable[str], patience: float = 10.0) -> None:
    """Follow `+group` and `-group` lines; when they end, end the groups still on the list."""
    groups: set[int] = set()
    for line in lines:
        group = int(line[1:])
        (groups.add if line.startswith("+") else groups.discard)(group)
    end_groups(groups, patience)


def end_groups(groups: Iterable[int], patience: float) -> None:
    """SIGTERM to process groups, and SIGKILL to those still there after `patience` seconds."""
    left = {group for group in groups if signal_group(group, signal.SIGTERM)}
    deadline = time.monotonic() + patience
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = {group for group in left if group_is_alive(group)}
    for group in left:
        signal_group(group, signal.SIGKILL)


def signal_group(group: int, number: signal.Signals) -> bool:
    """Return whether there was such a process group to signal."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def group_is_alive(group: int) -> bool:
    """Return whether a process of the group still runs; zombies, which may never be reaped, do not count."""
    import psutil

    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
        except (psutil.Error, ProcessLookupError):
            continue
    return False


def dying_with_this_process(argv: Sequence[str]) -> list[str]:
    """Return the command for Popen by which `argv` gets SIGTERM when this process dies (Linux)."""
    return [sys.executable, "-I", "-S", "-c", _DIES_WITH_PARENT, str(os.getpid()), *argv]


def _guard_main(lines: IO[str]) -> None:
    # Ctrl-C and a closed terminal must not take the guard before what it guards.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep_guard(lines)


if __name__ == "__main__":
    _guard_main(sys.stdin)
