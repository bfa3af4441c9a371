"""The supervisor keeps real processes: in order, alive, and none beyond its own end."""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from pipeline_assets.local import child, supervisor
from pipeline_assets.local.child import Restarts
from pipeline_assets.local.errors import StackError, UnhealthyError
from pipeline_assets.local.health import HealthCheck
from pipeline_assets.local.ports import http_answers, tcp_answers
from pipeline_assets.local.process_groups import Guard
from pipeline_assets.local.service import Service
from pipeline_assets.local.supervisor import Supervisor
from pipeline_assets.process_identity import is_alive
from pipeline_assets.stack_state import StackRecord, StackStateError, read_state, write_atomically
from pipeline_assets_tests.fixtures.s3 import eventually, free_port

# Listens on argv[1]; notes in argv[2] its name (argv[3]) at start and end, and at the start which
# of the ports argv[4:] answer.
SERVER = """
import pathlib, signal, socket, sys
port, journal, name, *others = sys.argv[1:]
def note(text):
    with open(journal, "a") as file:
        file.write(text + "\\n")
def ended(*_):
    note("end " + name)
    sys.exit(0)
signal.signal(signal.SIGTERM, ended)
up = [other for other in others if socket.socket().connect_ex(("127.0.0.1", int(other))) == 0]
note(f"start {name} {len(up)}")
print("listening as", name)
server = socket.create_server(("127.0.0.1", int(port)))
while True:
    server.accept()[0].close()
"""

# Starts a process of its own that would outlive it, notes its pid in argv[2], listens on argv[1].
PARENT = """
import pathlib, signal, socket, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
pathlib.Path(sys.argv[2]).write_text(str(child.pid))
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    server.accept()[0].close()
"""

# A supervisor of PARENT in a process of its own, for tests that end it.
SUPERVISOR = f"""
import signal, sys, threading
from pathlib import Path
from pipeline_assets.local.ports import tcp_answers
from pipeline_assets.local.service import Service
from pipeline_assets.local.supervisor import Supervisor
data_dir, port, pid_file = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
argv = (sys.executable, "-c", {PARENT!r}, str(port), pid_file)
service = Service("parent", argv, lambda: tcp_answers("127.0.0.1", port),
                  listens=("127.0.0.1", port), setting="PIPELINE_TEST_PORT")
Supervisor([service], data_dir).run(stop, lambda: print("ready", flush=True))
"""


def server(name: str, journal: Path, *, others: tuple[int, ...] = (), **changes: object) -> Service:
    port = free_port()
    return Service(
        name=name,
        argv=(sys.executable, "-c", SERVER, str(port), str(journal), name, *map(str, others)),
        ready=lambda: tcp_answers("127.0.0.1", port),
        listens=("127.0.0.1", port),
        **changes,
    )


def script(name: str, text: str, **changes: object) -> Service:
    return Service(name=name, argv=(sys.executable, "-c", text), **changes)


@contextlib.contextmanager
def keeping(made: Supervisor) -> Iterator[None]:
    stop, settled = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            made.run(stop, settled.set)
        except StackError as error:
            failures.append(error)
        finally:
            settled.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert settled.wait(60)
        if not failures:
            yield
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def supervised(services: list[Service], data_dir: Path, **options: object):
    """Run services in a thread; enter when all are ready, and raise what the supervisor raises."""
    return keeping(Supervisor(services, data_dir, **options))


def expect_failure(services: list[Service], data_dir: Path, **options: object) -> str:
    with pytest.raises((StackError, StackStateError)) as caught:
        Supervisor(services, data_dir, **options).run(threading.Event(), lambda: None)
    return str(caught.value)


def lines(journal: Path) -> list[str]:
    return journal.read_text().splitlines() if journal.exists() else []


