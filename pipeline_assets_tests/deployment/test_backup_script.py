"""The backup's script on a host that has no data directory. A stand-in for rclone copies nothing, since the
copies are tested in endurance/test_backup.py. The programs that the script starts are asked what they got.
"""

import os
import subprocess
from pathlib import Path

from pipeline_assets_tests.fixtures.lake_copy import BACKUP


def program(file: Path, text: str) -> Path:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def test_backup_needs_no_data_directory(tmp_path: Path) -> None:
    """With Dagster in PostgreSQL the script copies lake and journals, by a program of another name."""
    program(tmp_path / "rclone", ":")
    # `pipeline-assets` refuses a variable PIPELINE_… that is no setting.
    asked = program(tmp_path / "asked", 'echo "$@" "${PIPELINE_ASSETS-unset}" > "$3"')
    subprocess.run(
        [BACKUP / "backup.sh", "lake:a", "copy:a", tmp_path / "new"],
        check=True,
        timeout=60,
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PIPELINE_DATA_DIR": str(tmp_path / "none"),
            "PIPELINE_ASSETS": str(asked),
            "DAGSTER": "postgresql",
        },
    )
    journal = tmp_path / "new" / "journal.sqlite"
    assert journal.read_text() == f"gateway backup {journal} unset\n"
