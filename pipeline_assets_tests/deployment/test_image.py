"""The image: its instructions, its two scripts, and its build stage carried out without containers."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from pipeline_assets_tests.deployment.dockerfile import (
    build,
    image_environment,
    instructions,
    stages,
)
from pipeline_assets_tests.deployment.files import DEPLOY, ROOT

HEALTHCHECK = DEPLOY / "image" / "pipeline-healthcheck"
COMMANDS = {
    "worker": "python -m pipeline_assets.services.worker --queues ingest --name pod-1",
    "metrics": "python -m pipeline_assets.services.metrics --host 0.0.0.0",
    "code-server": "/opt/pipeline/bin/python /opt/pipeline/bin/dagster code-server start -p 4000",
    "webserver": "/opt/pipeline/bin/python -m pipeline_assets.dagster_instance.webserver -p 3000",
    "daemon": "/sbin/docker-init -- dagster-daemon run -w /etc/dagster/workspace.yaml",
    "gateway": "/opt/pipeline/bin/python /opt/pipeline/bin/pipeline-assets gateway",
    "trader": "/opt/pipeline/bin/python /opt/pipeline/bin/pipeline-assets trader",
    "inference": "/opt/pipeline/bin/python /opt/pipeline/bin/pipeline-assets inference",
}
CHECKS = {
    "worker": "python -m pipeline_assets.services.alive worker pod-1",
    "metrics": "http://localhost:9102/health",
    "code-server": "dagster api grpc-health-check -p 4000",
    "webserver": "http://localhost:3000/server_info",
    "daemon": "dagster-daemon liveness-check",
    "gateway": "http://localhost:28091/health",
    "trader": "python -m pipeline_assets.services.alive trader",
    "inference": "python -m pipeline_assets.services.alive inference",
}


def test_image_runs_as_another_user() -> None:
    """The last user is a number, which Kubernetes can compare with root's."""
    users = [rest for word, rest in stages()[-1] if word == "USER"]
    assert users == ["10001:10001"]
    assert any(word == "HEALTHCHECK" for word, _ in stages()[-1])
    assert "PIPELINE_CONFIG_FILE" in image_environment()


def test_image_takes_pinned_versions() -> None:
    """Everything that pip installs is constrained, and the embedded servers stay out."""
    (install,) = (rest for word, rest in stages()[0] if word == "RUN" and "pip install" in rest)
    assert "-c constraints.txt" in install
    assert "embedded" not in install


def test_build_reads_nothing_else() -> None:
    """Each copied file exists and is in the build's context, from which everything else is left out."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    assert "*" in ignored
    kept = {line[1:] for line in ignored if line.startswith("!")}
    for word, rest in instructions():
        if word != "COPY" or "--from" in rest:
            continue
        *sources, _ = (part for part in rest.split() if not part.startswith("--"))
        for source in sources:
            parts = Path(source.removeprefix("./"))
            assert (ROOT / parts).exists()
            assert {str(each) for each in (parts, *parts.parents)} & kept


def test_package_names_no_deployment_file() -> None:
    """The wheel has none of these files, so its texts do not refer to them."""
    named = [
        str(each.relative_to(ROOT))
        for each in (ROOT / "pipeline_assets").rglob("*")
        if each.suffix in (".py", ".sql", ".lua", ".j2") and "deploy/" in each.read_text("utf-8")
    ]
    assert named == []


def test_scripts_may_be_executed() -> None:
    for each in (DEPLOY / "image").iterdir():
        assert each.stat().st_mode & stat.S_IXUSR, each.name
        subprocess.run(["sh", "-n", str(each)], check=True)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Provide programs on PATH that print their command and do nothing."""
    for name in ("python", "dagster", "dagster-daemon"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*"\n', encoding="utf-8")
        program.chmod(0o755)
    return tmp_path


def checked(programs: Path, *arguments: str, process: str = "") -> subprocess.CompletedProcess[str]:
    """Run the health check beside a first process of this command line."""
    first = programs / "cmdline"
    first.write_text(process.replace(" ", "\0"), encoding="utf-8")
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "HOSTNAME": "pod-1",
        "FIRST_PROCESS": str(first),
        "PIPELINE_DATA_DIR": str(programs),
    }
    command = [str(HEALTHCHECK), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("service", sorted(COMMANDS))
def test_service_is_read_from_first_process(programs: Path, service: str) -> None:
    """The check of a pod needs no argument; the compose file names the service."""
    by_process = checked(programs, process=COMMANDS[service])
    by_name = checked(programs, service)
    assert by_process.returncode == by_name.returncode == 0
    assert by_process.stdout == by_name.stdout
    assert by_name.stdout.strip().endswith(CHECKS[service])


def test_unknown_service_is_unhealthy(programs: Path) -> None:
    done = checked(programs, process="sleep 60")
    assert done.returncode == 1
    assert "no check" in done.stderr


def test_silent_watchdog_is_unhealthy(programs: Path) -> None:
    """A report that is absent or old fails the check."""
    assert checked(programs, "watch").returncode != 0
    report = programs / "watchdog.json"
    report.touch()
    assert checked(programs, "watch").returncode == 0
    os.utime(report, (0, 0))
    assert checked(programs, "watch").returncode != 0


@pytest.mark.matrix
@pytest.mark.timeout(1800)
def test_build_stage_runs_in_bare_environment(tmp_path: Path) -> None:
    """With a plain Python and nothing else, the build stage makes an environment that runs the services."""
    environment = build(tmp_path)
    for command in (
        ("pipeline-assets", "gateway", "--help"),
        ("python", "-m", "pipeline_assets.services.worker", "--help"),
        ("python", "-m", "pipeline_assets.services.metrics", "--help"),
        ("dagster-daemon", "--help"),
        ("python", "-c", "import dagster_postgres, psycopg, psycopg2"),
    ):
        subprocess.run(
            [str(environment / "bin" / command[0]), *command[1:]], cwd=tmp_path, env={}, check=True
        )
    embedded = ("python", "-c", "import ministack")
    absent = subprocess.run(
        [str(environment / "bin" / embedded[0]), *embedded[1:]], cwd=tmp_path, env={}, check=False
    )
    assert absent.returncode != 0
