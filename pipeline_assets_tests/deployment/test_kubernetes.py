"""The manifests: Kubernetes' schemas, and what they promise about each pod. No cluster is asked here."""

import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline_assets_tests.deployment.files import (
    DEPLOY,
    ROOT,
    alternatives,
    deployments,
    document,
    faults,
    file_settings,
    kind_validator,
    manifests,
    option,
    secret_settings,
    total_processes,
)
from pipeline_assets_tests.deployment.test_compose import loaded, read_back

FOLDER = DEPLOY / "kubernetes"
SETTINGS_FILE = FOLDER / "settings.yaml"
SETTINGS = next(each["data"] for each in manifests() if each["kind"] == "ConfigMap")


def named(each: dict[str, Any]) -> str:
    return f"{each['kind']}-{each['metadata']['name']}"


@pytest.mark.parametrize("manifest", manifests(), ids=named)
def test_manifest_follows_the_schema(manifest: dict[str, Any]) -> None:
    assert faults(kind_validator(manifest["kind"]), manifest) == []


def test_schema_finds_a_misspelt_key() -> None:
    broken = deployments()["trader"]
    broken["spec"]["template"]["spec"]["containers"][0]["readOnlyRootFilesystem"] = True
    (fault,) = faults(kind_validator("Deployment"), broken)
    assert "'readOnlyRootFilesystem' was unexpected" in fault


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_renders_the_manifests() -> None:
    """Kustomize adds the patch to every pod, as the checks of this file do."""
    command = ("kubectl", "kustomize", "--load-restrictor", "LoadRestrictionsNone", str(FOLDER))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rendered = list(yaml.safe_load_all(done.stdout))
    for each in rendered:
        assert faults(kind_validator(each["kind"]), each) == [], named(each)
        assert each["metadata"]["namespace"] == "pipeline"
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]
        for each in rendered
        if each["kind"] == "Deployment"
    }
    version = document(FOLDER / "kustomization.yaml")["images"][0]
    for name, ours in deployments().items():
        expected = ours["spec"]["template"]["spec"]
        expected["containers"][0]["image"] = f"{version['newName']}:{version['newTag']}"
        for value in (expected, pods[name]):
            value["containers"][0]["env"] = sorted(
                value["containers"][0].get("env", []), key=lambda each: each["name"]
            )
        assert pods[name] == expected, name
    (instance,) = (each for each in rendered if each["metadata"]["name"] == "pipeline-dagster")
    assert instance["data"]["dagster.yaml"] == (ROOT / "dagster.yaml").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(deployments()))
def test_pod_has_no_privileges(name: str) -> None:
    pod = deployments()[name]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} <= set(container["resources"])
    assert container["livenessProbe"]["exec"]["command"] == ["pipeline-healthcheck"]


@pytest.mark.parametrize("name", ["gateway", "trader", "inference"])
def test_trading_pod_is_alone(name: str) -> None:
    """The old pod ends before the new one starts."""
    spec = deployments()[name]["spec"]
    assert spec["replicas"] <= 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_each_queue_survives_a_pod() -> None:
    """With one pod of a queue away, the workers still execute as many runs as Dagster starts."""
    workers = {
        name: (each["spec"]["template"]["spec"]["containers"][0]["args"], each["spec"]["replicas"])
        for name, each in deployments().items()
        if name.startswith("worker-")
    }
    assert {option(args, "--queues") for args, _ in workers.values()} == {"ingest", "backfill"}
    most = document(ROOT / "dagster.yaml")["concurrency"]["runs"]["max_concurrent_runs"]
    for args, replicas in workers.values():
        assert replicas > 1
        assert total_processes(workers) - int(option(args, "--concurrency")) >= most


def test_selectors_find_pods() -> None:
    """Each Service, budget and policy selects pods that exist, ours or those of Dagster's chart."""
    labels = {
        name: each["spec"]["template"]["metadata"]["labels"] for name, each in deployments().items()
    }
    of_chart = ({"component": "user-deployments"}, {"component": "dagster-webserver"})
    known = [*labels.values(), *of_chart, {}]
    for each in manifests():
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            assert spec["selector"] in known, named(each)
        for part in ("podSelector", "selector"):
            if part in spec and each["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
                assert spec[part].get("matchLabels", {}) in known, named(each)
    for name, each in deployments().items():
        assert each["spec"]["selector"]["matchLabels"] == labels[name]


# The Secret adds these to the settings in comments.
OF_THE_SECRET = {
    "PIPELINE_KAFKA__SASL_PASSWORD": "of the Secret",
    "PIPELINE_KAFKA__SASL_OAUTHBEARER_CLIENT_SECRET": "of the Secret",
    "PIPELINE_CELERY__BROKER_URL": "rediss://pipeline:secret@broker.example.com:6379/1",
}


@pytest.mark.parametrize("group", alternatives(SETTINGS_FILE), ids=lambda group: next(iter(group)))
def test_alternative_settings_are_valid(
    group: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each group in comments loads in place of the lines with its names, holds no secret, and arrives."""
    assert not secret_settings() & set(group)
    monkeypatch.chdir(DEPLOY)
    found = loaded(monkeypatch, SETTINGS, OF_THE_SECRET, group)
    assert {name: read_back(found, name) for name in group} == group


def test_files_are_mounted() -> None:
    """Every setting that names a file is shown, at the place where all pods mount one Secret."""
    shown = {name: value for group in alternatives(SETTINGS_FILE) for name, value in group.items()}
    assert file_settings() <= set(shown)
    assert {str(Path(shown[name]).parent) for name in file_settings()} == {"/run/pipeline"}
    for name, each in deployments().items():
        assert mounted_secret(each["spec"]["template"]["spec"]) == "pipeline-files", name


def mounted_secret(pod: dict[str, Any]) -> str:
    """Return the Secret at /run/pipeline, which the pod's user can read and the pod starts without."""
    (container,) = pod["containers"]
    (mount,) = (each for each in container["volumeMounts"] if each["mountPath"] == "/run/pipeline")
    assert mount["readOnly"] is True
    (volume,) = (each for each in pod["volumes"] if each["name"] == mount["name"])
    secret = volume["secret"]
    assert secret["optional"] is True
    # The group is the pod's; other users cannot read.
    assert secret["defaultMode"] == stat.S_IRUSR | stat.S_IRGRP
    return str(secret["secretName"])


def test_settings_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ConfigMap's settings load, hold no secret, and name no embedded system."""
    assert not secret_settings() & set(SETTINGS)
    monkeypatch.chdir(DEPLOY)
    found = loaded(monkeypatch, SETTINGS, {"PIPELINE_KAFKA__SASL_PASSWORD": "of the Secret"})
    parts = (found.s3, found.redis, found.snowflake, found.kafka, found.binance, found.gateway)
    assert [type(each).__name__ for each in parts if getattr(each, "embedded", False)] == []


def test_incoming_traffic_is_closed_by_default() -> None:
    """A policy of all pods allows nothing, and no other policy allows everyone."""
    policies = {
        each["metadata"]["name"]: each["spec"]
        for each in manifests()
        if each["kind"] == "NetworkPolicy"
    }
    assert policies.pop("deny-incoming") == {"podSelector": {}, "policyTypes": ["Ingress"]}
    for name, spec in policies.items():
        for rule in spec["ingress"]:
            assert rule["from"], name
            assert rule["ports"], name
