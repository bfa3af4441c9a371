"""One host: its namespaces, cable, power, clock and processes. The services of each host are in cluster.py.

A host without power sends nothing more, not even the end of its connections, as a machine whose plug is
pulled. A clock that is off comes from fixtures/wrong_clock.py: a time namespace does not change the
clock that programs read as the time of day.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from pipeline_assets_tests.fixtures.exchange import die_with_parent
from pipeline_assets_tests.fixtures.s3 import eventually
from pipeline_assets_tests.fixtures.wrong_clock import wrong_clock
from pipeline_assets_tests.many_machines.laboratory import NETWORK, SWITCH, ip

# The first process of a host: it waits, and lets no ended process remain.
_INIT = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\nwhile True: signal.pause()"


@dataclass
class Host:
    """One host.

    Attributes:
        name: its host name, and the beginning of its logs' names.
        number: the last part of its address.
        directory: its disk.
        ahead: seconds by which the clock of processes started from now on is ahead; below zero: behind.
    """

    name: str
    number: int
    directory: Path
    ahead: int = 0
    _holder: "subprocess.Popen[bytes] | None" = None
    _init: int = 0
    _running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    @property
    def _cable(self) -> str:
        return f"to-{self.name}"

    def power_on(self) -> None:
        """Make the host's namespaces, and connect them to the switch."""
        self.directory.mkdir(parents=True, exist_ok=True)
        apart = ("--net", "--uts", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc")
        self._holder = subprocess.Popen(
            ["unshare", *apart, sys.executable, "-ISc", _INIT],
            preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread may hold
        )
        holder = psutil.Process(self._holder.pid)
        self._init = eventually(holder.children, f"{self.name} is made", 30)[0].pid
        # The same hardware address as before a loss of power: others would ask for a new one first.
        hardware = f"02:00:0a:4d:00:{self.number:02x}"
        inner = ("peer", "name", "eth0", "address", hardware, "netns", str(self._init))
        ip("link", "add", self._cable, "type", "veth", *inner)
        ip("link", "set", self._cable, "master", SWITCH, "up")
        for command in (
            ("hostname", self.name),
            ("ip", "link", "set", "lo", "up"),
            ("ip", "address", "add", f"{self.address}/24", "dev", "eth0"),
            ("ip", "link", "set", "eth0", "up"),
        ):
            subprocess.run([*self._enter(), *command], check=True)

    def power_off(self) -> None:
        """Pull the plug: every process ends at once, and none of its connections is closed."""
        assert self._holder is not None, f"{self.name} has no power"
        ip("link", "delete", self._cable)
        os.kill(self._init, signal.SIGKILL)
        self._holder.wait(30)
        for each in self._running.values():
            each.wait(30)
        self._running.clear()
        self._holder = None

    def unplug(self) -> None:
        """Cut the host off from all others; neither side gets a word of it."""
        ip("link", "set", self._cable, "down")

    def plug_in(self) -> None:
        """End `unplug`."""
        ip("link", "set", self._cable, "up")

    def start(self, service: str, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a service, whose output goes to a file beside the host's disk."""
        with self.log(service).open("ab") as log:
            self._running[service] = subprocess.Popen(
                [*self._enter(), *argv],
                env={**environment, **self._clock()},
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread may hold
            )

    def kill(self, service: str) -> None:
        """Kill a service with all its processes at once; the host's system closes its connections."""
        entered = self._running.pop(service)
        for each in psutil.Process(entered.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        entered.wait(30)

    def signal(self, service: str, number: signal.Signals) -> None:
        """Send a signal to a service's first process."""
        psutil.Process(self._running[service].pid).children()[0].send_signal(number)

    def ended(self, service: str, seconds: float) -> None:
        """Wait until a service has ended."""
        self._running.pop(service).wait(seconds)

    def alive(self) -> dict[str, bool]:
        """Return whether each service that was started runs."""
        return {name: each.poll() is None for name, each in self._running.items()}

    def log(self, service: str) -> Path:
        """Return the file of a service's output."""
        return self.directory.parent / f"{self.name}-{service}.log"

    def _enter(self) -> list[str]:
        spaces = ("--net", "--uts", "--pid", "--mount")
        return ["nsenter", f"--target={self._init}", *spaces, f"--wd={self.directory}"]

    def _clock(self) -> dict[str, str]:
        if not self.ahead:
            return {}
        return wrong_clock(self.directory, self.ahead)
