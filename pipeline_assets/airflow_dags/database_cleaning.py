"""Airflow keeping itself small: its own `airflow db clean` and its old task logs. Nothing of candles or
Dagster belongs here.
"""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.sdk import BaseOperator, Connection
from airflow.sdk.exceptions import AirflowException, AirflowNotFoundException, AirflowSkipException

if TYPE_CHECKING:
    from airflow.sdk import Context

CONNECTION = "airflow_database"
_VARIABLE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
_LINES = 30
_AN_HOUR = 3600


class AirflowCleaningOperator(BaseOperator):
    """Removes what Airflow recorded and logged longer ago than the DAG run's `keep_days`.

    Airflow 3 keeps its database from tasks, so the address is asked of the connection
    `airflow_database` (in its password, for it is a secret). Where there is none the task is
    skipped: cleaning touches the records of every DAG, so somebody has to have asked for it. May be
    repeated; the newest run of each DAG always stays.
    """

    def execute(self, context: "Context") -> dict[str, int]:
        """Clean the database, then the log folder; returns how many log files were removed."""
        days = int(context["params"]["keep_days"])
        address = _address()
        if address is None:
            raise AirflowSkipException(
                f"No connection `{CONNECTION}` with the database's address in its password: "
                "Airflow's records are left alone."
            )
        before = datetime.now(UTC) - timedelta(days=days)
        self._clean_database(address, before)
        removed = remove_logs(Path(conf.get("logging", "base_log_folder")), before)
        self.log.info("%d log files from before %s removed.", removed, before)
        return {"log_files_removed": removed}

    def _clean_database(self, address: str, before: datetime) -> None:
        command = [sys.executable, "-m", "airflow", "db", "clean", "--yes", "--skip-archive"]
        command += ["--error-on-cleanup-failure", "--clean-before-timestamp", before.isoformat()]
        # Small transactions: SQLite has one writer, and the scheduler is the other one.
        command += ["--batch-size", "500"]
        done = subprocess.run(  # noqa: S603 - our own arguments
            command,
            env=os.environ | {_VARIABLE: address},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        message = "\n".join(done.stdout.replace(address, "***").splitlines()[-_LINES:])
        self.log.info("%s", message)
        if done.returncode:
            raise AirflowException(
                f"`airflow db clean` ended with {done.returncode}; its last lines are above. Check "
                f"the address in the connection `{CONNECTION}`."
            )


def remove_logs(folder: Path, before: datetime) -> int:
    """Remove files below `folder` last written before a moment (UTC), and folders left empty."""
    limit, removed = before.timestamp(), 0
    for directory, folders, files in os.walk(folder, topdown=False):
        for name in files:
            path = Path(directory, name)
            if not path.is_symlink() and path.stat().st_mtime < limit:
                path.unlink(missing_ok=True)
                removed += 1
        for name in folders:
            path = Path(directory, name)
            # A folder that was made just now is about to get its file.
            aged = time.time() - path.stat(follow_symlinks=False).st_mtime > _AN_HOUR
            if not path.is_symlink() and aged and not any(path.iterdir()):
                path.rmdir()
    return removed


def _address() -> str | None:
    try:
        found: Any = Connection.get(CONNECTION).password
    except AirflowNotFoundException:
        found = None
    return found or None