def gone(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def running(data_dir: Path, name: str):
    return next(entry for entry in read_state(data_dir).processes if entry.name == name)


def test_services_start_and_end_in_order(
    tmp_path: Path,
) -> None:
    """A service starts when those before it are ready, and ends before them."""
    journal = tmp_path / "journal"
    store = server("store", journal)
    cache = server("cache", journal)
    ports = (store.listens[1], cache.listens[1])
    web = server("web", journal, others=ports, after=("store", "cache"))
    with supervised([web, store, cache], tmp_path / "data"):
        assert sorted(lines(journal)[:2]) == ["start cache 0", "start store 0"]
        assert lines(journal)[2] == "start web 2"
    assert lines(journal)[3] == "end web"
    assert sorted(lines(journal)[4:]) == ["end cache", "end store"]


ENDS_LAST = """
import pathlib, signal, sys, time
journal, ready = map(pathlib.Path, sys.argv[1:])
def end(*_):
    while not journal.exists() or "end store" not in journal.read_text():
        time.sleep(0.02)
    with journal.open("a") as file:
        file.write("end web\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
ready.touch()
while True:
    time.sleep(60)
"""


def test_independent_services_end_together(tmp_path: Path) -> None:
    """A service that another one needs at its start alone ends beside it, not after it."""
    journal, ready = tmp_path / "journal", tmp_path / "ready"
    web = Service(
        name="web",
        argv=(sys.executable, "-c", ENDS_LAST, str(journal), str(ready)),
        ready=ready.exists,
        after=("store",),
        ends_before=(),
    )
    with supervised([web, server("store", journal)], tmp_path / "data"):
        pass
    assert lines(journal)[1:] == ["end store", "end web"]


def test_dead_child_is_started_again(tmp_path: Path) -> None:
    """A child process that died is started again."""
    journal = tmp_path / "journal"
    with supervised([server("store", journal)], tmp_path, restarts=Restarts(delay=0.01)):
        first = running(tmp_path, "store")
        os.kill(first.pid, signal.SIGKILL)

        def is_back() -> bool:
            entry = running(tmp_path, "store")
            return entry.pid != first.pid and entry.ready

        eventually(is_back, "the service is ready again")
        second = running(tmp_path, "store")
        assert (second.restarts, is_alive(second.pid, second.created)) == (1, True)
        assert "ended with signal 9; it is started again" in Path(second.log).read_text()
    assert lines(journal).count("start store 0") == 2


def test_orphans_end_before_restart(tmp_path: Path) -> None:
    """Processes that a dead child left running end before its restart."""
    port, pid_file = free_port(), tmp_path / "grandchild"
    argv = (sys.executable, "-c", PARENT, str(port), str(pid_file))
    service = Service("parent", argv, lambda: tcp_answers("127.0.0.1", port))
    with supervised([service], tmp_path, restarts=Restarts(delay=0.01)):
        first, grandchild = running(tmp_path, "parent").pid, int(pid_file.read_text())
        os.kill(first, signal.SIGKILL)
        eventually(lambda: running(tmp_path, "parent").pid != first, "the restart")
        assert gone(grandchild)
    assert gone(int(pid_file.read_text()))


def test_deaths_end_no_ready_stack(tmp_path: Path) -> None:
    """Deaths never end a stack that was ready.

    Six deaths are more than the limit, which holds only while the stack comes up.
    """
    journal, calm = tmp_path / "journal", tmp_path / "calm"
    text = (
        f"import pathlib, signal; calm = pathlib.Path({str(calm)!r})\n"
        "print('here')\n"
        "signal.pause() if calm.exists() else exit(3)"
    )
    calm.touch()
    service = script("failing", text, ready=calm.exists)
    options = {"restarts": Restarts(limit=2, within=60, delay=0.01, longest=0.02)}
    with supervised([server("store", journal), service], tmp_path, **options):
        first = running(tmp_path, "failing").pid
        calm.unlink()
        os.kill(first, signal.SIGKILL)
        eventually(lambda: running(tmp_path, "failing").restarts > 5, "it died again and again")
        entry = running(tmp_path, "failing")
        assert (entry.state, entry.healthy) == ("restarting", False)
        assert "ended with status 3" in entry.last_restart
        assert running(tmp_path, "store").is_up()
        calm.touch()
        eventually(lambda: running(tmp_path, "failing").is_up(), "it is up at last")
    assert lines(journal) == ["start store 0", "end store"]


def test_child_dying_at_start_ends_stack(tmp_path: Path) -> None:
    """A child that keeps dying while the stack starts ends the stack."""
    asked = tmp_path / "asked"
    text = (
        f"import pathlib, time; asked = pathlib.Path({str(asked)!r})\n"
        "while not asked.exists(): time.sleep(0.01)\n"
        "time.sleep(0.5); print('no such lake'); raise SystemExit(3)"
    )

    def ready() -> bool:
        asked.touch()
        return True

    failing = script("failing", text, ready=ready)
    never = script("never", "import signal; signal.pause()", ready=lambda: False)
    message = expect_failure(
        [never, failing], tmp_path, restarts=Restarts(limit=2, within=60, delay=0.01)
    )
    assert "failing ended with status 3, and died 3 times within 60 s" in message
    assert "no such lake" in message
    assert read_state(tmp_path) is None


def test_optional_child_may_fail(tmp_path: Path) -> None:
    """The stack begins without a child that waits for a person, and without the one that needs that child."""
    journal, prepared = tmp_path / "journal", tmp_path / "prepared"
    text = (
        f"import pathlib, signal; prepared = pathlib.Path({str(prepared)!r})\n"
        "signal.pause() if prepared.exists() else exit(3)"
    )
    gateway = script("gateway", text, ready=prepared.exists, optional=True)
    trader = server("trader", journal, after=("gateway",), optional=True)
    options = {"restarts": Restarts(limit=2, within=60, delay=0.01, longest=0.02)}
    with supervised([server("store", journal), gateway, trader], tmp_path, **options):
        eventually(lambda: running(tmp_path, "gateway").restarts > 3, "it fails again and again")
        assert lines(journal) == ["start store 0"]
        prepared.touch()
        eventually(lambda: "start trader 0" in lines(journal), "both are up")
        eventually(lambda: running(tmp_path, "gateway").is_up(), "it is up at last")


def test_service_that_hangs_is_restarted(tmp_path: Path) -> None:
    """It lives and its port is open; what it is asked, it does not answer. SIGSTOP is one way."""
    service = server("store", tmp_path / "journal")
    port = service.listens[1]

    def ask() -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=0.3) as connection:
            if connection.recv(1) != b"":
                raise UnhealthyError("it says something")

    watched = replace(service, health=HealthCheck(ask, period=0.05, timeout=0.3, failures=2))
    with supervised([watched], tmp_path, restarts=Restarts(delay=0.01)):
        first = running(tmp_path, "store")
        os.kill(first.pid, signal.SIGSTOP)
        eventually(lambda: running(tmp_path, "store").pid != first.pid, "it was killed")
        eventually(lambda: running(tmp_path, "store").is_up(), "it is up again")
        assert gone(first.pid)
        assert "does not work: TimeoutError" in running(tmp_path, "store").last_restart


