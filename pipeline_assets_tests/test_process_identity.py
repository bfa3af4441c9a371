"""A process is recognised independently of the wall clock."""

import os
import subprocess
import sys

import psutil

from pipeline_assets.process_identity import is_alive, mark_of


def test_forward_clock_step_changes_nothing() -> None:
    """A forward step of the wall clock changes nothing.

    The record was written while the clock was an hour behind.
    """
    created = psutil.Process().create_time() - 3600
    assert is_alive(os.getpid(), created, mark_of(os.getpid()))


def test_other_process_or_boot_differs() -> None:
    """Another process or boot is not the one that was meant."""
    boot, _, seconds = mark_of(os.getpid()).rpartition("/")
    created = psutil.Process().create_time()
    assert not is_alive(os.getpid(), created, f"{boot}/{float(seconds) - 60}")
    assert not is_alive(os.getpid(), created, f"another-boot/{seconds}")


def test_a_dead_process_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as process:
        created, mark = psutil.Process(process.pid).create_time(), mark_of(process.pid)
    assert not is_alive(process.pid, created, mark)
    assert not is_alive(process.pid, created)
    assert mark_of(process.pid) == ""


def test_old_record_uses_wall_clock() -> None:
    """A record of an older version is judged by the wall clock."""
    created = psutil.Process().create_time()
    assert is_alive(os.getpid(), created)
    assert not is_alive(os.getpid(), created - 3600)
