"""The watchdog: alerts people when candles become stale, a service fails, the supervisor is silent or the
disk is full. It depends on none of what it watches, and loads no Dagster. Freshness is judged in
freshness_judge.py, alerts that were sent are kept in incidents.py.
"""

import contextlib
import json
import logging
import os
import signal
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline_assets.collection.freshness import stale_alert
from pipeline_assets.process_identity import boot_clock
from pipeline_assets.resources.alerts import AlertError, Alerts
from pipeline_assets.services.freshness_judge import FreshnessJudge
from pipeline_assets.services.incidents import Incidents, Problem
from pipeline_assets.stack_state import (
    RESTARTING,
    UNHEALTHY,
    WATCHDOG,
    WATCHDOG_FILE,
    StackRecord,
    StackStateError,
    disk_problem,
    read_state,
    write_atomically,
)
from pipeline_assets.stop_flag import StopFlag, set_by_signals

if TYPE_CHECKING:
    from pipeline_assets.settings import Settings

ROUND_SECONDS = 5.0
# The first ingest runs after a start, or after the machine slept, need this long.
START_SECONDS = 180.0
# A round that comes this much too late means that this process or the whole machine was stopped.
PAUSE_SECONDS = 30.0
# A service that misses one health check is shown as unhealthy, and mostly well at the next.
UNHEALTHY_SECONDS = 60.0
SETTLE_SECONDS = 60.0
# The supervisor reports every five seconds.
SILENCE_SECONDS = 15.0

logger = logging.getLogger("pipeline_assets.watchdog")


@dataclass
class Memory:
    """State that must survive a restart of the watchdog: see `watchdog.json`."""

    incidents: Incidents = field(default_factory=Incidents)
    # By interval: whether it was ever fresh. One that never was has just been set up.
    was_fresh: dict[str, bool] = field(default_factory=dict)
    # By service: its restarts that were seen, of the stack that began at `stack`.
    restarts: dict[str, int] = field(default_factory=dict)
    stack: str = ""