def test_hanging_health_check_delays_nobody(tmp_path: Path) -> None:
    """A health check that never returns delays no other service.

    During the hanging check another service's death is noticed. The hanging check counts as failed.
    """
    forever = threading.Event()
    check = HealthCheck(forever.wait, period=0.05, timeout=0.1, failures=2)
    hanging = replace(server("hanging", tmp_path / "one"), health=check)
    other = server("other", tmp_path / "two")
    try:
        with supervised([hanging, other], tmp_path, restarts=Restarts(delay=0.01)):
            first = running(tmp_path, "other").pid
            os.kill(first, signal.SIGKILL)
            eventually(lambda: running(tmp_path, "other").pid != first, "the other is restarted")
            eventually(lambda: running(tmp_path, "hanging").restarts > 0, "so is the silent one")
            reported = running(tmp_path, "hanging").last_restart
            assert reported == "does not work: did not answer its health check within 0.1 s"
    finally:
        forever.set()


def test_unhealthy_service_is_shown_before_restart(tmp_path: Path) -> None:
    """An unhealthy service is shown before it is restarted."""
    ill = threading.Event()

    def ask() -> None:
        if ill.is_set():
            raise UnhealthyError("no repository is listed")

    check = HealthCheck(ask, period=0.05, failures=1_000_000)
    service = replace(server("code", tmp_path / "journal"), health=check)
    with supervised([service], tmp_path):
        ill.set()
        eventually(lambda: running(tmp_path, "code").state == "unhealthy", "the state file says so")
        entry = running(tmp_path, "code")
        assert (entry.healthy, entry.problem) == (False, "no repository is listed")
        assert not entry.is_up()
        ill.clear()
        eventually(lambda: running(tmp_path, "code").is_up(), "it is well again")
        assert running(tmp_path, "code").restarts == 0


