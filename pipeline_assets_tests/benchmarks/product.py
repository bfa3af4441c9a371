"""The whole product as `pipeline-assets up` starts it, and runs launched in it over GraphQL, as an
outside scheduler does. The measurements are in the bench_ modules.
"""

import contextlib
import json
import os
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psutil
from pydantic import SecretStr

from pipeline_assets.local.stack import StackStatus, prepared, running_stack
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.s3 import free_port

LAUNCH = """
mutation ($job: String!, $config: RunConfigData, $tags: [ExecutionTag!]!) {
  launchRun(executionParams: {
    selector: {
      repositoryLocationName: "pipeline_assets", repositoryName: "__repository__", jobName: $job
    }
    runConfigData: $config
    executionMetadata: {tags: $tags}
  }) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
STATUS = "query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
TIMES = """
query ($run: ID!) { runOrError(runId: $run) { ... on Run {
  status startTime endTime
  stepStats { stepKey startTime endTime }
} } }
"""
SENSORS = """
{ sensorsOrError(repositorySelector: {
    repositoryLocationName: "pipeline_assets", repositoryName: "__repository__"
}) { ... on Sensors { results { sensorState { id status } } } } }
"""
STOP_SENSOR = "mutation ($id: String!) { stopSensor(id: $id) { __typename } }"
ENDED = {"SUCCESS", "FAILURE", "CANCELED"}


@dataclass
class Usage:
    """CPU time and memory of a run, from the kernel's counts: of its own process, or of the worker."""

    cpu: float = 0.0
    peak_mb: float = 0.0


@dataclass(frozen=True)
class Timings:
    """One run, in seconds from sending launchRun, by the time stamps of Dagster's events."""

    answered: float
    started: float
    first_step: float
    ended: float
    steps: dict[str, tuple[float, float]]
    usage: Usage
    others_cpu: dict[str, float]


@dataclass
class Launched:
    """A run that was launched at `at` (seconds since the epoch)."""

    run_id: str
    job: str
    at: float
    answered: float


@dataclass
class Product:
    """A running stack."""

    settings: Settings
    status: StackStatus
    exchange_url: str
    symbols: int

    def launch(self, job: str, partition: date, symbols: Sequence[str] | None = None) -> Launched:
        """Launch a run over GraphQL."""
        config: dict[str, Any] = {}
        if symbols is not None:
            name = f"raw_candles_{job.removeprefix('tick_')}"
            config = {"ops": {name: {"config": {"symbols": list(symbols)}}}}
        tags = [{"key": "dagster/partition", "value": partition.isoformat()}]
        began = time.time()
        answer = self._graphql(LAUNCH, {"job": job, "config": config, "tags": tags})["launchRun"]
        if "run" not in answer:
            raise RuntimeError(f"launchRun of {job} was refused: {answer}")
        return Launched(answer["run"]["runId"], job, began, time.time() - began)

    def wait(self, launched: Launched) -> Timings:
        """Wait for the end of a run; one that fails ends the benchmark with where its log is."""
        deadline = time.monotonic() + 300
        while self._run(STATUS, launched)["status"] not in ENDED:
            if time.monotonic() > deadline:
                raise RuntimeError(f"Run {launched.run_id} of {launched.job} does not end")
            time.sleep(0.5)
        found = self._run(TIMES, launched)
        if found["status"] != "SUCCESS":
            raise RuntimeError(
                f"Run {launched.run_id} of {launched.job} ended as {found['status']}: "
                f"{self.settings.data_dir}/logs"
            )
        steps = {
            step["stepKey"]: (step["startTime"] - launched.at, step["endTime"] - launched.at)
            for step in found["stepStats"]
        }
        return Timings(
            launched.answered,
            found["startTime"] - launched.at,
            min(start for start, _ in steps.values()),
            found["endTime"] - launched.at,
            steps,
            Usage(),
            {},
        )

    def measured_run(
        self, job: str, partition: date, symbols: Sequence[str] | None = None
    ) -> Timings:
        """Launch one run with no other under way, wait for it, and count what its process used."""
        before = self._stack_cpu()
        if self.settings.dagster.launcher == "celery":
            timings = self.wait(self.launch(job, partition, symbols))
            after = self._stack_cpu()
            others = {name: after[name] - before[name] for name in after}
            return replace(
                timings,
                usage=Usage(others.pop("worker"), self.worker_memory()[1]),
                others_cpu=others,
            )
        with _watched_children(self._pid("code-server")) as usages:
            timings = self.wait(self.launch(job, partition, symbols))
        after = self._stack_cpu()
        [usage] = usages.values()
        others = {name: after[name] - before[name] for name in after}
        return replace(timings, usage=usage, others_cpu=others)

    def stop_sensors(self) -> None:
        """Stop all sensors, whose evaluations the code server would do beside a measured run."""
        for sensor in self._graphql(SENSORS, {})["sensorsOrError"]["results"]:
            state = sensor["sensorState"]
            if state["status"] == "RUNNING":
                self._graphql(STOP_SENSOR, {"id": state["id"]})

    def worker_memory(self) -> tuple[float, float]:
        """Return MB of the worker with its children, shared pages once, and the peak of its largest child."""
        parent = psutil.Process(self._pid("worker"))
        children = parent.children(recursive=True)
        whole, peak = parent.memory_full_info().pss, Usage()
        for child in children:
            # The worker replaces children.
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                whole += child.memory_full_info().pss
                _read(child, peak)
        return whole / 1e6, peak.peak_mb

    def set_clock(self, moment: datetime) -> None:
        """Move the exchange's clock; it runs on from there."""
        self._control("clock", {"set_ms": round(moment.timestamp() * 1000)})

    def stored_symbols(self) -> list[str]:
        """Return the symbols that the lake holds minutes of; all that are collected, or an error."""
        found = self.stored_symbols_so_far()
        if len(found) != self.symbols:
            raise RuntimeError(f"{len(found)} symbols are stored, not {self.symbols}")
        return found

    def stored_symbols_so_far(self) -> list[str]:
        """Return the symbols that the lake holds minutes of."""
        listed = ObjectStore(self.settings.s3).objects("ohlcv/1m/")
        return sorted({each.key.split("/")[2] for each in listed})

    def exchange_state(self) -> dict[str, Any]:
        """Return what the replay exchange counted."""
        return self._control("state", None)

    def _pid(self, name: str) -> int:
        [pid] = [each.pid for each in self.status.services if each.name == name]
        if pid is None:
            raise RuntimeError(f"{name} does not run")
        return pid

    def _stack_cpu(self) -> dict[str, float]:
        """CPU seconds of each service with its living children, runs left out."""
        used = {}
        for service in self.status.services:
            if service.pid is None:
                continue
            process = psutil.Process(service.pid)
            times = [process.cpu_times()]
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended meanwhile, as runs do
                    if not _is_run(child):
                        times.append(child.cpu_times())
            used[service.name] = sum(each.user + each.system for each in times)
            if service.name == "worker":
                # Children that it has replaced.
                used[service.name] += times[0].children_user + times[0].children_system
        return used

    def _run(self, query: str, launched: Launched) -> dict[str, Any]:
        return self._graphql(query, {"run": launched.run_id})["runOrError"]

    def _graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        port = self.settings.dagster.webserver_port
        answer = _post(f"http://127.0.0.1:{port}/graphql", {"query": query, "variables": variables})
        if "errors" in answer:
            raise RuntimeError(f"GraphQL: {answer['errors']}")
        return answer["data"]

    def _control(self, what: str, document: object) -> dict[str, Any]:
        return _post(f"{self.exchange_url}/control/{what}", document)


