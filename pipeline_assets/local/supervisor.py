"""Decides when each process of the stack starts, restarts and ends. Which processes those are is in stack.py,
their health checks in probes.py, one process's own state in child.py.

Once the whole stack was ready, nothing ends it but its own stop: a service that keeps failing is
restarted for as long as it takes, and a full disk is waited out.
"""

import errno
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline_assets.local.child import Child, Restarts, stack_record
from pipeline_assets.local.data_directory import directory_lock, making, wait_for_last_run
from pipeline_assets.local.errors import StackError
from pipeline_assets.local.ports import require_free_ports
from pipeline_assets.local.process_groups import Guard
from pipeline_assets.local.service import Service
from pipeline_assets.process_identity import boot_clock
from pipeline_assets.stack_state import (
    FREE_BYTES,
    REPORT_SECONDS,
    RESTARTING,
    STARTING,
    STATE_FILE,
    disk_problem,
    utc_now,
    write_state,
)
from pipeline_assets.stop_flag import StopFlag

TICK_SECONDS = 0.1
# Each look at a process group reads the list of all processes, which on a busy machine costs much.
END_SECONDS = 0.05
# A round that comes this much too late means that the machine slept or that all was stopped.
PAUSE_SECONDS = 5.0
# After such a pause, no service is restarted for a health check that fails within this time.
GRACE_SECONDS = 20.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Supervisor:
    """Runs services over one data directory until it is stopped; none outlives it.

    Logs go to `{data_dir}/logs/{name}.log`; `{data_dir}/stack.json` says what runs.
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
            log_limit: bytes of one log; a longer one is emptied, and its text kept as `{name}.log.1`.
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
        self._children = {service.name: Child(service, logs) for service in services}
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

    def run(self, stop: StopFlag, on_ready: Callable[[], None]) -> None:
        """Start all, call `on_ready` once, restart what fails, and stop all when `stop` is set.

        The thread that calls must stay until it returns: its children die with it (Linux).

        Raises:
            StackError: a port is taken, the directory is held, or a service cannot be started.
        """
        with directory_lock(self._data_dir):
            wait_for_last_run(self._data_dir)
            require_free_ports(child.service for child in self._children.values())
            with making(self._data_dir):
                for child in self._children.values():
                    child.log.begin()
            self._started_at = utc_now()
            self._guard = Guard()
            try:
                self._watch(stop, on_ready)
            finally:
                self._stop_all()
                self._guard.close()
                (self._data_dir / STATE_FILE).unlink(missing_ok=True)

    def _watch(self, stop: StopFlag, on_ready: Callable[[], None]) -> None:
        self._last_round = boot_clock()
        while not stop.is_set():
            self._allow_for_pause()
            changes = [self._advance(child) for child in self._children.values()]
            now = time.monotonic()
            if any(changes) or now >= self._next_report:
                self._report(now)
            if not self._announced and all(map(self._has_begun, self._children.values())):
                self._announced = True
                on_ready()
            stop.wait(TICK_SECONDS)

    def _has_begun(self, child: Child) -> bool:
        """Return whether the start of the stack has to wait for a child no longer.

        An optional one is not waited for once its start has failed, or the start of one that it needs.
        """
        if child.ready or not child.service.optional:
            return child.ready
        needed = (self._children[name] for name in child.service.after)
        return any(each.service.optional and each.restarts for each in (child, *needed))

    def _allow_for_pause(self) -> None:
        """Give everyone time after the machine slept: their silence meanwhile means nothing."""
        now = boot_clock()
        paused, self._last_round = now - self._last_round, now
        if paused < PAUSE_SECONDS:
            return
        self._grace_until = time.monotonic() + GRACE_SECONDS
        for child in self._children.values():
            child.started += paused
            child.ask_anew()

    def _report(self, now: float) -> None:
        """Write stack.json and see to what needs no attention at every round.

        A full disk is over once there is twice the room below which it counts as full.
        """
        self._next_report = now + REPORT_SECONDS
        if self._guard is not None:
            self._guard.keep()
        problem = disk_problem(self._data_dir, self._free_bytes * (2 if self._is_full else 1))
        for child in self._children.values():
            problem = child.log.bound(self._log_limit) or problem
        was_full = self._is_full
        self._problem, self._is_full = problem, problem is not None
        try:
            record = stack_record(self._children.values(), self._started_at, self._problem)
            write_state(self._data_dir, record)
        except OSError as error:
            no_room = error.errno in _NO_ROOM
            self._is_full = self._is_full or no_room
            said = "disk full" if no_room else error.strerror
            self._problem = problem or f"{said}: {self._data_dir / STATE_FILE} cannot be written"
        if was_full and not self._is_full:
            self._resume()

    def _resume(self) -> None:
        """Start what waited for room on the disk, and ask anew what suffered from it."""
        self._grace_until = time.monotonic() + GRACE_SECONDS
        for child in self._children.values():
            child.next_start = 0.0
            child.ask_anew()

    def _advance(self, child: Child) -> bool:
        """Take one service a step further, without waiting; whether something changed."""
        now = time.monotonic()
        if child.process is None:
            return self._start_when_due(child, now)
        if child.ending is not None:
            ended = child.ending.step(now)
            if ended:
                self._forget(child)
            return ended
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
        if prober.ready:
            child.became_ready(now)
            return True
        reason = child.start_failure(now)
        if reason is not None:
            self._bury(child, reason, hung=True)
        return reason is not None

    def _judge(self, child: Child, now: float) -> bool:
        """Count answered and failed health checks; restart what failed too often in a row."""
        check = child.service.health
        if check is None:
            return False
        means = [self._children[name] for name in check.through if name in self._children]
        changed = False
        for answer in child.answers(check, now):
            changed = child.count(answer, counts=all(each.works(now) for each in means)) or changed
        if child.failures < check.failures:
            return changed
        if now < self._grace_until or self._is_full:
            child.failures = check.failures - 1
            return changed
        self._bury(child, f"does not work: {child.problem}", hung=True)
        return True

    def _start_when_due(self, child: Child, now: float) -> bool:
        first = child.seconds_to_ready is None
        waiting = first and any(not self._children[name].ready for name in child.service.after)
        if waiting or now < child.next_start:
            return False
        if self._is_full and self._announced:
            # The service needs to write to a full disk; it starts once there is room again.
            return child.show(RESTARTING, self._problem)
        try:
            child.start()
        except OSError as error:
            child.process = None
            said = f"cannot be started: {error.filename or ''} {error.strerror}"
            if not self._announced:
                raise StackError(f"{child.service.name} {said}.") from error
            child.plan_start(now, self._restarts)
            child.show(RESTARTING, said)
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
        if not self._announced and not child.service.optional:
            self._give_up_if_hopeless(child, reason)
        child.end(hung=hung)
        child.restarts += 1
        child.last_restart = reason
        child.show(RESTARTING, reason)
        child.plan_start(time.monotonic(), self._restarts)
        child.log.note(f"{reason}; it is started again")
        if self._on_restart is not None:
            self._on_restart(child.service.name, reason)

    def _give_up_if_hopeless(self, child: Child, reason: str) -> None:
        message = f"{child.service.name} {reason}."
        if child.seconds_to_ready is not None:
            if len(child.deaths) < self._restarts.limit:
                return
            message = (
                f"{message[:-1]}, and died {len(child.deaths) + 1} times within "
                f"{self._restarts.within:g} s while the stack started."
            )
        self._end([child])
        raise StackError(child.log.quoted_after(message + child.advice()))

    def _forget(self, child: Child) -> None:
        """Let go of a process that has ended with all that it started."""
        if child.process is not None and self._guard is not None:
            self._guard.remove(child.process.pid)
        child.forget_process()

    def _stop_all(self) -> None:
        """Stop each service once nothing that needs it runs: the stores last, the others side by side."""
        self._end([child for child in self._children.values() if child.process is not None])

    def _end(self, children: list[Child]) -> None:
        """End processes together with all they started, and wait for it.

        The whole takes as long as the slowest chain of services that need each other. In waves, each of
        which waited for its slowest process, a busy machine took 44 s.
        """
        left = [child for child in children if child.process is not None]
        while left:
            needed = {name for child in left for name in child.service.needed_until_its_end}
            free = [child for child in left if child.service.name not in needed] or left
            for child in free:
                if child.ending is None:
                    child.end()
            now = time.monotonic()
            for child in [each for each in left if each.ending and each.ending.step(now)]:
                left.remove(child)
                self._forget(child)
            if left:
                time.sleep(END_SECONDS)
