"""The health checks of gateway and trader: a process that is alive and frozen is restarted."""

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline_assets.local import trading_services
from pipeline_assets.local.errors import UnhealthyError
from pipeline_assets.local.health import HealthCheck
from pipeline_assets.local.service import Service
from pipeline_assets.local.systems import GATEWAY, TRADER, systems
from pipeline_assets.resources.heartbeat import Heartbeat
from pipeline_assets.settings import Settings
from pipeline_assets.stack_state import read_state
from pipeline_assets_tests.fixtures.redis import free_port
from pipeline_assets_tests.fixtures.s3 import eventually
from pipeline_assets_tests.local.test_supervisor import supervised

_MAKERS = {
    GATEWAY: trading_services.gateway_service,
    TRADER: trading_services.trader_service,
}


def _service(settings: Settings, name: str) -> tuple[Service, HealthCheck]:
    """Return the service, which waits for no other one, and its health check."""
    system = next(each for each in systems(settings) if each.name == name)
    made = replace(_MAKERS[name](settings, system), after=())
    assert made.health is not None
    return made, made.health


# Says at the gateway's address that it serves, and touches the trader's heartbeat.
_STAND_IN = """
import http.server, sys, threading, time
from pathlib import Path
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "SERVING"}')
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("The trader of account")
sys.stdout.flush()
heartbeat = Path(sys.argv[2])
heartbeat.parent.mkdir(exist_ok=True)
while True:
    heartbeat.touch()
    time.sleep(0.1)
"""


@pytest.mark.parametrize("name", [GATEWAY, TRADER])
def test_frozen_service_is_restarted(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP of a program that answers as the service does."""
    monkeypatch.setattr(trading_services, "TIMEOUT", 1.0)
    monkeypatch.setattr(trading_services, "_SILENCE_SECONDS", 2.0)
    settings = Settings(_env_file=None, data_dir=tmp_path, gateway={"http_port": free_port()})
    service, check = _service(settings, name)
    port, heartbeat = str(settings.gateway.http_port), str(_heartbeat_file(tmp_path))
    stand_in = (sys.executable, "-c", _STAND_IN, port, heartbeat)
    _freeze(replace(service, argv=stand_in, listens=None), check, settings)


@pytest.mark.matrix
@pytest.mark.parametrize("name", [GATEWAY, TRADER])
def test_frozen_process_is_restarted(
    gateway_settings: Settings, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP of the real process. The trader has no rules to begin with, and waits for these.

    The supervisor kills the frozen gateway, and the next one does not wait for the lease of the dead one.
    """
    monkeypatch.setattr(trading_services, "TIMEOUT", 2.0)
    monkeypatch.setattr(trading_services, "_SILENCE_SECONDS", 10.0)
    service, check = _service(gateway_settings, name)
    _freeze(service, check, gateway_settings)
    log = (gateway_settings.data_dir / "logs" / f"{service.name}.log").read_text()
    assert "waiting for the lease" not in log


def _freeze(service: Service, check: HealthCheck, settings: Settings) -> None:
    """Freeze the running service, and return once another process of it works."""

    def pid() -> int | None:
        record = read_state(settings.data_dir)
        assert record is not None
        return next((each.pid for each in record.processes), None)

    def works() -> bool:
        with suppress(UnhealthyError, OSError):
            check.ask()
            return True
        return False

    health = replace(check, period=0.1, failures=2)
    eager = replace(service, health=health, stop_timeout=0.2)
    with supervised([eager], settings.data_dir):
        frozen = pid()
        assert frozen
        os.kill(frozen, signal.SIGSTOP)
        eventually(lambda: pid() not in (frozen, None) and works(), "it is back", 120)


def _heartbeat_file(directory: Path) -> Path:
    return directory / "heartbeats" / "trader-paper"


def test_old_heartbeat_is_unhealthy(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path)
    _, check = _service(settings, TRADER)
    with pytest.raises(UnhealthyError, match="no work at all"):
        check.ask()
    beat = Heartbeat(tmp_path, "trader-paper")
    beat.beat()
    check.ask()
    os.utime(_heartbeat_file(tmp_path), (time.time() - 1000,) * 2)
    with pytest.raises(UnhealthyError, match=r"no work for 1\d\d\d s"):
        check.ask()
    beat.beat()
    check.ask()


def test_refused_heartbeat_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "heartbeats").write_text("no directory")
    beat = Heartbeat(tmp_path, "trader-paper")
    for _ in range(3):
        beat.beat()
    assert caplog.text.count("cannot be touched") == 1
