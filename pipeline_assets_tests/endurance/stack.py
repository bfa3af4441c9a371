"""A whole stack started as a person starts it, its faults, and their visible effects.

The stack is `pipeline-assets up` in a process of its own, on the real clock. An observer reads the
slots twice a second, as a trading program would, and keeps when each minute was first seen. The choice
of faults is not made here.
"""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import redis

from pipeline_assets.local.stack import settings_environment, stack_status
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.airflow import Airflow
from pipeline_assets_tests.fixtures.exchange import die_with_parent
from pipeline_assets_tests.fixtures.webhook import Webhook

REPOSITORY = Path(__file__).parents[2]
SYMBOLS = ("BTCUSDT", "ETHUSDT")
INNER_CODE_SERVER = "inner code server"


@dataclass
class Minutes:
    """The times when minutes were first seen in the slots: monotonic seconds, by open time (UNIX seconds)."""

    settings: Settings
    seen: dict[int, float] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Read until stopped; while Redis does not answer, no new minute counts as seen."""
        password = self.settings.redis.password
        while not self._stop.wait(0.5):
            with contextlib.suppress(redis.RedisError):
                client = redis.Redis.from_url(
                    self.settings.redis.url,
                    password=password.get_secret_value() if password else None,
                    socket_timeout=1,
                    socket_connect_timeout=1,
                )
                with client:
                    self._note(client)

    def _note(self, client: "redis.Redis") -> None:
        import json

        newest = [
            max((json.loads(value)["open_time"] for value in held.values()), default="")
            for held in (client.hgetall(f"ohlcv:1m:{{{symbol}}}") for symbol in SYMBOLS)
        ]
        if all(newest):
            minute = int(_moment(min(newest)).timestamp())
            self.seen.setdefault(minute, time.monotonic())

    def newest(self) -> int:
        """Return the newest minute that every symbol has, UNIX seconds; 0 before the first."""
        return max(self.seen, default=0)

    def longest_wait(self, since: float, until: float) -> float:
        """Seconds of the longest time between two new minutes that overlaps `since` to `until`."""
        moments = sorted(self.seen.values())
        pairs = zip(moments, [*moments[1:], until], strict=True)
        waits = [after - before for before, after in pairs if after >= since and before <= until]
        return max(waits, default=until - since)

    def stop(self) -> None:
        """End `watch`."""
        self._stop.set()


def _moment(value: Any) -> datetime:
    if isinstance(value, (int, float)):
        return datetime.fromtimestamp(value / (1000 if value > 1e11 else 1), UTC)
    return datetime.fromisoformat(str(value).replace("Z", "+00:00"))


@dataclass
class RunningStack:
    """A running stack, with methods that cause faults and that read what it shows."""

    settings: Settings
    webhook: Webhook
    process: "subprocess.Popen[bytes]"
    minutes: Minutes

    def status(self) -> dict[str, Any]:
        """Return the services by name, as `status` shows them."""
        return {each.name: each for each in stack_status(self.settings).services}

    def all_up(self) -> bool:
        """Return whether `status` would show that everything runs."""
        services = self.status().values()
        return bool(services) and all(each.alive for each in services)

    def processes(self) -> dict[str, psutil.Process]:
        """Return every process of the stack by its role, grandchildren that serve for long included."""
        found = {}
        for name, service in self.status().items():
            with contextlib.suppress(psutil.Error):
                if service.pid:
                    found[name] = psutil.Process(service.pid)
        for child in self._below("code-server", found):
            with contextlib.suppress(psutil.Error):
                if "grpc" in child.cmdline():
                    found[INNER_CODE_SERVER] = child
        return found

    @staticmethod
    def _below(name: str, found: dict[str, psutil.Process]) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            if name in found:
                return found[name].children(recursive=True)
        return []

    def signal(self, role: str, number: signal.Signals) -> None:
        """Signal one process."""
        self.processes()[role].send_signal(number)

    def everything(self) -> list[psutil.Process]:
        """Return the supervisor and all processes below it."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def freeze(self, seconds: float) -> None:
        """Stop everything as a laptop that sleeps does, children first, and wake it again."""
        frozen = self.everything()
        for each in reversed(frozen):
            _send(each, signal.SIGSTOP)
        threading.Event().wait(seconds)
        for each in frozen:
            _send(each, signal.SIGCONT)

    def alerts(self) -> list[dict[str, Any]]:
        """Return what the webhook took so far."""
        return list(self.webhook.received)

    def lost(self) -> int:
        """Stored minutes that differ from the exchange's, or are missing between first and newest."""
        platform = Airflow(self.settings, {}).platform
        missing = 0
        for symbol in SYMBOLS:
            stored = platform.stored("1m", symbol)
            first, newest = stored["open_time"].min(), stored["open_time"].max()
            truth = platform.truth("1m", symbol, first, newest + timedelta(minutes=1))
            missing += truth.join(stored, on=stored.columns, how="anti").height
        return missing


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)


def wait_until(condition: Any, seconds: float, step: float = 0.5) -> float | None:
    """Seconds until the condition held; None if it did not in time. Errors of a stack that is down count
    as not yet.
    """
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        try:
            if condition():
                return time.monotonic() - begun
        except (OSError, ValueError, psutil.Error):
            pass
        threading.Event().wait(step)
    return None


@contextlib.contextmanager
def running(settings: Settings, webhook: Webhook, *options: str) -> Iterator[RunningStack]:
    """Provide the stack of these settings, started by the command, until the block ends."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    log = (settings.data_dir.parent / "up.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline_assets", "up", *options],
        env=settings_environment(settings),
        cwd=settings.data_dir.parent,
        stdout=log,
        stderr=subprocess.STDOUT,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - it takes no lock that a thread may hold
    )
    minutes = Minutes(settings)
    watcher = threading.Thread(target=minutes.watch, daemon=True)
    watcher.start()
    stack = RunningStack(settings, webhook, process, minutes)
    try:
        yield stack
    finally:
        minutes.stop()
        watcher.join(10)
        for each in stack.everything() if process.poll() is None else ():
            _send(each, signal.SIGCONT)
        with contextlib.suppress(OSError):
            process.send_signal(signal.SIGINT)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
        log.close()


@dataclass(frozen=True)
class Outcome:
    """The effect of a fault. Times in seconds; `healthy_after` is None if the stack did not recover."""

    fault: str
    longest_wait: float
    healthy_after: float | None
    lost: int
    alerts: tuple[str, ...]
    seconds: float

    @property
    def line(self) -> str:
        """One row of the table."""
        healed = "never" if self.healthy_after is None else f"{self.healthy_after:.0f} s"
        return (
            f"{self.fault:<34} longest wait {self.longest_wait:6.1f} s   healthy after {healed:>7}   "
            f"lost {self.lost}   alerts {len(self.alerts)} {list(self.alerts)}"
        )


def texts(alerts: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return what alerts say to a person."""
    return tuple(str(each.get("text", each))[:110] for each in alerts)
