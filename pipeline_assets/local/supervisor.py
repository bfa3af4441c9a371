"""Starts processes in order, asks them continuously if they work, restarts those that died or do not, leaves
no orphans.

Which processes those are is not known here: the list of servers stands in stack.py, their health checks
in probes.py. Once the whole stack was ready, nothing ends it but its own stop: a service that keeps
failing is restarted for as long as it takes, and a full disk is waited out.
"""

import contextlib
import errno
import fcntl
import http.client
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline_assets.errors import OutsideSystemError
from pipeline_assets.local.health import Answer, HealthCheck, Prober
from pipeline_assets.local.private_files import UMASK
from pipeline_assets.local.process_groups import Ending, Guard, dying_with_this_process
from pipeline_assets.process_identity import boot_clock, is_alive, mark_of
from pipeline_assets.stack_state import (
    FREE_BYTES,
    REPORT_SECONDS,
    RESTARTING,
    STARTING,
    STATE_FILE,
    UNHEALTHY,
    UP,
    ProcessRecord,
    StackRecord,
    StackStateError,
    disk_problem,
    utc_now,
    write_state,
)
from pipeline_assets.stack_state import read_state as read_record

__all__ = ["is_alive"]

LOCK_FILE = "stack.lock"
TICK_SECONDS = 0.1
TAIL_LINES = 20
# A round that comes this much too late means that the machine slept or that all was stopped.
PAUSE_SECONDS = 5.0
# After such a pause, nobody is restarted for a health check that fails within this time.
GRACE_SECONDS = 20.0
# A service through which another one is asked has to work for this long before its word counts.
SETTLED_SECONDS = 20.0
# A process that hangs gets this long to end before SIGKILL.
HUNG_STOP_SECONDS = 5.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
# Asks this machine's own servers: a proxy of the environment cannot reach them.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class StackError(OutsideSystemError):
    """The stack cannot start or go on. The message names the service, the reason and a remedy."""


