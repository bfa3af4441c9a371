"""A service's process under the supervisor: how it is started and probed, its state, and its entry in
stack.json. supervisor.py decides when a process is started, judged and ended.
"""

import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline_assets.local.data_directory import UMASK
from pipeline_assets.local.health import Answer, HealthCheck, Prober
from pipeline_assets.local.process_groups import Ending, cpu_seconds, dying_with_this_process
from pipeline_assets.local.service import Service
from pipeline_assets.local.service_log import ServiceLog
from pipeline_assets.process_identity import mark_of
from pipeline_assets.stack_state import STARTING, UNHEALTHY, UP, ProcessRecord, StackRecord, utc_now

# A service through which another one is asked has to work for this long before its word counts.
SETTLED_SECONDS = 20.0
# A process that hangs gets this long to end before SIGKILL.
HUNG_STOP_SECONDS = 5.0
# A start that takes longer than allowed goes on if it used this much CPU time in a quarter of that time.
# A machine that is very busy or slow gives little; a process that waits in vain uses none.
PROGRESS_CPU_SECONDS = 0.1
# A start takes this many times the allowed time at most.
_LONGEST_START = 8


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


class StartProgress:
    """How long the first start of a process may take, by the CPU time that it uses."""

    def __init__(self) -> None:
        """Begin with a process that was just started."""
        self._parts = 0
        self._used = 0.0
        self._limit = 0.0

    def limit(self, cpu_time: Callable[[], float], elapsed: float, allowed: float) -> float:
        """Return the seconds that a start may take, extended by a quarter while the process makes progress.

        Args:
            cpu_time: returns the CPU seconds that the process has used; called four times in `allowed`.
            elapsed: seconds since its start.
            allowed: seconds without regard to progress.
        """
        self._limit = max(self._limit, allowed)
        part = allowed / 4
        if elapsed < (self._parts + 1) * part:
            return self._limit
        self._parts = int(elapsed / part)
        used = cpu_time()
        progress, self._used = used - self._used >= PROGRESS_CPU_SECONDS, used
        if progress and elapsed + part > self._limit:
            self._limit = min((self._parts + 1) * part, _LONGEST_START * allowed)
        return self._limit


class Child:
    """One service's process, and its history since the stack began."""

    def __init__(self, service: Service, logs: Path) -> None:
        self.service = service
        self.log = ServiceLog(logs, service.name)
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
        self._start_progress = StartProgress()
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
        # With a buffered log the last lines, which say why a server did not start, could be missing.
        environment["PYTHONUNBUFFERED"] = "1"
        with self.log.path.open("ab") as log:
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
        self._start_progress = StartProgress()
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

    def ask_anew(self) -> None:
        """Drop the answers to come of a running process, and ask again."""
        if self.process is not None and self.ending is None:
            self.ask(is_ready=self.ready)

    def stop_asking(self) -> None:
        """Ask the process no more."""
        if self.prober is not None:
            self.prober.retire()
            self.prober = None

    def answers(self, check: HealthCheck, now: float) -> list[Answer]:
        """Return the answers since the last call; an overdue question is one, and is asked anew."""
        if self.prober is None:
            return []
        found = self.prober.answers()
        if self.prober.is_overdue(now):
            found.append(Answer(f"did not answer its health check within {check.timeout:g} s"))
            failures = self.failures
            self.ask(is_ready=True)
            self.failures = failures
        return found

    def count(self, answer: Answer, *, counts: bool) -> bool:
        """Take one answer in and return whether people see news; a failure is one only if it `counts`."""
        if answer.problem is None:
            self.failures = 0
            return self.show(UP)
        if not answer.known or not counts:
            return False
        self.failures += 1
        return self.show(UNHEALTHY, answer.problem)

    def became_ready(self, now: float) -> None:
        """Note that the process is ready (`now`: monotonic seconds)."""
        self.ready, self.ready_at, self.slow_starts = True, now, 0
        self.seconds_to_ready = round(now - self.started, 2)
        self.show(UP)

    def start_failure(self, now: float) -> str | None:
        """Return why the process will not become ready; None while it still may.

        A first start may take longer while the process makes progress: `up` ended the first start of a slow
        machine after the same three minutes each time, so the stack never started there.
        """
        reported = self.prober and (self.prober.fatal or self.prober.not_ready)
        allowed = self.service.ready_timeout
        limit = allowed * 2 ** min(self.slow_starts, 3)
        if self.prober is None or self.prober.fatal is None:
            if self.seconds_to_ready is None and self.pid is not None:
                used = partial(cpu_seconds, self.pid)
                limit = self._start_progress.limit(used, now - self.started, allowed)
            if now - self.started <= limit:
                return None
        self.slow_starts += 1
        return f"was not ready within {limit:g} s" + (f" ({reported})" if reported else "")

    def advice(self) -> str:
        """Return a sentence for people whose process was too slow to become ready, or an empty text."""
        if not self.slow_starts or (self.prober is not None and self.prober.fatal is not None):
            return ""
        load = os.getloadavg()[0]
        return (
            f" The machine may be too busy (load {load:.0f}), or the process waits in vain: the log may "
            "say for what. Start it again; stored data are kept."
        )

    def end(self, *, hung: bool = False) -> None:
        """Begin to end the process and all that it started; one that hangs gets less time to."""
        patience = self.service.stop_timeout
        if hung:
            patience = min(patience, HUNG_STOP_SECONDS)
        assert self.process is not None  # noqa: S101 - only what runs, or has just died, is ended
        self.stop_asking()
        self.ending = Ending(self.process, self.service.stop_signal, patience)
        self.ready = False

    def forget_process(self) -> None:
        """Let go of a process that has ended."""
        if self.process is not None:
            self.process.wait()
        self.process = self.ending = None
        self.ready = False
        self.stop_asking()

    def show(self, state: str, problem: str | None = None) -> bool:
        """Set what people see; whether that is news."""
        if (state, problem) == (self._state, self.problem):
            return False
        if state != self._state:
            self.since = utc_now()
        self._state, self.problem = state, problem
        return True

    def plan_start(self, now: float, restarts: Restarts) -> None:
        """Count a death at `now` and set when the next start is due."""
        self.deaths.append(now)
        while self.deaths[0] < now - restarts.within:
            self.deaths.popleft()
        self.next_start = now + restarts.pause(len(self.deaths))

    def works(self, now: float) -> bool:
        """Return whether it has worked for long enough that others may be judged by what it says."""
        return self.ready and not self.failures and now - self.ready_at > SETTLED_SECONDS

    def record(self) -> ProcessRecord | None:
        """Return the process's entry in stack.json; between two starts, the entry of the dead process."""
        if self.pid is None:
            return None
        return ProcessRecord(
            name=self.service.name,
            pid=self.pid,
            created=self.created,
            address=self.service.address,
            log=str(self.log.path),
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


def stack_record(children: Iterable[Child], started_at: str, problem: str | None) -> StackRecord:
    """Return the content of stack.json as this process, the supervisor, writes it now."""
    import psutil

    records = (child.record() for child in children)
    return StackRecord(
        pid=os.getpid(),
        created=psutil.Process().create_time(),
        started_at=started_at,
        processes=tuple(record for record in records if record is not None),
        mark=mark_of(os.getpid()),
        checked_at=utc_now(),
        problem=problem,
    )
