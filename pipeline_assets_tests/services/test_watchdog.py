"""The watchdog sends one alert for each incident, of any kind, and one for its end."""

import os
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline_assets.local.stack import settings_environment
from pipeline_assets.process_identity import boot_clock, mark_of
from pipeline_assets.services.watchdog import START_SECONDS, Watchdog
from pipeline_assets.settings import AlertsSettings, Settings
from pipeline_assets.stack_state import (
    WATCHDOG,
    ProcessRecord,
    StackRecord,
    disk_problem,
    write_state,
)
from pipeline_assets_tests.fixtures.platform import Platform
from pipeline_assets_tests.fixtures.s3 import eventually, free_port
from pipeline_assets_tests.fixtures.webhook import Webhook

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
HEAVY = {"dagster", "polars", "pyarrow", "pandas", "boto3", "binance", "snowflake.connector"}


def process(name: str, **changes: object) -> ProcessRecord:
    made = ProcessRecord(
        name=name,
        pid=os.getpid(),
        created=0.0,
        address=None,
        log="a.log",
        started_at=NOON.isoformat(),
        ready=True,
        seconds_to_ready=1.0,
        restarts=0,
        mark=mark_of(os.getpid()),
        state="up",
        since=NOON.isoformat(),
    )
    return replace(made, **changes)


class Stack:
    """A stack.json as a supervisor writes it, and a watchdog that reads it, by the test's clock."""

    def __init__(self, directory: Path, webhook: Webhook, settings: Settings | None = None) -> None:
        base = settings or Settings(
            data_dir=directory, binance={"rest_url": f"http://127.0.0.1:{free_port()}"}
        )
        alerts = AlertsSettings(webhook_url=SecretStr(webhook.url))
        self.settings = base.model_copy(update={"alerts": alerts, "data_dir": directory})
        self.directory, self.webhook = directory, webhook
        self.seconds = self.step = 0.0
        self.watchdog = Watchdog(self.settings)
        self.begun = boot_clock()

    def write(self, *processes: ProcessRecord, **changes: object) -> None:
        record = StackRecord(
            pid=os.getpid(),
            created=0.0,
            started_at=NOON.isoformat(),
            processes=processes,
            mark=mark_of(os.getpid()),
            checked_at=self.now.isoformat(),
        )
        write_state(self.directory, replace(record, **changes))

    @property
    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds + self.step)

    def look(self, seconds: float = 5.0) -> list[str]:
        """Look `seconds` later; returns the kinds of alerts that were received by then."""
        self.seconds += seconds
        self.watchdog.turn(self.begun + self.seconds, self.now)
        return [alert["alert"] for alert in self.webhook.received]


