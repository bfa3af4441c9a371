"""How the order gateway, the inference service and the trader are started, and when each is ready."""

from dataclasses import replace
from functools import partial

from pipeline_assets.local.environment import settings_environment
from pipeline_assets.local.errors import UnhealthyError
from pipeline_assets.local.health import HealthCheck
from pipeline_assets.local.ports import http_answers
from pipeline_assets.local.probes import Ask, http_json
from pipeline_assets.local.service import TIMEOUT, Service, module, service
from pipeline_assets.local.service_log import has_logged
from pipeline_assets.local.service_secrets import (
    KEPT_FROM_GATEWAY,
    KEPT_FROM_OTHERS,
    KEPT_FROM_TRADER,
)
from pipeline_assets.local.systems import GATEWAY, System, systems
from pipeline_assets.resources.heartbeat import Heartbeat, inference_heartbeat, trader_heartbeat
from pipeline_assets.settings import Settings

# The gateway needs the exchange's time, the lake's rules, and its lease at once.
_NEEDED = ("exchange", "s3", "redis")
_TRADER_NEEDS = (*_NEEDED, "kafka", GATEWAY)
TRADER_STARTED = "The trader of account"
_INFERENCE_NEEDS = (*_NEEDED, "kafka", "snowflake")
INFERENCE_STARTED = "The inference service of group"
# Both beat each second, and at worst after the time limits of the systems that they ask.
_SILENCE_SECONDS = 120.0


def gateway_service(settings: Settings, system: System) -> Service:
    """Return the order gateway, ready once it takes calls."""
    url = f"http://{system.host}:{settings.gateway.http_port}/health"
    made = service(
        system,
        module("pipeline_assets", "gateway"),
        lambda: http_answers(url),
        settings_environment(settings, KEPT_FROM_GATEWAY),
        health=HealthCheck(_serving(url)),
        after=_embedded(settings, _NEEDED),
    )
    return replace(made, optional=_waits_for_person(settings))


def _waits_for_person(settings: Settings) -> bool:
    """Return whether the gateway's start may have to wait until a person has set the account up."""
    return settings.trading.venue != "paper"


def inference_service(settings: Settings, system: System) -> Service:
    """Return the inference service, ready once it has begun; systems that do not answer are waited for."""
    heartbeat = inference_heartbeat(settings.data_dir)
    environment = settings_environment(settings, KEPT_FROM_OTHERS)
    return _beating_service(
        settings, system, INFERENCE_STARTED, heartbeat, _INFERENCE_NEEDS, environment
    )


def trader_service(settings: Settings, system: System) -> Service:
    """Return the trader, ready once it has begun; systems that do not answer are waited for."""
    heartbeat = trader_heartbeat(settings.data_dir, settings.trading.account)
    environment = settings_environment(settings, KEPT_FROM_TRADER)
    made = _beating_service(settings, system, TRADER_STARTED, heartbeat, _TRADER_NEEDS, environment)
    return replace(made, optional=_waits_for_person(settings))


def _beating_service(
    settings: Settings,
    system: System,
    started: str,
    heartbeat: Heartbeat,
    needs: tuple[str, ...],
    environment: dict[str, str],
) -> Service:
    """Return a service without a port: its log says that it has begun, its heartbeat that it works."""
    return Service(
        name=system.name,
        argv=module("pipeline_assets", system.name),
        ready=partial(has_logged, settings.data_dir, system.name, started),
        environment=environment,
        health=HealthCheck(_beating(heartbeat)),
        after=_embedded(settings, needs),
    )


def _embedded(settings: Settings, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each.name for each in systems(settings) if each.embedded and each.name in names)


def _serving(url: str) -> Ask:
    def ask() -> None:
        answer = http_json(url, timeout=TIMEOUT)
        if answer.get("status") != "SERVING":
            raise UnhealthyError("the gateway serves no calls")

    return ask


def _beating(heartbeat: Heartbeat) -> Ask:
    def ask() -> None:
        age = heartbeat.age()
        if age is None or age > _SILENCE_SECONDS:
            since = "at all" if age is None else f"for {age:.0f} s"
            raise UnhealthyError(f"it has shown no work {since}")

    return ask
