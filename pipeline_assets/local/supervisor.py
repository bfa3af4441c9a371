"""Starts processes in order, restarts what dies, leaves no orphans.

Which processes those are is not known here: the list of servers stands in stack.py.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from pipeline_assets.process_identity import is_alive

STATE_FILE = "stack.json"
LOCK_FILE = "stack.lock"
TICK_SECONDS = 0.1
TAIL_LINES = 20
# Asks this machine's own servers: a proxy of the environment cannot reach them.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# PR_SET_PDEATHSIG is set by the child itself before it becomes the server: Popen's preexec_fn may
# deadlock in a process with threads. The parent is compared because it may have died before that.
_DIES_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit("its supervisor is gone")
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"cannot start {sys.argv[2]}: {error.strerror}")
"""


class StackError(Exception):
    """The stack cannot start or go on. The message names the service, the reason and a remedy."""


@dataclass(frozen=True)
class Service:
    """One process to supervise.

    Attributes:
        name: shown to people, and the log file's name.
        argv: the command; the program stays in the foreground.
        ready: asked until it says True; answers at once or within about a second.
        address: where a person or client finds it.
        listens: host and port that must be free before the start.
        setting: what to change when that port is taken.
        environment: the whole environment; None inherits this process's.
        after: names of the services that must be ready first.
        stop_signal: sent to the process itself; its children get SIGTERM once it has ended.
        ready_timeout: seconds from its start to ready.
        stop_timeout: seconds from the signal to SIGKILL.
    """

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    address: str | None = None
    listens: tuple[str, int] | None = None
    setting: str | None = None
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    after: tuple[str, ...] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    ready_timeout: float = 120.0
    stop_timeout: float = 10.0


@dataclass(frozen=True)
class Restarts:
    """A child that died starts again after `delay` seconds, doubled by each death up to ten.

    More than `limit` deaths within `within` seconds stop the stack.
    """

    limit: int = 5
    within: float = 300.0
    delay: float = 0.5

    def pause(self, deaths: int) -> float:
        """Seconds to wait after that many recent deaths."""
        return min(10.0, self.delay * 2.0 ** (deaths - 1))


@dataclass(frozen=True)
class ProcessRecord:
    """What stack.json says of one process. `created` tells it from a later one of the same pid."""

    name: str
    pid: int
    created: float
    address: str | None
    log: str
    started_at: str
    ready: bool
    seconds_to_ready: float | None
    restarts: int


@dataclass(frozen=True)
class StackRecord:
    """What stack.json says: who supervises, since when (UTC, ISO 8601), and which processes."""

    pid: int
    created: float
    started_at: str
    processes: tuple[ProcessRecord, ...]


