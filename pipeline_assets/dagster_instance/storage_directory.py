"""Where Dagster's storages in files have their directories. Their content is not known here."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def storage_directory(config: Mapping[str, Any], storage: str, *below_home: str) -> str:
    """Return the configured `base_dir`, or the directory of Dagster's own class below DAGSTER_HOME.

    Args:
        config: the storage's `config` in dagster.yaml.
        storage: the storage's key in dagster.yaml, for the error.
        below_home: the names that lead from DAGSTER_HOME to the directory.

    Raises:
        ValueError: neither `base_dir` nor DAGSTER_HOME is set.
    """
    directory = config.get("base_dir")
    if directory is not None:
        return str(directory)
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        raise ValueError(
            f"The place of Dagster's {storage} is not configured: set DAGSTER_HOME, or `base_dir` in the "
            f"`config` of `{storage}` in dagster.yaml."
        )
    return str(Path(home).joinpath(*below_home))
