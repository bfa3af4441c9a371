"""A signal at any moment of a wait ends a program, and never hangs it."""

import signal
import subprocess
import sys
import threading

import pytest

from pipeline_assets.stop_flag import StopFlag

# The main thread waits in short steps while signals arrive as fast as they can be sent: Event hangs within
# some thousand of these, in the handler.
_PROGRAM = """
import os, signal, sys, threading
from pipeline_assets.stop_flag import StopFlag, set_by_signals
flag = StopFlag()
def send():
    while not done:
        os.kill(os.getpid(), signal.SIGUSR1)
done = []
with set_by_signals(flag, [signal.SIGUSR1]):
    sender = threading.Thread(target=send)
    sender.start()
    for _ in range(20_000):
        flag.wait(0.00001)
        flag._set = False
    done.append(1)
    sender.join()
flag.set()
sys.exit(0 if flag.wait(0) else 1)
"""


def test_signals_never_hang_a_wait() -> None:
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], timeout=120, check=False)
    assert ended.returncode == 0


def test_wakes_every_waiting_thread() -> None:
    flag, woken = StopFlag(), []
    threads = [threading.Thread(target=lambda: woken.append(flag.wait(60))) for _ in range(3)]
    for thread in threads:
        thread.start()
    flag.set()
    for thread in threads:
        thread.join()
    assert woken == [True] * 3


@pytest.mark.parametrize("times", [0, 1, 2])
def test_reports_whether_set(times: int) -> None:
    flag = StopFlag()
    for _ in range(times):
        flag.set()
    assert flag.wait(0) is flag.is_set() is (times > 0)
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