def test_dependent_of_failing_service_keeps_running(tmp_path: Path) -> None:
    """A service that is checked through another, failing service is not restarted."""

    def fail() -> None:
        raise UnhealthyError("no answer")

    through = HealthCheck(fail, period=0.02, failures=1, through=("web",))
    web = replace(
        server("web", tmp_path / "one"), health=HealthCheck(fail, period=0.02, failures=3)
    )
    daemon = replace(server("daemon", tmp_path / "two"), health=through)
    with supervised([web, daemon], tmp_path, restarts=Restarts(delay=0.01)):
        eventually(lambda: running(tmp_path, "web").restarts > 1, "the web server is restarted")
        assert running(tmp_path, "daemon").restarts == 0


def test_machine_pause_restarts_nobody_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a pause of the machine no service is restarted at once.

    The clock that counts from boot is 40 s ahead of the last round, as after SIGSTOP of all.
    """
    ahead, ill = [0.0], threading.Event()

    def ask() -> None:
        if ill.is_set():
            raise UnhealthyError("its heartbeat is old")

    monkeypatch.setattr(supervisor, "boot_clock", lambda: time.monotonic() + ahead[0])
    service = replace(
        server("daemon", tmp_path / "journal"), health=HealthCheck(ask, period=0.02, failures=2)
    )
    with supervised([service], tmp_path, restarts=Restarts(delay=0.01)):
        ahead[0] += 40
        ill.set()
        eventually(lambda: running(tmp_path, "daemon").state == "unhealthy", "it is noticed")
        assert running(tmp_path, "daemon").restarts == 0
        ill.clear()
        eventually(lambda: running(tmp_path, "daemon").is_up(), "it is well again")
        assert running(tmp_path, "daemon").restarts == 0


def test_a_full_disk_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing can be written a service dies. With room again it starts, and all goes on."""
    full = threading.Event()
    write = supervisor.write_state

    def refuse(data_dir: Path, record: StackRecord) -> None:
        if full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(data_dir / "stack.json"))
        write(data_dir, record)

    monkeypatch.setattr(supervisor, "write_state", refuse)
    monkeypatch.setattr(supervisor, "REPORT_SECONDS", 0.05)
    journal = tmp_path / "journal"
    made = Supervisor([server("store", journal)], tmp_path, restarts=Restarts(delay=0.01))
    with keeping(made):
        first = running(tmp_path, "store")
        full.set()
        eventually(lambda: "disk full" in (made.problem or ""), "the full disk is noticed")
        os.kill(first.pid, signal.SIGKILL)
        eventually(lambda: gone(first.pid), "it died")
        full.clear()
        eventually(lambda: running(tmp_path, "store").pid != first.pid, "it was restarted")
        eventually(lambda: running(tmp_path, "store").is_up(), "it is up again")
        assert made.problem is None
        assert read_state(tmp_path).problem is None


def test_low_space_holds_affected_restarts(tmp_path: Path) -> None:
    """Low disk space is reported, and the services that suffer from it are not restarted.

    The required free space is larger than any disk has.
    """

    def fail() -> None:
        raise UnhealthyError("HTTP 500")

    service = replace(
        server("web", tmp_path / "journal"), health=HealthCheck(fail, period=0.02, failures=2)
    )
    with supervised([service], tmp_path, free_bytes=10**18):
        eventually(lambda: running(tmp_path, "web").state == "unhealthy", "it is noticed")
        eventually(lambda: read_state(tmp_path).problem is not None, "the state file says so")
        assert read_state(tmp_path).problem.startswith("disk full: ")
        assert running(tmp_path, "web").restarts == 0


