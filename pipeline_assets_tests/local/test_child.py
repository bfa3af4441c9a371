"""How long a first start may take, and what a log quotes. Whole processes are in test_supervisor.py."""

import subprocess
import sys

from pipeline_assets.local.child import StartProgress
from pipeline_assets.local.process_groups import cpu_seconds
from pipeline_assets.local.service_log import raised_at_end


def test_progress_extends_a_start() -> None:
    """The limit grows by a quarter with each one in which CPU time was used, eight times as long at most."""
    progress = StartProgress()
    used = iter(quarter * 0.2 for quarter in range(1, 20))
    for quarter in range(1, 20):
        limit = progress.limit(lambda: next(used), 45.0 * quarter, 180.0)
        assert limit == max(180.0, 45.0 * (quarter + 1))
    # Within a quarter the process is not asked again.
    assert progress.limit(lambda: next(used), 45.0 * 19.9, 180.0) == 900.0
    assert progress.limit(lambda: 19 * 0.2, 45.0 * 20, 180.0) == 900.0
    assert StartProgress().limit(lambda: 900.0, 1439.0, 180.0) == 1440.0


def test_idle_start_is_not_extended() -> None:
    progress = StartProgress()
    for second in range(200):
        assert progress.limit(lambda: 0.05, float(second), 180.0) == 180.0


def test_cpu_time_counts_children() -> None:
    """A process's CPU time includes that of a child which ended, and a process that is gone has none."""
    text = """
import os, signal, subprocess, sys
burn = "import time\\nwhile time.process_time() < 0.3: pass"
subprocess.run([sys.executable, "-c", burn], check=True)
print(flush=True)
signal.pause()
"""
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert cpu_seconds(process.pid) >= 0.3
        process.kill()
    assert cpu_seconds(process.pid) == 0.0


def test_lines_after_traceback_are_quoted() -> None:
    """A traceback that the process survived is not the reason why it ended."""
    traceback = 'Traceback (most recent call last):\n  File "a.py", line 1\n'
    assert raised_at_end(f"{traceback}KeyError: 1\n") == "KeyError: 1"
    assert raised_at_end(f"{traceback}KeyError: 1\n" + "went on\n" * 20) is None
    assert raised_at_end("no traceback\n") is None
    assert raised_at_end(traceback) is None
