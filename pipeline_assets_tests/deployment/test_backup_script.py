"""The backup's script on a host that has no data directory, and while its programs fail. A stand-in for
rclone copies nothing, since the copies are tested in endurance/test_backup.py, and keeps only the mark of an
unfinished copy, as a file. The programs that the script starts are asked what they got.
"""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from pipeline_assets_tests.fixtures.lake_copy import BACKUP


def program(file: Path, text: str) -> Path:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


MARKING = """case $1 in
rcat) cat >"$MARK" ;;
deletefile) rm "$MARK" ;;
esac"""


def backup(
    directory: Path, rclone: str = MARKING, gateway: str = ":"
) -> subprocess.CompletedProcess[str]:
    """Run the script with stand-ins for the programs that it starts."""
    program(directory / "rclone", rclone)
    # `pipeline-assets` refuses a variable PIPELINE_… that is no setting.
    asked = program(directory / "asked", f'echo "$@" "${{PIPELINE_ASSETS-unset}}" >"$3"\n{gateway}')
    return subprocess.run(
        [BACKUP / "backup.sh", "lake:a", "copy:a", f"{directory / 'new'}/"],
        check=False,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env={
            "PATH": f"{directory}:{os.environ['PATH']}",
            "PIPELINE_DATA_DIR": str(directory / "none"),
            "PIPELINE_ASSETS": str(asked),
            "DAGSTER": "postgresql",
            "MARK": str(directory / "mark"),
        },
    )


def test_backup_needs_no_data_directory(tmp_path: Path) -> None:
    """With Dagster in PostgreSQL the script copies lake and journals, by a program of another name."""
    assert backup(tmp_path).returncode == 0
    # Written under the unfinished name, and then renamed.
    written = tmp_path / "new.unfinished" / "journal.sqlite"
    assert (tmp_path / "new" / "journal.sqlite").read_text() == f"gateway backup {written} unset\n"
    assert not written.parent.exists()
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("failing", "status"),
    [
        ({"gateway": "exit 3"}, 3),
        ({"rclone": f"{MARKING}\n[ $1 != copy ] || exit 5"}, 5),
        # Ctrl-C, and a service manager's end, reach the script while a program works.
        ({"gateway": "kill -INT $PPID"}, 130),
        ({"gateway": "kill -TERM $PPID"}, 143),
    ],
    ids=["gateway", "rclone", "interrupted", "terminated"],
)
def test_failed_backup_cannot_be_restored(
    tmp_path: Path, failing: dict[str, str], status: int
) -> None:
    """A failure leaves no directory, and a copy that is marked until a backup succeeds."""
    failed = backup(tmp_path, **failing)
    assert failed.returncode == status
    assert "Restore nothing from copy:a before a backup succeeds" in failed.stderr
    assert not list(tmp_path.glob("new*"))
    assert (tmp_path / "mark").exists()
    assert backup(tmp_path).returncode == 0
    assert not (tmp_path / "mark").exists()


def test_killed_backup_keeps_its_name(tmp_path: Path) -> None:
    """A script that was killed leaves an unfinished name, which the next one neither takes nor removes."""
    assert backup(tmp_path, gateway="kill -KILL $PPID").returncode == -signal.SIGKILL
    assert [each.name for each in tmp_path.glob("new*")] == ["new.unfinished"]
    refused = backup(tmp_path)
    assert refused.returncode == 2
    assert "new.unfinished is there" in refused.stderr
    assert (tmp_path / "new.unfinished" / "journal.sqlite").exists()
