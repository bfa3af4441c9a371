"""The description of a service for the supervisor: command line, options, port, readiness, health check. The
list of services is not known here.
"""

import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline_assets.local.health import HealthCheck

if TYPE_CHECKING:
    from pipeline_assets.local.systems import System

# Seconds for one health check of most services.
TIMEOUT = 10.0


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
        ends_before: names of the services that end once it has ended; None: those of `after`.
        stop_signal: sent to the process itself; its children get SIGTERM once it has ended.
        health: asked from then on; None only watches that the process is there.
        ready_timeout: seconds from its start to ready. A first start may take longer while it uses CPU time;
            a further try has twice the time of the last one. Eight times as long at most: on a busy machine
            a fixed limit ended a slow start again and again.
        stop_timeout: seconds from the signal to SIGKILL.
        optional: whether the stack goes on without it: a start that fails is repeated for as long as it
            takes, and the stack counts as started meanwhile. For a service that waits for a person.
    """

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    address: str | None = None
    listens: tuple[str, int] | None = None
    setting: str | None = None
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    after: tuple[str, ...] = ()
    ends_before: tuple[str, ...] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    health: HealthCheck | None = None
    ready_timeout: float = 180.0
    stop_timeout: float = 10.0
    optional: bool = False

    @property
    def needed_until_its_end(self) -> tuple[str, ...]:
        """Return the names of the services that have to outlive this one."""
        return self.after if self.ends_before is None else self.ends_before


def module(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command of a module under this very Python, whatever PATH says."""
    return (sys.executable, "-m", module, *arguments)


def option(name: str, value: object) -> tuple[str, str]:
    """Return a command-line option and its value."""
    return name, str(value)


def service(
    system: "System",
    argv: tuple[str, ...],
    ready: Callable[[], bool],
    environment: dict[str, str],
    *,
    health: HealthCheck,
    after: tuple[str, ...] = (),
) -> Service:
    """Return a system's service, which listens at the system's address."""
    return Service(
        name=system.name,
        argv=argv,
        ready=ready,
        address=system.address,
        listens=None if system.port is None else (system.host, system.port),
        setting=system.setting,
        environment=environment,
        health=health,
        after=after,
    )