def _post(url: str, document: object) -> dict[str, Any]:
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        answer: dict[str, Any] = json.load(reply)
        return answer


def _is_run(process: psutil.Process) -> bool:
    """Return whether a process below the code server is a run: Dagster spawns them by multiprocessing."""
    spawned = any("spawn_main" in part for part in process.cmdline())
    # A run's own children look like it between fork and exec.
    return spawned and not _is_run(psutil.Process(process.ppid()))


@contextmanager
def _watched_children(parent: int) -> Iterator[dict[int, Usage]]:
    """CPU and peak memory of every run process below `parent`, read 50 times a second."""
    usages: dict[int, Usage] = {}
    stop = threading.Event()
    server = psutil.Process(parent)

    def watch() -> None:
        known: dict[int, psutil.Process] = {}
        rounds = 0
        while not stop.wait(0.02):
            if rounds % 5 == 0:
                known |= {c.pid: c for c in server.children(recursive=True) if c.pid not in known}
            rounds += 1
            for pid, process in list(known.items()):
                try:
                    if pid in usages or _is_run(process):
                        _read(process, usages.setdefault(pid, Usage()))
                    else:
                        del known[pid]
                except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                    del known[pid]

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield usages
        # The run has ended for Dagster before its process has.
        while any(psutil.pid_exists(pid) and not _gone(pid) for pid in usages):
            time.sleep(0.02)
    finally:
        stop.set()
        thread.join()


def _read(process: psutil.Process, usage: Usage) -> None:
    times = process.cpu_times()
    usage.cpu = max(usage.cpu, times.user + times.system)
    for line in Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            usage.peak_mb = max(usage.peak_mb, int(line.split()[1]) / 1024)


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@contextmanager
def running_product(
    symbols: int,
    clock: datetime | None,
    *,
    airflow: bool = False,
    launcher: str = "celery",
    sensors: bool = True,
    storage_url: SecretStr | None = None,
) -> Iterator[Product]:
    """Provide the embedded stack with Dagster on free ports over a temporary directory.

    Args:
        symbols: how many the exchange lists; all are collected.
        clock: where the exchange's clock starts; it runs on from there. None: the real time.
        airflow: whether Airflow is part of it, and schedules.
        launcher: what executes runs, `celery` or `process`.
        sensors: whether sensors start, which launch runs of their own.
        storage_url: the database of Dagster's storage; files by default.
    """
    # Without bytecode every process compiles Dagster anew, 1.4 s; an installed package has it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    address = f"http://127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as directory:
        configured = Settings(
            data_dir=Path(directory),
            symbols="all",
            binance={"rest_url": address, "archive_url": address},
            s3={"endpoint_url": f"http://127.0.0.1:{free_port()}"},
            redis={"url": f"redis://127.0.0.1:{free_port()}/0"},
            snowflake={"port": free_port()},
            kafka={"bootstrap_servers": f"127.0.0.1:{free_port()}"},
            dagster={
                "webserver_port": free_port(),
                "code_server_port": free_port(),
                "launcher": launcher,
                "sensors": sensors,
                "storage_url": storage_url,
            },
            airflow={"enabled": airflow, "port": free_port()},
            gateway={"grpc_port": free_port(), "http_port": free_port()},
        )
        settings = prepared(configured)
        options = ["--symbols", str(symbols)]
        if clock is not None:
            options += ["--clock", clock.astimezone(UTC).strftime("start:%Y-%m-%dT%H:%M:%SZ")]
        with running_stack(settings, exchange_options=options) as status:
            yield Product(settings, status, address, symbols)
