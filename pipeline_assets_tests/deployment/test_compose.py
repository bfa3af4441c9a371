"""The compose file: its schema, and what it promises about each container. No container is started here."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from pydantic import SecretStr

from pipeline_assets.cli.main import COMMANDS
from pipeline_assets.settings import Settings, load_settings
from pipeline_assets_tests.deployment.files import (
    DEPLOY,
    ROOT,
    SCHEMAS,
    alternatives,
    compose,
    document,
    example_environment,
    faults,
    file_settings,
    option,
    own_services,
    secret_settings,
    total_processes,
    words,
)

EXAMPLE = DEPLOY / "compose" / "pipeline.env.example"
PROGRAMS = {"dagster", "dagster-daemon", "dagster-webserver"}


def test_file_follows_the_specification() -> None:
    schema = json.loads((SCHEMAS / "compose-spec.schema.json").read_text("utf-8"))
    assert faults(Draft202012Validator(schema), compose()) == []
    broken = compose()
    broken["services"]["trader"]["read_onyl"] = True
    assert faults(Draft202012Validator(schema), broken) != []


@pytest.mark.parametrize("name", sorted(own_services()))
def test_container_has_no_privileges(name: str) -> None:
    """Each container of our image is read-only, runs as another user than root, and cannot gain rights."""
    service = own_services()[name]
    assert service["read_only"] is True
    assert service["user"] == "10001:10001"
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert {each.split(":")[0] for each in service["tmpfs"]} == {
        "/tmp",
        "/var/lib/pipeline",
        "/var/lib/dagster",
    }


@pytest.mark.parametrize("name", sorted(own_services()))
def test_container_runs_a_known_program(name: str) -> None:
    command = words(own_services()[name]["command"])
    if "-m" in command and "dagster" not in command[0]:
        assert importlib.util.find_spec(option(command, "-m")) is not None
    elif command[0] == "pipeline-assets":
        assert command[1] in {each.name for each in COMMANDS}
    else:
        assert command[0] in PROGRAMS


@pytest.mark.parametrize("name", sorted(own_services()))
def test_container_has_a_health_check(name: str) -> None:
    """Each check is one that the image's script knows."""
    test = own_services()[name]["healthcheck"]["test"]
    assert test[:2] == ["CMD", "pipeline-healthcheck"]
    script = (DEPLOY / "image" / "pipeline-healthcheck").read_text("utf-8")
    assert f"{test[2]})" in script or f"{test[2]} |" in script


def test_ports_are_of_this_host_only() -> None:
    ports = [port for each in compose()["services"].values() for port in each.get("ports", ())]
    assert ports != []
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_mounted_files_exist() -> None:
    for name, each in compose()["configs"].items():
        assert "content" in each or (DEPLOY / "compose" / each["file"]).is_file(), name


def test_workers_suffice() -> None:
    """All workers together execute as many runs as Dagster starts."""
    workers = {
        name: (each["command"], 1)
        for name, each in own_services().items()
        if name.startswith("worker-")
    }
    assert {option(command, "--queues") for command, _ in workers.values()} == {
        "ingest",
        "backfill",
    }
    most = document(ROOT / "dagster.yaml")["concurrency"]["runs"]["max_concurrent_runs"]
    assert total_processes(workers) >= most


def test_secrets_are_no_part_of_the_file() -> None:
    """Secrets come from files that are not in the repository, and stand in no command."""
    assert "PIPELINE_GATEWAY__TOKEN" in secret_settings()
    for name, each in own_services().items():
        assert not secret_settings() & set(each["environment"]), name
    text = (DEPLOY / "compose" / "compose.yaml").read_text("utf-8")
    assert "requirepass" not in text
    ignored = (DEPLOY / ".gitignore").read_text("utf-8").split()
    assert {"pipeline.env", "secrets/"} <= set(ignored)


def loaded(monkeypatch: pytest.MonkeyPatch, *sources: dict[str, str]) -> Settings:
    """Return the settings of a container with these variables."""
    for name in os.environ:
        if name.startswith("PIPELINE_"):
            monkeypatch.delenv(name)
    for source in sources:
        for name, value in source.items():
            if name.startswith("PIPELINE_"):
                monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIPELINE_CONFIG_FILE", str(ROOT / "config.yaml"))
    return load_settings()


def read_back(settings: Settings, variable: str) -> str:
    """Return the value that a setting has, as text."""
    section, _, name = variable.removeprefix("PIPELINE_").lower().partition("__")
    value = getattr(getattr(settings, section), name)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("group", alternatives(EXAMPLE), ids=lambda group: next(iter(group)))
def test_alternative_settings_are_valid(
    group: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each group in comments loads in place of the lines with the same names, and arrives."""
    monkeypatch.chdir(DEPLOY)
    found = loaded(
        monkeypatch, example_environment(), group, own_services()["daemon"]["environment"]
    )
    single = {name: value for name, value in group.items() if "PROPERTIES" not in name}
    assert {name: read_back(found, name) for name in single} == single


def test_files_are_mounted() -> None:
    """The example shows every setting that names a file, at the place that all containers mount read-only."""
    shown = {name: value for group in alternatives(EXAMPLE) for name, value in group.items()}
    assert file_settings() <= set(shown)
    assert {str(Path(shown[name]).parent) for name in file_settings()} == {"/run/pipeline"}
    for name, each in own_services().items():
        (mount,) = each["volumes"]
        assert mount.split(":")[1:] == ["/run/pipeline", "ro"], name
        # Its directory is not in the repository.
        assert mount.startswith("./secrets/")


def test_example_sets_what_a_person_may_change() -> None:
    """The compose file's own variables come before those of pipeline.env, so none of them is shown there."""
    shown = set(example_environment()).union(*alternatives(EXAMPLE))
    for name, each in own_services().items():
        assert not shown & set(each["environment"]), name


@pytest.mark.parametrize("name", sorted(own_services()))
def test_settings_of_container_are_valid(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example's settings load, and no system is the embedded stack's."""
    monkeypatch.chdir(DEPLOY)
    found = loaded(monkeypatch, example_environment(), own_services()[name]["environment"])
    parts = (found.s3, found.redis, found.snowflake, found.kafka, found.binance, found.gateway)
    assert [type(each).__name__ for each in parts if getattr(each, "embedded", False)] == []