def test_a_killed_guard_is_replaced(tmp_path: Path) -> None:
    with supervisor_process(tmp_path, free_port()) as process:
        service = running(tmp_path, "parent").pid
        [guard] = {child.pid for child in psutil.Process(process.pid).children()} - {service}
        os.kill(guard, signal.SIGKILL)

        def another() -> bool:
            children = {child.pid for child in psutil.Process(process.pid).children()}
            return bool(children - {service, guard})

        eventually(another, "another guard")
        grandchild = int((tmp_path / "pid").read_text())
        process.kill()
        eventually(lambda: gone(service) and gone(grandchild), "all has ended")


def test_stopped_guard_lets_stack_end() -> None:
    """A stopped guard does not keep the stack from ending.

    It was waited for without an end: Ctrl-C ended the services, and `up` stayed.
    """
    guard = Guard()
    os.kill(guard._process.pid, signal.SIGSTOP)
    guard.close(patience=0.1)
    assert guard._process.returncode == -signal.SIGKILL


def test_guard_has_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard reads none, and `up` may have been started with secrets in its environment."""
    monkeypatch.setenv("pipeline_trading__api_secret", "word-of-desk")
    monkeypatch.setenv("PIPELINE_GATEWAY__TOKEN", "word-of-the-gateway")
    guard = Guard()
    held = Path(f"/proc/{guard._process.pid}/environ").read_bytes()
    guard.close()
    assert b"PATH=" in held
    assert b"word-of" not in held


def test_state_is_overwritten_on_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state file is written over the old one on a full disk.

    The supervisor's report went stale on a full disk, and `status` called every service down.
    """
    path = tmp_path / "stack.json"
    write_atomically(path, {"problem": None})

    def refuse(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    write_atomically(path, {"problem": "disk full"})
    assert json.loads(path.read_bytes()) == {"problem": "disk full"}
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, {"problem": "x" * path.stat().st_size})
    assert json.loads(path.read_bytes()) == {"problem": "disk full"}


def test_slow_start_gets_growing_time(tmp_path: Path) -> None:
    """A slow start gets more time at each try.

    A fixed limit ended a slow start on a busy machine again and again.
    """
    tries = tmp_path / "tries"
    text = f"""
import pathlib, time
tries = pathlib.Path({str(tries)!r})
number = len(tries.read_text()) if tries.exists() else 0
tries.write_text("x" * (number + 1))
time.sleep(0 if number == 0 else 1.2)
pathlib.Path({str(tmp_path)!r}, f"ready{{number}}").touch()
time.sleep(600)
"""

    def ready() -> bool:
        number = len(tries.read_text()) - 1 if tries.exists() else 0
        return (tmp_path / f"ready{number}").exists()

    slow = script("slow", text, ready=ready, ready_timeout=1.0)
    with supervised([slow], tmp_path, restarts=Restarts(delay=0.01)):
        eventually(lambda: running(tmp_path, "slow").is_up(), "it is up")
        os.kill(running(tmp_path, "slow").pid, signal.SIGKILL)
        eventually(lambda: running(tmp_path, "slow").restarts > 0, "it is restarted")
        eventually(lambda: running(tmp_path, "slow").is_up(), "it had the time to start")


def test_start_goes_on_with_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first start takes longer than its time while the process works."""
    # A busy machine gives a process too little CPU time for a test to count on.
    monkeypatch.setattr(child, "PROGRESS_CPU_SECONDS", 0.0)
    begun = time.monotonic()
    slow = script(
        "slow",
        "import signal; signal.pause()",
        ready=lambda: time.monotonic() > begun + 3.0,
        ready_timeout=1.5,
    )
    with supervised([slow], tmp_path):
        assert running(tmp_path, "slow").restarts == 0


def test_old_state_file_is_read(tmp_path: Path) -> None:
    """A state file of an older version is read."""
    old = {
        "pid": os.getpid(),
        "created": psutil.Process().create_time(),
        "started_at": "2026-11-20T00:00:00+00:00",
        "processes": [
            {
                "name": "s3",
                "pid": os.getpid(),
                "created": psutil.Process().create_time(),
                "address": None,
                "log": "s3.log",
                "started_at": "2026-11-20T00:00:00+00:00",
                "ready": True,
                "seconds_to_ready": 1.0,
                "restarts": 0,
            }
        ],
    }
    (tmp_path / "stack.json").write_text(json.dumps(old))
    record = read_state(tmp_path)
    assert record.processes[0].is_up()
    assert record.silence(datetime.now(UTC)) is None


def test_child_ending_at_start_is_final(tmp_path: Path) -> None:
    """A child that ends at its start is not tried again."""
    text = "import sys; print('started'); sys.exit('the key FOO is wrong')"
    message = expect_failure([script("code", text, ready=lambda: False)], tmp_path)
    assert message.startswith("code ended with status 1.")
    assert str(tmp_path / "logs" / "code.log") in message
    assert message.count("started") == message.count("the key FOO is wrong") == 1


def test_traceback_stays_in_log(tmp_path: Path) -> None:
    """The console shows the error of a traceback in one line, and where the rest is."""
    text = """
