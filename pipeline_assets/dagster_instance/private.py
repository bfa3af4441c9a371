"""The names that Dagster does not export and that jobs and sensors need. Nothing else of the product imports
them from `dagster._core`; an import error here says which version was installed.

- `UnresolvedAssetJobDefinition`: the type that the public `define_asset_job` returns.
- `NOT_FINISHED_STATUSES`: the statuses of a run that has not ended; a list of our own would miss a new one.
"""

import dagster

try:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition,
    )
    from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
except ImportError as error:
    raise ImportError(
        f"Dagster {dagster.__version__} has moved or removed a name that this package imports: {error}. "
        "Install the version in constraints.txt."
    ) from error

__all__ = ["NOT_FINISHED_STATUSES", "UnresolvedAssetJobDefinition"]
