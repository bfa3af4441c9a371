"""The values for the official charts of Dagster and Airflow. Helm is not run here: the values are compared
with what the charts document, and with the files that they have to fit.
"""

import re
from importlib import import_module
from importlib.metadata import version

from pipeline_assets.cli.dagster_web import LOCATION
from pipeline_assets_tests.deployment.files import (
    DEPLOY,
    ROOT,
    chart_validator,
    document,
    faults,
)
from pipeline_assets_tests.deployment.test_kubernetes import SETTINGS, mounted_secret

DAGSTER = document(DEPLOY / "helm" / "dagster-values.yaml")
AIRFLOW = document(DEPLOY / "helm" / "airflow-values.yaml")
KUSTOMIZATION = document(DEPLOY / "kubernetes" / "kustomization.yaml")
CODE_SERVER = DAGSTER["dagster-user-deployments"]["deployments"][0]
PODS = (DAGSTER["dagsterWebserver"], DAGSTER["dagsterDaemon"], CODE_SERVER)


def test_values_follow_the_charts() -> None:
    assert faults(chart_validator("dagster"), DAGSTER) == []
    assert faults(chart_validator("airflow"), AIRFLOW) == []


def test_schemas_find_a_misspelt_key() -> None:
    webserver = DAGSTER["dagsterWebserver"] | {"envSecret": []}
    assert faults(chart_validator("dagster"), DAGSTER | {"dagsterWebserver": webserver}) != []
    probe = {"exec": {"command": ["x"]}, "periodSecond": 1}
    daemon = DAGSTER["dagsterDaemon"] | {"livenessProbe": probe}
    assert faults(chart_validator("dagster"), DAGSTER | {"dagsterDaemon": daemon}) != []
    assert faults(chart_validator("airflow"), AIRFLOW | {"webserver": {}}) != []


def test_schemas_find_values_that_the_charts_spoil() -> None:
    """The chart takes all three, and a cluster refuses the image or gives our pods rights over others."""
    postgresql = DAGSTER["postgresql"]
    doubled = postgresql["image"] | {"repository": "docker.io/library/postgres"}
    code_servers = dict(DAGSTER["dagster-user-deployments"])
    del code_servers["rbacEnabled"]
    for change in (
        {"postgresql": postgresql | {"image": doubled}},
        {"dagster-user-deployments": code_servers},
        {"rbacEnabled": True},
    ):
        assert faults(chart_validator("dagster"), DAGSTER | change) != []


def test_launcher_of_the_chart_exists() -> None:
    """The chart's own instance file, which its migration job reads, names our launcher."""
    custom = DAGSTER["runLauncher"]["config"]["customRunLauncher"]
    assert hasattr(import_module(custom["module"]), custom["class"])
    assert custom == document(ROOT / "dagster.yaml")["run_launcher"] | {"config": {}}


def test_pods_read_our_instance_file() -> None:
    """DAGSTER_HOME is ours and not the chart's, whose own mount would collide with it."""
    for pod in PODS:
        (home,) = (each["value"] for each in pod["env"] if each["name"] == "DAGSTER_HOME")
        assert home != DAGSTER["global"]["dagsterHome"]
        mounts = {each["mountPath"]: each["name"] for each in pod["volumeMounts"]}
        volumes = {each["name"]: each for each in pod["volumes"]}
        mounted = volumes[mounts[f"{home}/dagster.yaml"]]["configMap"]["name"]
        assert mounted in {each["name"] for each in KUSTOMIZATION["configMapGenerator"]}
        # The chart's own volumes.
        assert not {"dagster-instance", "dagster-workspace-yaml"} & set(volumes)


def test_pods_have_our_settings() -> None:
    for pod in PODS:
        assert pod["envConfigMaps"] == [{"name": "pipeline-settings"}]
        assert pod["envSecrets"] == [{"name": "pipeline-secrets"}]
        assert pod["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["podSecurityContext"]["runAsNonRoot"] is True
        as_pod = {"containers": [pod], "volumes": pod["volumes"]}
        assert mounted_secret(as_pod) == "pipeline-files"


def test_names_and_ports_agree() -> None:
    """The settings find the web server, and the web server finds the code server."""
    webserver = DAGSTER["dagsterWebserver"]
    assert SETTINGS["PIPELINE_DAGSTER__HOST"] == f"dagster-{webserver['nameOverride']}"
    assert SETTINGS["PIPELINE_DAGSTER__WEBSERVER_PORT"] == str(webserver["service"]["port"])
    assert SETTINGS["PIPELINE_DAGSTER__HOST"] in SETTINGS["PIPELINE_ALLOWED_HOSTS"].split(",")
    server = {"host": CODE_SERVER["name"], "port": CODE_SERVER["port"], "name": LOCATION}
    assert webserver["workspace"] == {"enabled": True, "servers": [server]}


def test_probes_pass_the_web_guard() -> None:
    """Kubernetes asks by the pod's address, which the guard refuses."""
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        asked = DAGSTER["dagsterWebserver"][probe]["httpGet"]
        assert asked["httpHeaders"] == [{"name": "Host", "value": "localhost"}]


def test_versions_agree() -> None:
    """One release everywhere, and the Airflow that the DAGs are tested with."""
    release = re.search(r"^version = (\S+)$", (ROOT / "setup.cfg").read_text("utf-8"), re.MULTILINE)
    assert release is not None
    tags = {pod["image"]["tag"] for pod in PODS} | {KUSTOMIZATION["images"][0]["newTag"]}
    assert tags == {release[1]}
    assert AIRFLOW["airflowVersion"] == version("apache-airflow")
    assert AIRFLOW["defaultAirflowTag"] == f"{AIRFLOW['airflowVersion']}-{release[1]}"
    dockerfile = (DEPLOY / "Dockerfile.airflow").read_text("utf-8")
    assert f"apache/airflow:{AIRFLOW['airflowVersion']}" in dockerfile
    assert version("dagster").startswith("1.13.")


def test_settings_of_airflow_exist() -> None:
    """airflow.cfg ignores an unknown key."""
    from airflow.configuration import conf

    for section, keys in AIRFLOW["config"].items():
        for key in keys:
            assert conf.get(section, key, fallback=None) is not None, f"{section}.{key}"
