"""Writes `schemas/kubernetes.schema.json` from the models of Kubernetes' Python client.

Run as `python -m pipeline_assets_tests.deployment.kubernetes_schema` in an environment that has the package
`kubernetes`, which the product itself does not need. The schema is strict: an unknown key is an error, as the
API server treats it with `--validate=strict`.
"""

import importlib
import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "schemas"
# The kinds that deploy/ uses, by the name that their model has in the client.
KINDS = {
    "ConfigMap": "V1ConfigMap",
    "Deployment": "V1Deployment",
    "NetworkPolicy": "V1NetworkPolicy",
    "PersistentVolumeClaim": "V1PersistentVolumeClaim",
    "PodDisruptionBudget": "V1PodDisruptionBudget",
    "Secret": "V1Secret",
    "Service": "V1Service",
    "ServiceAccount": "V1ServiceAccount",
}
# The values of the charts hold these parts of a pod.
PARTS = ("V1Container", "V1PodSpec", "V1Probe", "V1EnvVar", "V1Volume", "V1VolumeMount")
_PLAIN = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def schema() -> dict[str, Any]:
    """Return the definitions of the kinds and of everything that these refer to."""
    models = importlib.import_module("kubernetes.client.models")
    settings = importlib.import_module("kubernetes.client.configuration").Configuration()
    definitions: dict[str, Any] = {}
    left = [*KINDS.values(), *PARTS]
    while left:
        name = left.pop()
        if name in definitions:
            continue
        model = getattr(models, name)
        made = model.__new__(model)
        made.local_vars_configuration = settings
        properties, required = {}, []
        for attribute, kind in model.openapi_types.items():
            key = model.attribute_map[attribute]
            properties[key] = _schema_of(kind)
            left += [each for each in re.findall(r"\w+", kind) if hasattr(models, each)]
            if not _may_be_missing(made, attribute):
                required.append(key)
        definitions[name] = {"type": "object", "properties": properties}
        definitions[name]["additionalProperties"] = False
        if required:
            definitions[name]["required"] = sorted(required)
    return {
        "$comment": f"Made by kubernetes_schema.py from the Python client {version('kubernetes')}.",
        "kinds": KINDS,
        "definitions": definitions,
    }


def _may_be_missing(made: Any, attribute: str) -> bool:
    try:
        setattr(made, attribute, None)
    except ValueError:
        return False
    return True


def _schema_of(kind: str) -> dict[str, Any]:
    if found := re.fullmatch(r"list\[(.+)\]", kind):
        return {"type": "array", "items": _schema_of(found[1])}
    if found := re.fullmatch(r"dict[(\[](\w+), (.+)[)\]]", kind):
        return {"type": "object", "additionalProperties": _schema_of(found[2])}
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if kind in ("object", "datetime", "date"):
        return {}
    return {"$ref": f"#/definitions/{kind}"}


if __name__ == "__main__":
    text = json.dumps(schema(), sort_keys=True, separators=(",", ":"))
    (HERE / "kubernetes.schema.json").write_text(f"{text}\n", encoding="utf-8")