class Watchdog:
    """Looks every few seconds, and alerts."""

    def __init__(self, settings: "Settings") -> None:
        self._data_dir = settings.data_dir
        with contextlib.suppress(OSError):
            # A disk that refuses this is reported at the first round.
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = settings.data_dir / WATCHDOG_FILE
        self._alerts = Alerts(settings.alerts)
        self._freshness = FreshnessJudge(settings)
        self._memory = read_memory(self._file)
        self._begun = boot_clock()
        self._last_round: float | None = None
        self._silent_since: float | None = None

    def run(self, stop: StopFlag) -> None:
        """Watch until `stop` is set."""
        while not stop.is_set():
            self.turn(boot_clock(), datetime.now(UTC))
            # A slow webhook makes a round long, which is no pause of the machine.
            self._last_round = boot_clock()
            stop.wait(ROUND_SECONDS)

    def turn(self, now: float, utc: datetime) -> None:
        """Look once, and send what is due.

        Args:
            now: seconds of a clock that cannot be set, and that goes on while the machine sleeps.
            utc: the time.
        """
        paused = now - self._last_round if self._last_round is not None else 0.0
        self._last_round = now
        problems: dict[str, Problem] = {}
        if paused >= PAUSE_SECONDS:
            self._begun = now
            text = f"The machine or its watchdog was stopped for {paused:.0f} s."
            problems["paused"] = Problem("paused", text, SETTLE_SECONDS)
        problems |= self._stack_problems(now, utc)
        self._freshness.turn(now)
        problems |= self._freshness_problems(now)
        self._memory.incidents.observe(problems, utc)
        self.send(utc)
        self._keep(utc)

    def last_words(self, utc: datetime) -> None:
        """Alert if the supervisor was killed: this process is then ended together with the stack."""
        record = self._record()
        if record is None or record.runs():
            return
        self._memory.incidents.observe(self._supervisor_problem("the supervisor was killed"), utc)
        self.send(utc)
        self._keep(utc)

    def send(self, utc: datetime) -> None:
        """Send the alerts that are due; what is not taken is due again at the next round.

        Each is noted at once: a slow webhook must not make the watchdog look stopped, and a watchdog
        that is killed in between must not send it again.
        """
        for key, alert in self._memory.incidents.due():
            try:
                self._alerts.send(alert)
            except AlertError as error:
                logger.warning("%s It is sent again.", error)
                return
            logger.info("Alerted: %s", alert["text"])
            self._memory.incidents.sent(key)
            self._keep(utc)

    def _record(self) -> StackRecord | None:
        try:
            return read_state(self._data_dir)
        except (StackStateError, OSError) as error:
            logger.warning("%s", error)
            return None

    def _supervisor_problem(self, silence: str) -> dict[str, Problem]:
        text = f"The stack over {self._data_dir} is not watched: {silence}."
        return {"supervisor": Problem("supervisor_silent", text)}

    def _is_silent_for_long(self, now: float, silence: str | None) -> bool:
        """Return whether the supervisor's silence has lasted for long enough to be no step of the wall clock.

        After such a step, or a pause of the machine, its next report comes within seconds.
        """
        if silence is None:
            self._silent_since = None
            return False
        self._silent_since = now if self._silent_since is None else self._silent_since
        return now - self._silent_since >= SILENCE_SECONDS

    def _stack_problems(self, now: float, utc: datetime) -> dict[str, Problem]:
        record = self._record()
        disk = disk_problem(self._data_dir) or (record.problem if record else None)
        problems = {"disk": Problem("disk_full", f"{disk}.", SETTLE_SECONDS)} if disk else {}
        if record is None:
            return problems
        silence = record.silence(utc)
        lasting = self._is_silent_for_long(now, silence)
        if silence is not None:
            settled = now - self._begun > PAUSE_SECONDS
            # On a full disk the report may be old because it cannot be written.
            if settled and lasting and not disk:
                problems |= self._supervisor_problem(silence)
            return problems
        failed = self._service_problems(record, utc)
        # Services that fail on a full disk are no incidents of their own.
        return problems if disk else problems | failed

    def _service_problems(self, record: StackRecord, utc: datetime) -> dict[str, Problem]:
        memory = self._memory
        if memory.stack != record.started_at:
            memory.stack, memory.restarts = record.started_at, {}
        problems = {}
        for each in record.processes:
            seen = memory.restarts.get(each.name, 0)
            memory.restarts[each.name] = each.restarts
            since = datetime.fromisoformat(each.since or record.started_at)
            lasting = (utc - since).total_seconds() > UNHEALTHY_SECONDS
            failing = each.state == RESTARTING or (each.state == UNHEALTHY and lasting)
            # The supervisor itself alerts about its watchdog.
            if each.name == WATCHDOG or not (failing or each.restarts > seen):
                continue
            why = each.last_restart if each.restarts else each.problem
            text = f"Service {each.name} of the stack over {self._data_dir} fails: {why}."
            details = {"service": each.name, "error": why or ""}
            problems[f"service {each.name}"] = Problem(
                "service_failed", text, SETTLE_SECONDS, details
            )
        return problems

    def _freshness_problems(self, now: float) -> dict[str, Problem]:
        if now - self._begun < START_SECONDS:
            return self._as_before()
        judged = self._freshness
        if now - judged.judged_at > START_SECONDS:
            why = judged.failure or "the lake does not answer"
            text = f"Whether candles are fresh is unknown: {why}."
            return self._as_before() | {"freshness": Problem("freshness_unknown", text)}
        problems = {}
        for interval, verdict in judged.verdicts.items():
            if verdict.fresh:
                self._memory.was_fresh[interval.value] = True
            elif verdict.stale(seen=self._memory.was_fresh.get(interval.value, False)):
                text, details = stale_alert(interval, verdict)
                problems[f"stale {interval}"] = Problem("asset_stale", text, 0.0, details)
        return problems

    def _as_before(self) -> dict[str, Problem]:
        """Keep each interval stale or fresh until it is judged again."""
        return {
            each["key"]: Problem(each["kind"], each["text"], each["settle"], each["details"])
            for each in self._memory.incidents.to_list()
            if each["key"].startswith("stale ") and not each["over"]
        }

    def _keep(self, utc: datetime) -> None:
        memory = self._memory
        content: dict[str, Any] = {
            "checked_at": utc.isoformat(timespec="seconds"),
            "incidents": memory.incidents.to_list(),
            "was_fresh": memory.was_fresh,
            "restarts": memory.restarts,
            "stack": memory.stack,
        }
        try:
            write_atomically(self._file, content)
        except OSError as error:
            logger.warning("%s cannot be written (%s); it is kept in memory", self._file, error)


def read_memory(file: Path) -> Memory:
    """Return what the last watchdog left; nothing where it left nothing that can be read."""
    try:
        held = json.loads(file.read_text(encoding="utf-8"))
        return Memory(
            Incidents(held["incidents"]), held["was_fresh"], held["restarts"], held["stack"]
        )
    except FileNotFoundError:
        return Memory()
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s cannot be read (%s); the watchdog begins anew", file, error)
        return Memory()


def watch(settings: "Settings") -> None:
    """Watch until SIGINT or SIGTERM. To be called from the main thread."""
    logging.basicConfig(
        stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    stop = StopFlag()
    # The data directory holds credentials and is its owner's only.
    os.umask(0o077)
    watchdog = Watchdog(settings)
    webhook = settings.alerts.webhook_url
    if webhook is None:
        logger.warning("Watching; alerts are only logged: PIPELINE_ALERTS__WEBHOOK_URL is not set.")
    else:
        logger.info("Watching; alerts go to %s.", urlsplit(webhook.get_secret_value()).hostname)
    with set_by_signals(stop, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
        watchdog.run(stop)
    watchdog.last_words(datetime.now(UTC))


if __name__ == "__main__":
    from pipeline_assets.settings import load_settings

    watch(load_settings())
