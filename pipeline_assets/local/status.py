"""The parts of the stack that run now, by its record (stack.json) and by asking. cli/status.py prints it."""

from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline_assets import proxies
from pipeline_assets.local import airflow
from pipeline_assets.local.ports import tcp_answers
from pipeline_assets.local.systems import GATEWAY, INFERENCE, TRADER, WORKER, System, systems
from pipeline_assets.settings import Settings
from pipeline_assets.stack_state import RESTARTING, UP, ProcessRecord, disk_problem, read_state

_SCHEDULING = {
    *("code-server", "webserver", "daemon", WORKER, GATEWAY, INFERENCE, TRADER),
    *(airflow.API, airflow.SCHEDULER, airflow.PROCESSOR),
}


@dataclass(frozen=True)
class ServiceStatus:
    """A system as found.

    With a `pid`, `alive` means that this stack's process runs and answers its health checks;
    without, that something answers at the address, which may be another stack's.

    Attributes:
        state: `up`, `starting`, `restarting`, `unhealthy` or `down`.
        problem: why it is not up, where that is known.
        since: when the state began (UTC, ISO 8601), where that is known.
        last_restart: why it was restarted last.
    """

    name: str
    address: str
    embedded: bool
    alive: bool
    pid: int | None = None
    started_at: str | None = None
    seconds_to_ready: float | None = None
    restarts: int = 0
    log: str | None = None
    state: str = UP
    problem: str | None = None
    since: str | None = None
    last_restart: str | None = None


@dataclass(frozen=True)
class StackStatus:
    """The stack over one data directory; `pid` and `started_at` are its supervisor's.

    `problem` is what keeps the whole stack from working: a full disk, a supervisor that is stopped.
    """

    data_dir: str
    running: bool
    pid: int | None
    started_at: str | None
    services: tuple[ServiceStatus, ...]
    problem: str | None = None

    @property
    def counted(self) -> list[ServiceStatus]:
        """The services that have to be up: others than stores only where this stack started them.

        A deployment may run them on other machines, of which the settings say nothing.
        """
        return [each for each in self.services if each.pid or each.name not in _SCHEDULING]

    @property
    def is_up(self) -> bool:
        """Whether everything that has to be up is up."""
        return self.problem is None and all(each.alive for each in self.counted)


def stack_status(settings: Settings) -> StackStatus:
    """Return what runs now, by stack.json and by asking; external systems are asked for a connection.

    Raises:
        StackStateError: stack.json is damaged.
    """
    record = read_state(settings.data_dir)
    running = record is not None and record.runs()
    silence = record.silence(datetime.now(UTC)) if record else None
    processes = {process.name: process for process in record.processes} if record else {}
    services = []
    for system in systems(settings):
        process = processes.pop(system.name, None) if system.embedded else None
        if process is None:
            alive = _answers(system)
            state = UP if alive else "down"
            services.append(
                ServiceStatus(system.name, system.address, system.embedded, alive, state=state)
            )
        else:
            services.append(_process_status(process, silence))
    # Services that `up --airflow` started, though the settings of this process do not name them.
    services += [_process_status(process, silence) for process in processes.values()]
    problem = (silence or record.problem) if record else None
    return StackStatus(
        data_dir=str(settings.data_dir),
        running=running,
        pid=record.pid if record and running else None,
        started_at=record.started_at if record and running else None,
        services=tuple(services),
        # A supervisor that cannot write has reported what it knew before the disk was full.
        problem=(disk_problem(settings.data_dir) or problem) if running else None,
    )


def _answers(system: System) -> bool:
    host, port = proxies.first_hop(system.address, system.host, system.port)
    first = [] if port is None else [(host, port)]
    return any(tcp_answers(*each) for each in (*first, *system.others))


def _process_status(process: ProcessRecord, silence: str | None) -> ServiceStatus:
    alive = silence is None and process.is_up()
    state, problem = process.state or UP, process.problem
    if silence is not None:
        # The last reported state may be outdated; it is certain that no supervisor watches the service.
        state, problem = "unhealthy", silence
    elif not process.runs() and state != RESTARTING:
        state, problem = "down", problem or "its process has ended"
    elif not process.ready and state == UP:
        state = "starting"
    return ServiceStatus(
        name=process.name,
        address=process.address or "",
        embedded=True,
        alive=alive,
        pid=process.pid,
        started_at=process.started_at,
        seconds_to_ready=process.seconds_to_ready,
        restarts=process.restarts,
        log=process.log,
        state=state,
        problem=problem,
        since=process.since,
        last_restart=process.last_restart,
    )
