"""The environment in which the stack's processes run: settings, credentials, directories."""

import json
import os
import site
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from pipeline_assets import proxies
from pipeline_assets.local.data_directory import make_private, making
from pipeline_assets.settings import PREFIX, Settings, making_embedded_credentials
from pipeline_assets.settings.files import CONFIG_FILE

REPOSITORY = Path(__file__).resolve().parents[2]


def outer_environment() -> dict[str, str]:
    """Return this process's environment without settings, for a program that reads none."""
    environment = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)
    }
    proxies.complete(environment)
    return environment


def settings_environment(settings: Settings, without: Collection[str] = ()) -> dict[str, str]:
    """Return this process's environment with every setting in it, secrets included.

    Children thereby have the same settings, whichever of config.yaml, .env, the environment or an
    argument each came from, and find this package wherever they are started.

    Args:
        settings: to hand on.
        without: variables that stay empty, which counts as unset: the child's own reading of .env does not
            bring these back.
    """
    environment = outer_environment()
    if CONFIG_FILE in os.environ:
        environment[CONFIG_FILE] = os.environ[CONFIG_FILE]
    # A run's process starts each minute: without bytecode its imports cost a second and a half more.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            for key in type(value).model_fields:
                variable = f"{PREFIX}{name}__{key}".upper()
                environment[variable] = _as_text(getattr(value, key))
        else:
            environment[f"{PREFIX}{name}".upper()] = _as_text(value)
    environment |= dict.fromkeys(without, "")
    environment["PYTHONPATH"] = python_path()
    return environment


def python_path() -> str:
    """Return a PYTHONPATH by which children find this package wherever they are started."""
    # Installed, it is found without; and installed packages must not come before Python's own modules.
    installed = str(REPOSITORY) in site.getsitepackages()
    own = [] if installed else [str(REPOSITORY)]
    return os.pathsep.join([*own, *filter(None, [os.environ.get("PYTHONPATH")])])


def configuration_file(name: str) -> Path:
    """Return dagster.yaml or workspace.yaml: that of the current directory, like config.yaml, or our own."""
    given = Path.cwd() / name
    return given if given.is_file() else Path(__file__).parents[1] / "init_files" / name


def dagster_environment(settings: Settings, without: Collection[str] = ()) -> dict[str, str]:
    """Return the environment for Dagster's processes, with DAGSTER_HOME made and its dagster.yaml linked.

    Safe to repeat. A dagster.yaml that a person put there as a file of their own is left alone.

    Args:
        settings: to hand on.
        without: as in `settings_environment`.

    Raises:
        StackError: the directory cannot be made.
    """
    home = settings.data_dir / "dagster"
    with making(home):
        make_private(settings.data_dir)
        home.mkdir(mode=0o700, exist_ok=True)
    source, link = configuration_file("dagster.yaml"), home / "dagster.yaml"
    if link.is_symlink() and link.readlink() != source:
        link.unlink()
    if not link.exists():
        link.symlink_to(source)
    return {**settings_environment(settings, without), "DAGSTER_HOME": str(home)}


def prepared(settings: Settings) -> Settings:
    """Return the settings with the embedded servers' credentials; make the data directory private.

    A program that starts a stack and then talks to it takes these settings. Safe to repeat: credentials
    that exist are kept.

    Raises:
        StackError: the data directory cannot be made or closed to other users.
        SettingsError: the file of the credentials is damaged.
    """
    with making(settings.data_dir):
        make_private(settings.data_dir)
    return making_embedded_credentials(settings)


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, dict):
        return json.dumps({key: _as_text(each) for key, each in value.items()}, ensure_ascii=False)
    if not isinstance(value, tuple):
        return str(value)
    if value and isinstance(value[0], str):
        return ",".join(value)
    return json.dumps([each.model_dump(mode="json") for each in value], ensure_ascii=False)
