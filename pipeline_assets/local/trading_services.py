"""How the order gateway is started, and when it is ready."""

from pipeline_assets.local.environment import settings_environment
from pipeline_assets.local.errors import UnhealthyError
from pipeline_assets.local.health import HealthCheck
from pipeline_assets.local.ports import http_answers
from pipeline_assets.local.probes import Ask, http_json
from pipeline_assets.local.service import TIMEOUT, Service, module, service
from pipeline_assets.local.systems import System, systems
from pipeline_assets.settings import Settings

# The gateway needs the exchange's time, the lake's rules, and its lease at once.
_NEEDED = ("exchange", "s3", "redis")


def gateway_service(settings: Settings, system: System) -> Service:
    """Return the order gateway, ready once it takes calls."""
    url = f"http://{system.host}:{settings.gateway.http_port}/health"
    needed = [each.name for each in systems(settings) if each.embedded and each.name in _NEEDED]
    return service(
        system,
        module("pipeline_assets", "gateway"),
        lambda: http_answers(url),
        settings_environment(settings),
        health=HealthCheck(_serving(url)),
        after=tuple(needed),
    )


def _serving(url: str) -> Ask:
    def ask() -> None:
        answer = http_json(url, timeout=TIMEOUT)
        if answer.get("status") != "SERVING":
            raise UnhealthyError("the gateway serves no calls")

    return ask
