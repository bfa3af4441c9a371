"""The files of deploy/ as data, and the schemas that they are checked against. No assertions here."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator
from pydantic import SecretStr
from referencing import Registry
from referencing.jsonschema import DRAFT7, DRAFT202012

from pipeline_assets.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SCHEMAS = Path(__file__).parent / "schemas"
KUBERNETES = json.loads((SCHEMAS / "kubernetes.schema.json").read_text("utf-8"))


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text("utf-8")))


def document(path: Path) -> dict[str, Any]:
    """Return the only document of a YAML file."""
    (found,) = documents(path)
    return found


def faults(validator: Validator, value: Any) -> list[str]:
    """Return each place that is wrong, with the reason."""
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(value)]


def chart_validator(name: str) -> Validator:
    """Return the checker of a chart's values."""
    known = Registry().with_resource("kubernetes", DRAFT7.create_resource(KUBERNETES))
    schema = document(SCHEMAS / f"{name}_chart.yaml")
    return Draft202012Validator(
        schema, registry=known.with_resource("", DRAFT202012.create_resource(schema))
    )


def kind_validator(kind: str) -> Validator:
    """Return the checker of manifests of a kind."""
    model = KUBERNETES["kinds"][kind]
    return Draft202012Validator({**KUBERNETES, "$ref": f"#/definitions/{model}"})


def manifests() -> list[dict[str, Any]]:
    """Return our manifests, each Deployment with what the patch adds to every pod."""
    folder = DEPLOY / "kubernetes"
    listed = document(folder / "kustomization.yaml")
    patch = document(folder / "pod.patch.yaml")
    found = [each for name in listed["resources"] for each in documents(folder / name)]
    return [
        merged(each, {"spec": patch["spec"]}) if each["kind"] == "Deployment" else each
        for each in found
    ]


def merged(base: Any, patch: Any) -> Any:
    """Return a strategic merge: mappings by key, lists of named items by name, other values replaced."""
    if isinstance(base, dict) and isinstance(patch, dict):
        added = {key: value for key, value in patch.items() if key not in base}
        return {
            key: merged(value, patch[key]) if key in patch else value for key, value in base.items()
        } | added
    if isinstance(base, list) and all(isinstance(each, dict) and "name" in each for each in base):
        left = {each["name"]: each for each in patch}
        return [merged(each, left.pop(each["name"], {})) for each in base] + list(left.values())
    return patch


def deployments() -> dict[str, dict[str, Any]]:
    """Return our Deployments by name."""
    return {each["metadata"]["name"]: each for each in manifests() if each["kind"] == "Deployment"}


def compose() -> dict[str, Any]:
    """Return the compose file."""
    return document(DEPLOY / "compose" / "compose.yaml")


def own_services() -> dict[str, dict[str, Any]]:
    """Return the services of the compose file that run our image."""
    services: dict[str, dict[str, Any]] = compose()["services"]
    return {name: each for name, each in services.items() if "PIPELINE_IMAGE" in each["image"]}


def example_environment() -> dict[str, str]:
    """Return the variables of the compose file's example."""
    lines = (DEPLOY / "compose" / "pipeline.env.example").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def alternatives(path: Path) -> list[dict[str, str]]:
    """Return each group of settings that stands in comments, as `# PIPELINE_NAME=value` or with a colon."""
    groups: list[dict[str, str]] = [{}]
    for line in path.read_text("utf-8").splitlines():
        found = re.fullmatch(r"\s*# (PIPELINE_[A-Z0-9_]+)(?:=|: )(.*)", line)
        if found is None:
            groups.append({})
        else:
            # In YAML a number stands in quotation marks.
            groups[-1][found[1]] = found[2].strip('"')
    return [group for group in groups if group]


def file_settings() -> set[str]:
    """Return the variables of all settings that name a certificate, a key or another file."""
    return {
        f"{PREFIX}{section}__{name}".upper()
        for section in ("s3", "redis", "snowflake", "kafka")
        for name, inner in getattr(
            Settings.model_fields[section].annotation, "model_fields", {}
        ).items()
        if Path in _parts(inner.annotation)
    }


def secret_settings() -> set[str]:
    """Return the variables of all settings that are secrets."""
    return {
        f"{PREFIX}{section}__{name}".upper()
        for section, field in Settings.model_fields.items()
        for name, inner in getattr(field.annotation, "model_fields", {}).items()
        if SecretStr in _parts(inner.annotation)
    }


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for each in getattr(annotation, "__args__", ()):
        yield from _parts(each)


def words(command: list[str]) -> list[str]:
    """Return the words of a command, those of a shell's line included."""
    return [word for part in command for word in part.replace('"', "").split()]


def option(command: list[str], name: str) -> str:
    """Return the value of an option."""
    found = words(command)
    return found[found.index(name) + 1]


def total_processes(commands: Mapping[str, tuple[list[str], int]]) -> int:
    """Return how many runs all workers execute at once, by name: command and replicas."""
    return sum(
        int(option(command, "--concurrency")) * replicas for command, replicas in commands.values()
    )
