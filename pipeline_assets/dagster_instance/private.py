"""The names that Dagster does not export and that jobs and sensors need, and the check of all such names.
Those of Dagster's storage are in private_storage.py, which loads SQLAlchemy.

- `AssetCheckEvaluationTargetMaterializationData`: which materialization a check was evaluated on.
- `UnresolvedAssetJobDefinition`: the type that the public `define_asset_job` returns.
- `NOT_FINISHED_STATUSES`: the statuses of a run that has not ended; a list of our own would miss a new one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster


@contextmanager
def private_names() -> Iterator[None]:
    """Name Dagster's version, and what changed, if an import in the block fails.

    Raises:
        ImportError: Dagster has moved or removed a name.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"Dagster {dagster.__version__} has changed: {error}. Install the version in constraints.txt."
        ) from error


def require(owner: object, *names: str) -> None:
    """Check that a private part of Dagster has the attributes that this package uses.

    Raises:
        ImportError: an attribute is missing.
    """
    missing = [name for name in names if not hasattr(owner, name)]
    if missing:
        owned = getattr(owner, "__name__", type(owner).__name__)
        raise ImportError(f"{owned} has no {', '.join(missing)}")


with private_names():
    from dagster._core.definitions.asset_checks.asset_check_evaluation import (
        AssetCheckEvaluationTargetMaterializationData,
    )
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )
    from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

__all__ = [
    "NOT_FINISHED_STATUSES",
    "AssetCheckEvaluationTargetMaterializationData",
    "UnresolvedAssetJobDefinition",
    "private_names",
    "require",
]
