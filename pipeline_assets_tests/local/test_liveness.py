"""The whole stack recovers without help when one of its processes dies or hangs."""

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_assets.local.stack import running_stack, stack_status
from pipeline_assets.settings import Settings
from pipeline_assets_tests.fixtures.roster import CODE, GUARD, RUN, SUPERVISOR, stack_processes
from pipeline_assets_tests.fixtures.s3 import eventually, free_port

QUERY = """{ repositoryOrError(repositorySelector: {repositoryName: "__repository__",
  repositoryLocationName: "pipeline_assets"}) { __typename } }"""


def stack_settings(directory: Path, **changes: object) -> Settings:
    exchange = f"http://127.0.0.1:{free_port()}"
    return Settings(
        data_dir=directory,
        binance={"rest_url": exchange, "archive_url": exchange},
        s3={"endpoint_url": f"http://127.0.0.1:{free_port()}"},
        redis={"url": f"redis://127.0.0.1:{free_port()}/0"},
        snowflake={"port": free_port()},
        kafka={"bootstrap_servers": f"127.0.0.1:{free_port()}"},
        dagster={"webserver_port": free_port(), "code_server_port": free_port()},
        gateway={"grpc_port": free_port(), "http_port": free_port()},
        **changes,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    settings = stack_settings(tmp_path_factory.mktemp("stack"))
    with running_stack(settings):
        yield settings


def is_loaded(settings: Settings) -> bool:
    """Return whether the web server finds the repository of the code location."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.dagster.webserver_port}/graphql",
        json.dumps({"query": QUERY}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            found = json.load(reply)
    except (OSError, ValueError):
        return False
    return bool(
        (found.get("data") or {}).get("repositoryOrError", {}).get("__typename") == "Repository"
    )


def restarts(settings: Settings) -> dict[str, int]:
    return {each.name: each.restarts for each in stack_status(settings).services}


def pid_of(settings: Settings, role: str) -> int:
    return next(each.pid for each in stack_processes(settings.data_dir) if each.role == role)


@pytest.mark.matrix
def test_dead_definitions_process_is_loaded_again(whole: Settings) -> None:
    """kill -9 of the process behind the code server's proxy, which lives on and says nothing."""
    eventually(lambda: is_loaded(whole), "the location is loaded", 120)
    before = restarts(whole)["code-server"]
    os.kill(pid_of(whole, CODE), signal.SIGKILL)
    eventually(lambda: restarts(whole)["code-server"] > before, "the restart", 120)
    eventually(lambda: stack_status(whole).is_up and is_loaded(whole), "it is loaded again", 200)


@pytest.mark.matrix
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("airflow", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_whatever_process_fails_the_stack_heals(
    tmp_path: Path, number: signal.Signals, airflow: bool
) -> None:
    settings = stack_settings(tmp_path, airflow={"enabled": airflow, "port": free_port()})
    with running_stack(settings):
        roles = {each.role for each in stack_processes(settings.data_dir)} - {
            SUPERVISOR,
            GUARD,
            RUN,
        }
        for role in sorted(each for each in roles if not each.endswith("/other")):
            eventually(lambda: is_loaded(settings), "the location is loaded", 300)
            before = stack_processes(settings.data_dir)
            victims = [each for each in before if each.role == role]
            for each in victims:
                os.kill(each.pid, number)

            def healed(gone: frozenset[int] = frozenset(each.pid for each in victims)) -> bool:
                pids = {each.pid for each in stack_processes(settings.data_dir)}
                return not gone & pids and stack_status(settings).is_up and is_loaded(settings)

            if not role.endswith("/worker"):
                eventually(healed, f"{role} is back", 400)
