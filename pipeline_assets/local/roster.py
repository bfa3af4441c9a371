"""Every process of a running stack with its role, grandchildren included: for people and for tests that kill
them in turn. What they are started with is in stack.py.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline_assets.local.systems import WORKER
from pipeline_assets.stack_state import read_state

if TYPE_CHECKING:
    import psutil

SUPERVISOR, GUARD, RUN = "supervisor", "guard", "run"
CODE = "code-server/definitions"


@dataclass(frozen=True)
class StackProcess:
    """One process; `role` is a service's name, or that and what its descendant does."""

    pid: int
    role: str
    service: str | None


def stack_processes(data_dir: Path) -> list[StackProcess]:
    """Return the processes of the stack over `data_dir`; nothing where none runs."""
    import psutil

    record = read_state(data_dir)
    if record is None or not record.runs():
        return []
    found = [StackProcess(record.pid, SUPERVISOR, None)]
    services = {each.pid: each.name for each in record.processes if each.runs()}
    for child in psutil.Process(record.pid).children():
        if child.pid in services:
            name = services[child.pid]
            found.append(StackProcess(child.pid, name, name))
            found += [
                StackProcess(each.pid, _role(name, each), name)
                for each in child.children(recursive=True)
            ]
        elif "process_groups.py" in " ".join(_command(child)):
            found.append(StackProcess(child.pid, GUARD, None))
    return found


def _role(service: str, process: "psutil.Process") -> str:
    command = " ".join(_command(process))
    if service == "code-server":
        if "dagster api grpc" in command:
            return CODE
        if "spawn_main" in command or "execute_run" in command:
            return RUN
    if service == WORKER:
        return RUN
    if "LocalExecutor" in command or "airflow worker" in command:
        return f"{service}/worker"
    return f"{service}/other"


def _command(process: "psutil.Process") -> list[str]:
    import psutil

    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
