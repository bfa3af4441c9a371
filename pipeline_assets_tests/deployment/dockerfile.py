"""The Dockerfile as instructions, and its build stage carried out in a directory. No assertions here.

No container runtime is needed: the build stage's RUN lines are executed by the shell, with the image's paths
below a directory and a plain Python on PATH. So nothing shows that a base image has what the lines need.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from pipeline_assets_tests.deployment.files import DEPLOY, ROOT

Instruction = tuple[str, str]


def instructions(path: Path = DEPLOY / "Dockerfile") -> list[Instruction]:
    """Return each instruction with its arguments, continued lines joined."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)
    ]


def stages() -> list[list[Instruction]]:
    """Return the instructions of each stage."""
    found: list[list[Instruction]] = []
    for each in instructions():
        if each[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(each)
    return found


def image_environment() -> dict[str, str]:
    """Return the variables that the image sets."""
    assignments = [
        part for word, rest in stages()[-1] if word == "ENV" for part in shlex.split(rest)
    ]
    return dict(each.split("=", 1) for each in assignments)


def build(root: Path) -> Path:
    """Carry out the build stage below `root`; return the environment that it makes."""
    python = root / "python"
    python.mkdir()
    (python / "python").symlink_to(Path(sys.base_prefix) / "bin" / "python3.11")
    environment = {"PATH": f"{python}:/usr/bin:/bin", "HOME": str(root), "LANG": "C.UTF-8"}
    # A pip that needs them has its own settings for the index and its certificates.
    environment |= {
        name: value for name, value in os.environ.items() if re.match("PIP_|SSL_|HTTPS?_", name)
    }
    where = root
    for word, rest in stages()[0]:
        if word == "WORKDIR":
            where = root / rest.lstrip("/")
            where.mkdir(parents=True)
        elif word == "ENV":
            environment |= dict(each.split("=", 1) for each in shlex.split(rest))
        elif word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                _copy(ROOT / source, where / target)
        elif word == "RUN":
            command = re.sub(r"--mount=\S+", "", rest)
            command = command.replace("/opt/pipeline", str(root / "opt/pipeline"))
            subprocess.run(
                ["sh", "-ec", command.replace("cd / ", f"cd {root} ")],
                cwd=where,
                env=environment,
                check=True,
            )
    return root / "opt/pipeline"


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, target, ignore=unwanted)
        return
    directory = target if target.is_dir() else target.parent
    shutil.copy(source, directory / source.name)