def tcp_answers(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def http_answers(url: str, *, below: int = 400) -> bool:
    """Whether `url` answers with a status lower than `below`."""
    try:
        with DIRECT.open(url, timeout=1.0) as reply:
            return int(reply.status) < below
    except urllib.error.HTTPError as error:
        return error.code < below
    except OSError:
        return False


def read_state(data_dir: Path) -> StackRecord | None:
    """What stack.json under `data_dir` says; None without one. It may tell of dead processes.

    Raises:
        StackError: the file is not what a supervisor writes.
    """
    path = data_dir / STATE_FILE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        processes = tuple(ProcessRecord(**entry) for entry in content.pop("processes"))
        return StackRecord(processes=processes, **content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StackError(
            f"{path} cannot be read ({error}). Delete it if no stack runs over this directory."
        ) from error


def port_holder(port: int) -> str:
    """Who listens on `port`, as `name (pid 123)`. Command lines are left out: they hold secrets."""
    import psutil

    try:
        for connection in psutil.net_connections(kind="tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr
            if listens and listens.port == port:
                name = psutil.Process(connection.pid).name() if connection.pid else None
                return f"{name} (pid {connection.pid})" if name else "another user's process"
    except psutil.Error as error:
        return f"a process that cannot be looked up ({type(error).__name__})"
    return "a process that cannot be looked up"


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # Without it, connections of the last run in TIME_WAIT would make the port look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def making(data_dir: Path) -> Iterator[None]:
    """Turn the operating system's refusal to make what stands under `data_dir` into a StackError."""
    try:
        yield
    except OSError as error:
        raise StackError(
            f"{error.filename or data_dir} cannot be made ({error.strerror}). Set PIPELINE_DATA_DIR "
            "to a directory that you may write to."
        ) from error


@contextlib.contextmanager
def directory_lock(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir` for one supervisor. The kernel lets go of it when the process dies.

    Raises:
        StackError: another process holds it.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / LOCK_FILE).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StackError(
                f"A stack already runs over {data_dir} (pid {file.read().strip() or 'unknown'}). "
                "Use it, stop it with Ctrl-C or `kill` of that pid, "
                "or set another PIPELINE_DATA_DIR and other ports."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class Guard:
    """A process that ends the children's process groups when this one is killed.

    PR_SET_PDEATHSIG reaches a direct child only, and only on Linux; what the child started is
    reached through its group. The guard learns of a death by the end of its standard input.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this file
            [sys.executable, "-I", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def tell(self, sign: str, group: int) -> None:
        """Add (`+`) a process group to what must not outlive this process, or take it off (`-`).

        Raises:
            StackError: a group cannot be added because the guard was killed.
        """
        assert self._process.stdin is not None  # noqa: S101 - Popen with stdin=PIPE
        try:
            self._process.stdin.write(f"{sign}{group}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            if sign == "+":
                message = "The stack's guard process was killed; start the stack again."
                raise StackError(message) from error

    def close(self) -> None:
        """Let it go; it ends whatever group is still on its list."""
        assert self._process.stdin is not None  # noqa: S101 - Popen with stdin=PIPE
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def keep_guard(lines: Iterable[str], patience: float = 10.0) -> None:
    """Follow `+group` and `-group` lines; when they end, end the groups still on the list."""
    groups: set[int] = set()
    for line in lines:
        group = int(line[1:])
        (groups.add if line.startswith("+") else groups.discard)(group)
    end_groups(groups, patience)


def end_groups(groups: Iterable[int], patience: float) -> None:
    """SIGTERM to process groups, and SIGKILL to those still there after `patience` seconds."""
    left = {group for group in groups if signal_group(group, signal.SIGTERM)}
    deadline = time.monotonic() + patience
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = {group for group in left if group_is_alive(group)}
    for group in left:
        signal_group(group, signal.SIGKILL)


def signal_group(group: int, number: signal.Signals) -> bool:
    """Whether there was such a process group to signal."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def group_is_alive(group: int) -> bool:
    """Whether a process of the group still runs; zombies, which nobody may reap, do not count."""
    import psutil

    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
        except (psutil.Error, ProcessLookupError):
            continue
    return False


def dying_with_this_process(argv: Sequence[str]) -> list[str]:
    """The command for Popen by which `argv` gets SIGTERM when this process dies (Linux)."""
    return [sys.executable, "-I", "-S", "-c", _DIES_WITH_PARENT, str(os.getpid()), *argv]


class Child:
    """One service's process, and what became of it so far."""

    def __init__(self, service: Service, log: Path) -> None:
        self.service = service
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.pid: int | None = None
        self.ready = False
        self.seconds_to_ready: float | None = None
        self.restarts = 0
        self.deaths: deque[float] = deque()
        self.started = 0.0
        self.started_at = ""
        self.created = 0.0
        self.next_start = 0.0

    def start(self) -> None:
        """Start the process, in a session of its own, its output appended to the log."""
        import psutil

        given = self.service.environment
        environment = dict(os.environ if given is None else given)
        # A buffered log would lack the lines that tell why a server did not start.
        environment["PYTHONUNBUFFERED"] = "1"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the services' own commands
                dying_with_this_process(self.service.argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self.pid = self.process.pid
        self.ready = False
        self.started = time.monotonic()
        self.started_at = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self.created = psutil.Process(self.process.pid).create_time()
        except psutil.Error:
            self.created = time.time()

    def last_lines(self) -> str:
        """The end of the log, indented."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 20_000))
            text = log.read().decode("utf-8", errors="replace")
        return "\n".join(f"    {line}" for line in text.splitlines()[-TAIL_LINES:]) or "    (empty)"

    def record(self) -> ProcessRecord | None:
        """Its entry of stack.json, once it was started; between two starts that of the dead one."""
        if self.pid is None:
            return None
        return ProcessRecord(
            name=self.service.name,
            pid=self.pid,
            created=self.created,
            address=self.service.address,
            log=str(self.log),
            started_at=self.started_at,
            ready=self.ready,
            seconds_to_ready=self.seconds_to_ready,
            restarts=self.restarts,
        )


class Supervisor:
    """Runs services over one data directory until told to stop.

    Logs go to `{data_dir}/logs/{name}.log`; that of the last run is kept as `{name}.log.1`, and so
    is what exceeds `log_limit` bytes. `{data_dir}/stack.json` tells what runs.
    """

    def __init__(
        self,
        services: Iterable[Service],
        data_dir: Path,
        *,
        restarts: Restarts | None = None,
        log_limit: int = 20_000_000,
    ) -> None:
        self._data_dir = data_dir
        self._restarts = restarts or Restarts()
        self._log_limit = log_limit
        logs = data_dir / "logs"
        self._children = {
            service.name: Child(service, logs / f"{service.name}.log") for service in services
        }
        self._started_at = ""
        self._guard: Guard | None = None

    def run(self, stop: threading.Event, on_ready: Callable[[], None]) -> None:
        """Start all, call `on_ready` once, restart what dies, and stop all when `stop` is set.

        The thread that calls must stay until it returns: its children die with it (Linux).

        Raises:
            StackError: a port is taken, the directory is held, or a service cannot be kept running.
        """
        with directory_lock(self._data_dir):
            self._wait_for_last_run()
            self._check_ports()
            self._begin_logs()
            self._started_at = datetime.now(UTC).isoformat(timespec="seconds")
            self._guard = Guard()
            try:
                self._watch(stop, on_ready)
            finally:
                self._stop_all()
                self._guard.close()
                (self._data_dir / STATE_FILE).unlink(missing_ok=True)

    def _watch(self, stop: threading.Event, on_ready: Callable[[], None]) -> None:
        announced = False
        while not stop.is_set():
            changes = [self._advance(child) for child in self._children.values()]
            if any(changes):
                self._write_state()
            if not announced and all(child.ready for child in self._children.values()):
                announced = True
                on_ready()
            stop.wait(TICK_SECONDS)

    def _advance(self, child: Child) -> bool:
        """Take one service a step further; whether something changed."""
        if child.process is None:
            return self._start_when_due(child)
        if child.process.poll() is not None:
            status = child.process.returncode
            reason = f"signal {-status}" if status < 0 else f"status {status}"
            self._bury(child, f"ended with {reason}")
            return True
        self._bound_log(child)
        if child.ready:
            return False
        waited = time.monotonic() - child.started
        if child.service.ready():
            child.ready = True
            child.seconds_to_ready = round(waited, 2)
            return True
        if waited > child.service.ready_timeout:
            self._bury(child, f"was not ready within {child.service.ready_timeout:g} s")
            return True
        return False

    def _start_when_due(self, child: Child) -> bool:
        waiting = any(not self._children[name].ready for name in child.service.after)
        if waiting or time.monotonic() < child.next_start:
            return False
        child.start()
        self._tell_guard("+", child)
        return True

    def _bury(self, child: Child, reason: str) -> None:
        """Clear away what is left of a child; plan its restart, or give up.

        Raises:
            StackError: it was never ready, or died too often.
        """
        self._end([child])
        now = time.monotonic()
        child.deaths.append(now)
        while child.deaths[0] < now - self._restarts.within:
            child.deaths.popleft()
        if child.seconds_to_ready is None:
            raise StackError(self._explain(child, f"{child.service.name} {reason}."))
        if len(child.deaths) > self._restarts.limit:
            raise StackError(
                self._explain(
                    child,
                    f"{child.service.name} {reason}, and died {len(child.deaths)} times within "
                    f"{self._restarts.within:g} s: the stack stops.",
                )
            )
        child.restarts += 1
        child.next_start = now + self._restarts.pause(len(child.deaths))
        with child.log.open("a", encoding="utf-8") as log:
            log.write(f"--- {child.service.name} {reason}; it is started again\n")

    def _explain(self, child: Child, message: str) -> str:
        return f"{message}\n  The last lines of {child.log}:\n{child.last_lines()}"

    def _stop_all(self) -> None:
        """Stop those first that nothing running depends on."""
        running = [child for child in self._children.values() if child.process is not None]
        while running:
            needed = {name for child in running for name in child.service.after}
            wave = [child for child in running if child.service.name not in needed] or running
            self._end(wave)
            running = [child for child in running if child not in wave]

    def _end(self, children: list[Child]) -> None:
        """End processes together with all they started."""
        for child in children:
            if child.process is not None and child.process.poll() is None:
                child.process.send_signal(child.service.stop_signal)
        begun = time.monotonic()
        for child in children:
            if child.process is None:
                continue
            left = max(0.0, begun + child.service.stop_timeout - time.monotonic())
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(left)
            # Whoever outlived the time has had its SIGTERM; what its children still do has not.
            patience = 0.0 if child.process.poll() is None else 2.0
            end_groups([child.process.pid], patience)
            child.process.wait()
            self._tell_guard("-", child)
            child.process = None
            child.ready = False

    def _tell_guard(self, sign: str, child: Child) -> None:
        if self._guard is not None and child.process is not None:
            self._guard.tell(sign, child.process.pid)

    def _wait_for_last_run(self, patience: float = 15.0) -> None:
        """A stack killed a moment ago is still being cleared away and would hold its ports."""
        record = read_state(self._data_dir)
        deadline = time.monotonic() + patience
        while record and time.monotonic() < deadline:
            if not any(is_alive(process.pid, process.created) for process in record.processes):
                break
            time.sleep(TICK_SECONDS)

    def _check_ports(self) -> None:
        taken: dict[int, str] = {}
        for child in self._children.values():
            service = child.service
            if service.listens is None:
                continue
            host, port = service.listens
            change = f"set {service.setting} to another port" if service.setting else "free it"
            if port in taken:
                raise StackError(
                    f"Port {port} is wanted by both {taken[port]} and {service.name}: {change}."
                )
            if not port_is_free(host, port):
                raise StackError(
                    f"Port {port} of {host}, which {service.name} needs, is taken by "
                    f"{port_holder(port)}. Stop that process, or {change}."
                )
            taken[port] = service.name

    def _begin_logs(self) -> None:
        for child in self._children.values():
            child.log.parent.mkdir(parents=True, exist_ok=True)
            if child.log.exists():
                child.log.replace(child.log.with_name(child.log.name + ".1"))
            child.log.touch(mode=0o600)

    def _bound_log(self, child: Child) -> None:
        if child.log.stat().st_size > self._log_limit:
            # The process keeps its descriptor, which appends: so the file is emptied, not replaced.
            shutil.copyfile(child.log, child.log.with_name(child.log.name + ".1"))
            os.truncate(child.log, 0)

    def _write_state(self) -> None:
        import psutil

        records = tuple(
            record for child in self._children.values() if (record := child.record()) is not None
        )
        state = StackRecord(os.getpid(), psutil.Process().create_time(), self._started_at, records)
        write_atomically(self._data_dir / STATE_FILE, asdict(state))


def write_atomically(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file whole, so that a reader never sees half of it."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    temporary.replace(path)


def _guard_main(lines: IO[str]) -> None:
    # Ctrl-C and a closed terminal must not take the guard before what it guards.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep_guard(lines)


if __name__ == "__main__":
    _guard_main(sys.stdin)
