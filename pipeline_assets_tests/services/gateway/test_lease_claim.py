"""A lease's file on this host: whose lease is not waited for, and whose is."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_assets.services.gateway.lease_claim import LeaseClaim

_HOLDER = """
import sys, time
from pathlib import Path
from pipeline_assets.services.gateway.lease_claim import LeaseClaim
claim = LeaseClaim(Path(sys.argv[1]))
assert claim.dead_token() == ""
claim.write("token-1 a process that is killed")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Provide a process that has the lock and wrote its token."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path / "desk.lease")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_token_of_killed_process_is_known(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    """Not while the process lives or is paused, and at once after kill -9."""
    claim = LeaseClaim(tmp_path / "desk.lease")
    assert claim.dead_token() == ""
    holder.send_signal(signal.SIGSTOP)
    assert claim.dead_token() == ""
    claim.write("token-2")
    holder.kill()
    holder.wait()
    assert claim.dead_token() == "token-1 a process that is killed"
    claim.write("token-2")
    assert LeaseClaim(tmp_path / "desk.lease").dead_token() == ""
    claim.close()
    following = LeaseClaim(tmp_path / "desk.lease")
    assert following.dead_token() == "token-2"
    following.close()


def test_file_is_private_and_not_inherited(tmp_path: Path) -> None:
    """A program that the gateway starts does not hold the lock on after the gateway's end."""
    path = tmp_path / "trading" / "desk.lease"
    claim = LeaseClaim(path)
    claim.write("token-1")
    assert path.stat().st_mode & 0o777 == 0o600
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, close_fds=False
    ) as child:
        assert child.stdout
        child.stdout.readline()
        claim.close()
        following = LeaseClaim(path)
        assert following.dead_token() == "token-1"
        following.close()
        child.kill()


def test_unusable_file_costs_the_wait_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory in the file's place: a warning, no token, and the gateway goes on."""
    (tmp_path / "desk.lease").mkdir()
    claim = LeaseClaim(tmp_path / "desk.lease")
    claim.write("token-1")
    assert claim.dead_token() == ""
    assert "waits for the lease" in caplog.text
