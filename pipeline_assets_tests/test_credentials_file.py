"""The file of the embedded stack's credentials: made once, whole or not at all, for its owner only."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_assets.credentials_file import (
    MAKERS,
    NAME,
    CredentialsFileError,
    make_credentials,
    read_credentials,
)

MAKE = """
import sys
from pathlib import Path
from pipeline_assets.credentials_file import make_credentials
print(sorted(make_credentials(Path(sys.argv[1])).items()))
"""
# Dies by SIGKILL at the given call of the operating system, counted over all three.
MAKE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from pipeline_assets import credentials_file
left = int(sys.argv[2])
def dying(function):
    def called(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return called
os.open, os.fsync = dying(os.open), dying(os.fsync)
Path.replace = dying(Path.replace)
credentials_file.make_credentials(Path(sys.argv[1]))
"""


def run(code: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_credentials_are_made_once_and_kept(tmp_path: Path) -> None:
    first = make_credentials(tmp_path / "data")
    assert set(first) == set(MAKERS)
    assert len(set(first.values())) == len(MAKERS)
    assert make_credentials(tmp_path / "data") == first
    assert read_credentials(tmp_path / "data") == first
    assert make_credentials(tmp_path / "other") != first


def test_only_the_owner_reads_them(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_credentials(tmp_path / "data")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "data" / NAME).stat().st_mode) == 0o600


def test_old_file_gets_missing_entries(tmp_path: Path) -> None:
    """A file of an older version gets the entries that it misses."""
    (tmp_path / NAME).write_text("PIPELINE_REDIS__PASSWORD=kept\nPIPELINE_API__TOKEN=of-a-newer\n")
    found = make_credentials(tmp_path)
    assert found["PIPELINE_REDIS__PASSWORD"] == "kept"
    assert found["PIPELINE_API__TOKEN"] == "of-a-newer"
    assert set(MAKERS) < set(found)
    assert read_credentials(tmp_path) == found


def test_concurrent_processes_share_credentials(tmp_path: Path) -> None:
    """Processes that start at once have the same credentials."""
    processes = [run(MAKE, tmp_path) for _ in range(4)]
    printed = {process.communicate(timeout=60)[0] for process in processes}
    assert printed == {f"{sorted(read_credentials(tmp_path).items())}\n"}


@pytest.mark.parametrize("calls", range(5))
def test_killed_write_leaves_whole_or_none(tmp_path: Path, calls: int) -> None:
    """A killed write leaves the file complete or absent."""
    process = run(MAKE_AND_DIE, tmp_path, calls)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert set(read_credentials(tmp_path)) in (set(), set(MAKERS))
    made = make_credentials(tmp_path)
    assert set(made) == set(MAKERS)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize(("content", "line"), [(b"A=1\nB\n", 2), (b"A=\n", 1), (b"\xff\xfe", 1)])
def test_a_damaged_file_is_never_replaced(tmp_path: Path, content: bytes, line: int) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(CredentialsFileError, match=f"line {line} is not NAME=value"):
        make_credentials(tmp_path)
    assert (tmp_path / NAME).read_bytes() == content
