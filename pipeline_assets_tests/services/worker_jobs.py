"""A job for tests of the worker: its step leaves files that say where it ran and whether it wrote."""

import os
import time
from pathlib import Path

from dagster import OpExecutionContext, in_process_executor, job, op

from pipeline_assets.resources.write_guard import require_lease

DIRECTORY = "WORKER_TEST_DIRECTORY"


@op
def begin_wait_write(context: OpExecutionContext) -> None:
    """Say that the run began, wait for the file `go-{run}` or `go`, and write."""
    directory = Path(os.environ[DIRECTORY])
    began = directory / f"began-{context.run_id}"
    with began.open("a") as file:
        file.write(f"{os.getpid()} {os.getppid()}\n")
    while not (directory / "go").exists() and not (directory / f"go-{context.run_id}").exists():
        time.sleep(0.01)
    require_lease()
    with (directory / f"wrote-{context.run_id}").open("a") as file:
        file.write("written\n")


@job(executor_def=in_process_executor)
def waiting() -> None:
    """Execute the step."""
    begin_wait_write()