@dataclass(frozen=True)
class Service:
    """One process to supervise.

    Attributes:
        name: shown to people, and the log file's name.
        argv: the command; the program stays in the foreground.
        ready: asked until it says True, in a thread of its own.
        address: where a person or client finds it.
        listens: host and port that must be free before the start.
        setting: what to change when that port is taken.
        environment: the whole environment; None inherits this process's.
        after: names of the services that must be ready before its first start.
        stop_signal: sent to the process itself; its children get SIGTERM once it has ended.
        health: asked from then on; None only watches that the process is there.
        ready_timeout: seconds from its start to ready; doubled at each further try, eight times as long
            at most: on a busy machine a fixed limit ended a slow start again and again.
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
    health: HealthCheck | None = None
    ready_timeout: float = 180.0
    stop_timeout: float = 10.0


@dataclass(frozen=True)
class Restarts:
    """A child that died starts again after `delay` seconds, doubled by each death up to `longest`.

    Deaths count for `within` seconds. More than `limit` of them stop a stack that was never ready
    as a whole; one that was ready goes on.
    """

    limit: int = 5
    within: float = 300.0
    delay: float = 0.5
    longest: float = 15.0

    def pause(self, deaths: int) -> float:
        """Seconds to wait after that many recent deaths."""
        return min(self.longest, self.delay * 2.0 ** min(deaths - 1, 10))


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
    except (OSError, http.client.HTTPException):
        # Of a port within the kernel's range for clients, the connection may reach itself while no
        # server listens yet, and reads its own request. Seen on a busy machine.
        return False


def read_state(data_dir: Path) -> StackRecord | None:
    """Return what stack.json under `data_dir` says; None without one. It may tell of dead processes.

    Raises:
        StackError: the file is not what a supervisor writes.
    """
    try:
        return read_record(data_dir)
    except StackStateError as error:
        raise StackError(str(error)) from error


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


class Child:
    """One service's process, and what became of it so far."""

    def __init__(self, service: Service, log: Path) -> None:
        self.service = service
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.ending: Ending | None = None
        self.prober: Prober | None = None
        self.pid: int | None = None
        self.ready = False
        self.ready_at = 0.0
        self.seconds_to_ready: float | None = None
        self.restarts = 0
        self.deaths: deque[float] = deque()
        self.failures = 0
        self.slow_starts = 0
        self.problem: str | None = None
        self.last_restart: str | None = None
        self.started = 0.0
        self.started_at = ""
        self.created = 0.0
        self.mark = ""
        self.next_start = 0.0
        self._state = STARTING
        self.since = utc_now()

    def start(self) -> None:
        """Start the process, in a session of its own, its output appended to the log.

        Raises:
            OSError: it cannot be started, or its log cannot be opened.
        """
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
                umask=UMASK,
            )
        self.pid = self.process.pid
        self.ready = False
        self.started = time.monotonic()
        self.started_at = utc_now()
        self.mark = mark_of(self.process.pid)
        try:
            self.created = psutil.Process(self.process.pid).create_time()
        except psutil.Error:
            self.created = time.time()
        self.ask(is_ready=False)

    def ask(self, *, is_ready: bool) -> None:
        """Begin to ask the process anew; questions under way do not count any more."""
        self.stop_asking()
        self.failures = 0
        service = self.service
        self.prober = Prober(service.name, service.ready, service.health, is_ready=is_ready)

    def stop_asking(self) -> None:
        """Ask the process no more."""
        if self.prober is not None:
            self.prober.retire()
            self.prober = None

    def show(self, state: str, problem: str | None = None) -> bool:
        """Set what people see; whether that is news."""
        if (state, problem) == (self._state, self.problem):
            return False
        if state != self._state:
            self.since = utc_now()
        self._state, self.problem = state, problem
        return True

    def works(self, now: float) -> bool:
        """Whether it has worked for long enough that others may be judged by what it says."""
        return self.ready and not self.failures and now - self.ready_at > SETTLED_SECONDS

    def last_lines(self) -> str:
        """The end of the log, indented."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 20_000))
            text = log.read().decode("utf-8", errors="replace")
        return "\n".join(f"    {line}" for line in text.splitlines()[-TAIL_LINES:]) or "    (empty)"

    def note(self, text: str) -> None:
        """Add a line of the supervisor's to the log; a full disk does without."""
        with contextlib.suppress(OSError), self.log.open("a", encoding="utf-8") as log:
            log.write(f"--- {self.service.name} {text}\n")

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
            mark=self.mark,
            state=self._state,
            healthy=self._state == UP,
            problem=self.problem,
            since=self.since,
            last_restart=self.last_restart,
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
        free_bytes: int = FREE_BYTES,
        on_restart: Callable[[str, str], None] | None = None,
    ) -> None:
        """Take over these services; nothing is started yet.

        Args:
            services: in any order; `after` decides.
            data_dir: for logs and stack.json.
            restarts: how long to wait before each.
            log_limit: bytes of one log.
            free_bytes: less room than this counts as a full disk.
            on_restart: called with a service's name and the reason when it is restarted; must
                return at once.
        """
        self._data_dir = data_dir
        self._restarts = restarts or Restarts()
        self._log_limit = log_limit
        self._free_bytes = free_bytes
        self._on_restart = on_restart
        logs = data_dir / "logs"
        self._children = {
            service.name: Child(service, logs / f"{service.name}.log") for service in services
        }
        self._started_at = ""
        self._guard: Guard | None = None
        self._announced = False
        self._problem: str | None = None
        self._is_full = False
        self._grace_until = 0.0
        self._last_round = boot_clock()
        self._next_report = 0.0

    @property
    def problem(self) -> str | None:
        """Return what keeps the whole stack from working, such as a full disk."""
        return self._problem

    def run(self, stop: threading.Event, on_ready: Callable[[], None]) -> None:
        """Start all, call `on_ready` once, restart what fails, and stop all when `stop` is set.

        The thread that calls must stay until it returns: its children die with it (Linux).

        Raises:
            StackError: a port is taken, the directory is held, or a service cannot be started.
        """
        with directory_lock(self._data_dir):
            self._wait_for_last_run()
            self._check_ports()
            with making(self._data_dir):
                self._begin_logs()
            self._started_at = utc_now()
            self._guard = Guard()
            try:
                self._watch(stop, on_ready)
            finally:
                self._stop_all()
                self._guard.close()
                (self._data_dir / STATE_FILE).unlink(missing_ok=True)

    def _watch(self, stop: threading.Event, on_ready: Callable[[], None]) -> None:
        self._last_round = boot_clock()
        while not stop.is_set():
            self._allow_for_pause()
            changes = [self._advance(child) for child in self._children.values()]
            now = time.monotonic()
            if any(changes) or now >= self._next_report:
                self._report(now)
            if not self._announced and all(child.ready for child in self._children.values()):
                self._announced = True
                on_ready()
            stop.wait(TICK_SECONDS)

    def _allow_for_pause(self) -> None:
        """Give everyone time after the machine slept: their silence meanwhile means nothing."""
        now = boot_clock()
        paused, self._last_round = now - self._last_round, now
        if paused < PAUSE_SECONDS:
            return
        self._grace_until = time.monotonic() + GRACE_SECONDS
        for child in self._children.values():
            child.started += paused
            if child.process is not None and child.ending is None:
                child.ask(is_ready=child.ready)

    def _report(self, now: float) -> None:
        """Write stack.json and see to what needs no attention at every round.

        A full disk is over once there is twice the room below which it counts as full.
        """
        self._next_report = now + REPORT_SECONDS
        if self._guard is not None:
            self._guard.keep()
        problem = disk_problem(self._data_dir, self._free_bytes * (2 if self._is_full else 1))
        for child in self._children.values():
            problem = self._bound_log(child) or problem
        was_full = self._is_full
        self._problem, self._is_full = problem, problem is not None
        try:
            self._write_state()
        except OSError as error:
            self._is_full = self._is_full or error.errno in _NO_ROOM
            told = "disk full" if error.errno in _NO_ROOM else error.strerror
            self._problem = self._problem or (
                f"{told}: {self._data_dir / STATE_FILE} cannot be written"
            )
        if was_full and not self._is_full:
            self._resume()

    def _resume(self) -> None:
        """Start what waited for room on the disk, and ask anew what suffered from it."""
        self._grace_until = time.monotonic() + GRACE_SECONDS
        for child in self._children.values():
            child.next_start = 0.0
            if child.process is not None and child.ending is None:
                child.ask(is_ready=child.ready)

    def _advance(self, child: Child) -> bool:
        """Take one service a step further, without waiting; whether something changed."""
        now = time.monotonic()
        if child.process is None:
            return self._start_when_due(child, now)
        if child.ending is not None:
            return self._end_further(child, child.ending, now)
        if child.process.poll() is not None:
            status = child.process.returncode
            reason = f"signal {-status}" if status < 0 else f"status {status}"
            self._bury(child, f"ended with {reason}")
            return True
        if child.ready:
            return self._judge(child, now)
        return self._await_ready(child, now)

    def _await_ready(self, child: Child, now: float) -> bool:
        prober = child.prober
        assert prober is not None  # noqa: S101 - made when the process was started
        if prober.fatal is not None and child.seconds_to_ready is None:
            raise prober.fatal
        waited = now - child.started
        if prober.ready:
            child.ready, child.ready_at, child.slow_starts = True, now, 0
            child.seconds_to_ready = round(waited, 2)
            child.show(UP)
            return True
        limit = child.service.ready_timeout * 2 ** min(child.slow_starts, 3)
        if waited > limit or prober.fatal is not None:
            told = prober.fatal or prober.not_ready
            why = f" ({told})" if told else ""
            child.slow_starts += 1
            self._bury(child, f"was not ready within {limit:g} s{why}", hung=True)
            return True
        return False

    def _judge(self, child: Child, now: float) -> bool:
        """Count answered and failed health checks; restart what failed too often in a row."""
        prober, check = child.prober, child.service.health
        if prober is None or check is None:
            return False
        answers = prober.answers()
        if prober.is_overdue(now):
            answers.append(Answer(f"did not answer its health check within {check.timeout:g} s"))
            failures = child.failures
            child.ask(is_ready=True)
            child.failures = failures
        changed = False
        for answer in answers:
            changed = self._count(child, check, answer, now) or changed
        if child.failures < check.failures:
            return changed
        if now < self._grace_until or self._is_full:
            child.failures = check.failures - 1
            return changed
        self._bury(child, f"does not work: {child.problem}", hung=True)
        return True

    def _count(self, child: Child, check: HealthCheck, answer: Answer, now: float) -> bool:
        if answer.problem is None:
            child.failures = 0
            return child.show(UP)
        means = [self._children[name] for name in check.through if name in self._children]
        if not answer.known or not all(each.works(now) for each in means):
            return False
        child.failures += 1
        return child.show(UNHEALTHY, answer.problem)

    def _start_when_due(self, child: Child, now: float) -> bool:
        first = child.seconds_to_ready is None
        waiting = first and any(not self._children[name].ready for name in child.service.after)
        if waiting or now < child.next_start:
            return False
        if self._is_full and self._announced:
            # What it needs to write cannot be written; it starts once that is over.
            return child.show(RESTARTING, self._problem)
        try:
            child.start()
        except OSError as error:
            child.process = None
            told = f"cannot be started: {error.filename or ''} {error.strerror}"
            if not self._announced:
                raise StackError(f"{child.service.name} {told}.") from error
            self._plan_start(child, now)
            child.show(RESTARTING, told)
            return True
        if self._guard is not None and child.process is not None:
            self._guard.add(child.process.pid)
        child.show(STARTING if first else RESTARTING, None if first else child.last_restart)
        return True

    def _bury(self, child: Child, reason: str, *, hung: bool = False) -> None:
        """Begin to clear away what is left of a child, and plan its restart; or give up.

        Raises:
            StackError: it was never ready, or dies again and again while the stack comes up.
        """
        assert child.process is not None  # noqa: S101 - only what runs, or has just died, is buried
        name = child.service.name
        if not self._announced:
            self._give_up_if_hopeless(child, reason)
        child.stop_asking()
        service = child.service
        patience = min(service.stop_timeout, HUNG_STOP_SECONDS) if hung else service.stop_timeout
        child.ending = Ending(child.process, service.stop_signal, patience)
        child.ready = False
        child.restarts += 1
        child.last_restart = reason
        child.show(RESTARTING, reason)
        self._plan_start(child, time.monotonic())
        child.note(f"{reason}; it is started again")
        if self._on_restart is not None:
            self._on_restart(name, reason)

    def _give_up_if_hopeless(self, child: Child, reason: str) -> None:
        name = child.service.name
        if child.seconds_to_ready is None:
            self._end([child])
            raise StackError(self._explain(child, f"{name} {reason}."))
        if len(child.deaths) >= self._restarts.limit:
            self._end([child])
            raise StackError(
                self._explain(
                    child,
                    f"{name} {reason}, and died {len(child.deaths) + 1} times within "
                    f"{self._restarts.within:g} s while the stack started.",
                )
            )

    def _plan_start(self, child: Child, now: float) -> None:
        child.deaths.append(now)
        while child.deaths[0] < now - self._restarts.within:
            child.deaths.popleft()
        child.next_start = now + self._restarts.pause(len(child.deaths))

    def _end_further(self, child: Child, ending: Ending, now: float) -> bool:
        if not ending.step(now):
            return False
        self._forget(child)
        return True

    def _forget(self, child: Child) -> None:
        """Let go of a process that has ended with all that it started."""
        if child.process is not None:
            child.process.wait()
            if self._guard is not None:
                self._guard.remove(child.process.pid)
        child.process = None
        child.ending = None
        child.ready = False
        child.stop_asking()

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
        """End processes together with all they started, and wait for it."""
        endings = []
        for child in children:
            if child.process is not None:
                child.stop_asking()
                service = child.service
                ending = Ending(child.process, service.stop_signal, service.stop_timeout)
                endings.append((child, ending))
        while endings:
            now = time.monotonic()
            left = [(child, ending) for child, ending in endings if not ending.step(now)]
            for child, ending in endings:
                if (child, ending) not in left:
                    self._forget(child)
            endings = left
            if endings:
                time.sleep(0.02)

    def _wait_for_last_run(self, patience: float = 15.0) -> None:
        """A stack killed a moment ago is still being cleared away and would hold its ports."""
        record = read_state(self._data_dir)
        deadline = time.monotonic() + patience
        while record and time.monotonic() < deadline:
            if not any(process.runs() for process in record.processes):
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

    def _bound_log(self, child: Child) -> str | None:
        """Empty a log that grew too long, keeping its text beside it; what prevents that, if any."""
        kept = child.log.with_name(child.log.name + ".1")
        try:
            if child.log.stat().st_size <= self._log_limit:
                return None
            try:
                shutil.copyfile(child.log, kept)
            except OSError:
                # On a full disk, emptying the log makes room, and half a copy takes it.
                kept.unlink(missing_ok=True)
            # The process keeps its descriptor, which appends: so the file is emptied, not replaced.
            os.truncate(child.log, 0)
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"{child.log} cannot be emptied ({error.strerror})"
        return None

    def _write_state(self) -> None:
        import psutil

        records = tuple(
            record for child in self._children.values() if (record := child.record()) is not None
        )
        pid = os.getpid()
        write_state(
            self._data_dir,
            StackRecord(
                pid=pid,
                created=psutil.Process().create_time(),
                started_at=self._started_at,
                processes=records,
                mark=mark_of(pid),
                checked_at=utc_now(),
                problem=self._problem,
            ),
        )
