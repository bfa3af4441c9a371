"""How a service of the stack is described to the supervisor: its command line and its options."""

import sys
from collections.abc import Callable

from pipeline_assets.local.health import HealthCheck
from pipeline_assets.local.supervisor import Service
from pipeline_assets.local.systems import System

# Of one health check of most services.
TIMEOUT = 10.0


def module(module: str, *arguments: str) -> tuple[str, ...]:
    """The command of a module under this very Python, whatever PATH says."""
    return (sys.executable, "-m", module, *arguments)


def option(name: str, value: object) -> tuple[str, str]:
    """Return a command-line option and its value."""
    return name, str(value)


def service(
    system: System,
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