@pytest.fixture
def stack(tmp_path: Path, webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> Stack:
    # How fresh candles are needs stores; here it is asked of none.
    monkeypatch.setattr(
        "pipeline_assets.services.freshness_judge.FreshnessJudge.turn", lambda *_: None
    )
    return Stack(tmp_path, webhook)


def test_restarted_service_alerts_once(stack: Stack) -> None:
    """A restarted service is alerted once, together with its end."""
    for _ in range(3):
        stack.write(process("s3"), process("redis"))
        assert stack.look() == []
    stack.write(process("s3", restarts=1, last_restart="ended with signal 9"), process("redis"))
    assert stack.look() == ["service_failed"]
    alert = stack.webhook.received[0]
    assert alert["service"] == "s3"
    assert "ended with signal 9" in alert["text"]
    for _ in range(14):
        stack.write(process("s3", restarts=1), process("redis"))
        stack.look()
    assert stack.look() == ["service_failed", "recovered"]


def test_a_restarted_watchdog_alerts_nothing_twice(stack: Stack) -> None:
    failing = process("s3", restarts=1, state="restarting", last_restart="ended with status 1")
    stack.write(failing)
    assert stack.look() == ["service_failed"]
    stack.watchdog = Watchdog(stack.settings)
    stack.write(failing)
    assert stack.look() == ["service_failed"]


def test_refused_alert_is_sent_again(stack: Stack) -> None:
    """An alert that was not taken is sent again."""
    stack.webhook.status = 503
    stack.write(process("s3", restarts=1, state="restarting", last_restart="ended with status 1"))
    assert stack.look() == []
    stack.webhook.status = 200
    stack.write(process("s3", restarts=1))
    assert stack.look() == ["service_failed"]


def test_minute_of_missed_checks_is_incident(stack: Stack) -> None:
    """One missed health check is no incident; a minute of them is one."""
    ill = {"state": "unhealthy", "problem": "HTTP 500"}
    stack.write(process("s3", since=stack.now.isoformat(), **ill))
    assert stack.look() == []
    stack.write(process("s3"))
    assert stack.look() == []
    stack.write(process("s3", **ill))
    for _ in range(12):
        stack.write(process("s3", **ill))
        found = stack.look()
    assert found == ["service_failed"]


def test_own_restart_is_not_alerted(stack: Stack) -> None:
    """The watchdog does not report its own restart."""
    stack.write(process(WATCHDOG, restarts=1, last_restart="ended with signal 9"))
    assert stack.look() == []


def test_silent_supervisor_is_alerted(stack: Stack) -> None:
    stack.write(process("s3"))
    for _ in range(12):
        found = stack.look()
    assert found == ["supervisor_silent"]
    assert "has not reported for" in stack.webhook.received[0]["text"]
    stack.write(process("s3"))
    assert stack.look() == ["supervisor_silent", "recovered"]


def test_clock_step_is_no_silent_supervisor(stack: Stack) -> None:
    """A step of the wall clock does not look like a silent supervisor.

    By the wall clock the last report is eight hours old; the next one comes within seconds.
    """
    for _ in range(8):
        stack.write(process("s3"))
        assert stack.look() == []
    stack.step = 8 * 3600.0
    assert stack.look() == []
    stack.write(process("s3"))
    assert stack.look() == []


def test_full_disk_is_one_incident(stack: Stack) -> None:
    """A full disk is one incident with everything that fails by it."""
    full = "disk full: 0.0 MB left under /data"
    stack.write(process("s3"), problem=full)
    assert stack.look() == ["disk_full"]
    stack.write(process("s3", restarts=1, state="restarting"), problem=full)
    assert stack.look() == ["disk_full"]
    stack.write(process("s3", restarts=1))
    for _ in range(13):
        stack.write(process("s3", restarts=1))
        found = stack.look()
    assert found == ["disk_full", "recovered"]


def test_machine_pause_is_one_alert(stack: Stack) -> None:
    """A pause of the machine is one alert, and no silent supervisor."""
    stack.write(process("s3"))
    assert stack.look() == []
    assert stack.look(300) == ["paused"]
    stack.write(process("s3"))
    assert stack.look() == ["paused"]


def test_killed_supervisor_is_alerted(stack: Stack) -> None:
    """A killed supervisor is alerted in the last seconds of the watchdog.

    The watchdog ends together with the stack, and has a few seconds for that.
    """
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        mark = mark_of(dead.pid)
    stack.write(process("s3"), pid=dead.pid, mark=mark)
    stack.watchdog.last_words(stack.now)
    assert [alert["alert"] for alert in stack.webhook.received] == ["supervisor_silent"]
    stack.write(process("s3"))
    assert stack.look() == ["supervisor_silent", "recovered"]
    stack.watchdog.last_words(stack.now)
    assert len(stack.webhook.received) == 2


def test_stale_interval_is_alerted_once(
    minutes: Platform, webhook: Webhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack(tmp_path / "watched", webhook, minutes.settings)
    judge = stack.watchdog._freshness
    monkeypatch.setattr(judge, "turn", judge.judge_all)
    minutes.ingest("1m")
    # 15m and 1h were never fresh: they have just been set up.
    assert stack.look(START_SECONDS) == []
    minutes.exchange.advance(600)
    stack.look()
    stack.look()
    [alert] = webhook.received
    assert (alert["alert"], alert["interval"]) == ("asset_stale", "1m")
    assert "3 of 3 symbols are stale" in alert["text"]
    minutes.ingest("1m")
    stack.look()
    assert [each["alert"] for each in webhook.received] == ["asset_stale", "recovered"]


def test_disk_with_little_room_is_reported(tmp_path: Path) -> None:
    assert disk_problem(tmp_path, 1) is None
    assert disk_problem(tmp_path, 10**18).startswith("disk full: ")


def test_program_is_light_private_and_stoppable(tmp_path: Path, webhook: Webhook) -> None:
    """The program needs little memory, keeps its files private and ends on SIGTERM.

    Run alone, as in production, the watchdog creates the data directory, readable by its owner only.
    """
    code = (
        "import sys\nfrom pipeline_assets.services.watchdog import watch\n"
        "from pipeline_assets.settings import load_settings\n"
        "watch(load_settings())\nprint(*sys.modules, sep='\\n')"
    )
    stack = Stack(tmp_path / "data", webhook)
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=settings_environment(stack.settings),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        eventually((tmp_path / "data" / "watchdog.json").exists, "it has looked", 60)
        process.terminate()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    made = (tmp_path / "data" / "watchdog.json", tmp_path / "data")
    assert [stat.S_IMODE(each.stat().st_mode) & 0o077 for each in made] == [0, 0]
    assert set(output.splitlines()) & HEAVY == set()
    assert webhook.received == []