def load():
    raise RuntimeError("the strategy mine\\ncannot be imported")
try:
    1 / 0
except ZeroDivisionError:
    load()
"""
    message = expect_failure([script("worker", text, ready=lambda: False)], tmp_path)
    log = tmp_path / "logs" / "worker.log"
    assert message.splitlines() == [
        "worker ended with status 1.",
        "  RuntimeError: the strategy mine cannot be imported",
        f"  The traceback is in {log}.",
    ]
    assert "in load" in log.read_text()


def test_missing_command_is_named(tmp_path: Path) -> None:
    """A command that does not exist is named."""
    service = Service("redis", ("/no/such/program", "--port"), lambda: False)
    assert "cannot start /no/such/program: No such file" in expect_failure([service], tmp_path)


def test_never_ready_child_is_quoted(tmp_path: Path) -> None:
    """A child that is never ready is ended, and its output is quoted."""
    pid_file = tmp_path / "pid"
    text = (
        f"import os, signal; open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n"
        "print('still loading'); signal.pause()"
    )
    slow = script("snowflake", text, ready=pid_file.exists, ready_timeout=60)
    never = script(
        "s3",
        "print('still loading'); import signal; signal.pause()",
        ready=lambda: False,
        ready_timeout=1.0,
    )
    message = expect_failure([slow, never], tmp_path)
    assert message.startswith("s3 was not ready within 1 s. The machine may be too busy (load ")
    assert "Start it again; stored data are kept." in message
    assert "still loading" in message
    assert gone(int(pid_file.read_text()))


def test_taken_port_names_its_holder(tmp_path: Path) -> None:
    """A port in use is reported with its holder before anything starts."""
    journal = tmp_path / "journal"
    taken = server("s3", journal, setting="PIPELINE_S3__ENDPOINT_URL")
    with socket.create_server(taken.listens):
        message = expect_failure([server("exchange", journal), taken], tmp_path)
    assert f"Port {taken.listens[1]} of 127.0.0.1, which s3 needs, is taken" in message
    assert f"(pid {os.getpid()})" in message
    assert "set PIPELINE_S3__ENDPOINT_URL to another port" in message
    assert lines(journal) == []


def test_services_on_one_port_are_refused(tmp_path: Path) -> None:
    """Two services on one port are refused."""
    one = server("s3", tmp_path / "journal")
    other = Service(
        "redis", one.argv, one.ready, listens=one.listens, setting="PIPELINE_REDIS__URL"
    )
    message = expect_failure([one, other], tmp_path)
    assert f"Port {one.listens[1]} is wanted by both s3 and redis" in message
    assert "PIPELINE_REDIS__URL" in message


def test_second_supervisor_on_data_is_refused(tmp_path: Path) -> None:
    """A second supervisor of the same data is refused."""
    journal = tmp_path / "journal"
    with supervised([server("store", journal)], tmp_path):
        before = read_state(tmp_path)
        message = expect_failure([server("store", journal)], tmp_path)
        assert f"already runs over {tmp_path} (pid {os.getpid()})" in message
        assert read_state(tmp_path) == before
    with supervised([server("store", journal)], tmp_path):
        assert running(tmp_path, "store").ready


def test_child_ignoring_signal_is_killed(tmp_path: Path) -> None:
    """A child that ignores the signal is killed."""
    text = (
        "import signal, pathlib, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(tmp_path / 'deaf')!r}).touch()\n"
        "while True: signal.pause()"
    )
    deaf = script("deaf", text, ready=(tmp_path / "deaf").exists, stop_timeout=0.2)
    with supervised([deaf], tmp_path):
        pid = running(tmp_path, "deaf").pid
    assert gone(pid)


@contextlib.contextmanager
def supervisor_process(data_dir: Path, port: int) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-c", SUPERVISOR, str(data_dir), str(port), str(data_dir / "pid")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_supervisor(tmp_path: Path, number: signal.Signals) -> None:
    with supervisor_process(tmp_path, free_port()) as process:
        started = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        grandchild = int((tmp_path / "pid").read_text())
        assert grandchild in started
        assert len(started) == 3, "the service, its child and the guard"
        process.send_signal(number)
        process.wait(30)
        assert process.returncode == (0 if number == signal.SIGTERM else -number)
        eventually(lambda: all(gone(pid) for pid in started), "every process has ended")


def test_next_supervisor_starts_after_kill(tmp_path: Path) -> None:
    """After a supervisor was killed, the next one starts at once."""
    port = free_port()
    with supervisor_process(tmp_path, port) as process:
        process.kill()
    with supervisor_process(tmp_path, port) as process:
        assert read_state(tmp_path).pid == process.pid


def test_children_die_without_their_guard(
    tmp_path: Path,
) -> None:
    """Children die with a killed supervisor even if the guard was killed before."""
    with supervisor_process(tmp_path, free_port()) as process:
        service = running(tmp_path, "parent").pid
        guards = {child.pid for child in psutil.Process(process.pid).children()} - {service}
        for guard in guards:
            os.kill(guard, signal.SIGKILL)
        process.kill()
        eventually(lambda: gone(service), "the service has ended")
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_state_file_holds_no_secret(tmp_path: Path) -> None:
    """The state file reports what runs and holds no secret."""
    journal = tmp_path / "journal"
    secret = {**os.environ, "PIPELINE_S3__SECRET_ACCESS_KEY": "hunter2"}
    service = server("s3", journal, address="http://127.0.0.1:1", environment=secret)
    with supervised([service], tmp_path):
        text = (tmp_path / "stack.json").read_text()
        state = json.loads(text)
        entry = state["processes"][0]
        assert (state["pid"], entry["name"], entry["address"]) == (
            *(os.getpid(), "s3", "http://127.0.0.1:1"),
        )
        assert psutil.Process(entry["pid"]).ppid() == os.getpid()
        assert entry["ready"] is True
        assert "hunter2" not in text + repr(service)
    assert not (tmp_path / "stack.json").exists()


def test_a_damaged_state_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"pid": 1')
    message = expect_failure([server("s3", tmp_path / "journal")], tmp_path)
    assert f"{tmp_path / 'stack.json'} cannot be read" in message


def test_last_log_is_kept(tmp_path: Path) -> None:
    """The log of the last run is kept beside the new one."""
    journal, log = tmp_path / "journal", tmp_path / "logs" / "store.log"
    for _ in range(3):
        with supervised([server("store", journal)], tmp_path):
            eventually(lambda: log.read_text() == "listening as store\n", "the log")
    assert log.with_name("store.log.1").read_text() == "listening as store\n"


def test_log_size_is_limited(tmp_path: Path) -> None:
    """A log does not grow without limit."""
    log, done = tmp_path / "logs" / "talker.log", tmp_path / "done"
    text = (
        "import pathlib, signal\n"
        f"log, kept = pathlib.Path({str(log)!r}), pathlib.Path({str(log) + '.1'!r})\n"
        "while not (kept.exists() and log.stat().st_size < 5000):\n"
        "    print('x' * 99)\n"
        f"pathlib.Path({str(done)!r}).touch(); signal.pause()"
    )
    talker = script("talker", text, ready=lambda: True)
    with supervised([talker], tmp_path, log_limit=50_000):
        eventually(done.exists, "the log was emptied while it was written to")
        assert b"\0" not in log.read_bytes()


def test_non_http_reply_is_no_answer() -> None:
    """A reply that is not HTTP counts as no answer.

    A client's connection may reach itself while no server listens, and read its own request.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:

        def echo() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(connection.recv(1000))

        thread = threading.Thread(target=echo)
        thread.start()
        assert not http_answers(f"http://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()
