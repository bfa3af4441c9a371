"""The names that Dagster does not export and that jobs and sensors need. The private names of Dagster's
storage are in private_storage.py, which loads SQLAlchemy.

- `AssetCheckEvaluationTargetMaterializationData`: which materialization a check was evaluated on.
- `UnresolvedAssetJobDefinition`: the type that the public `define_asset_job` returns.
- `NOT_FINISHED_STATUSES`: the statuses of a run that has not ended; a list of our own would miss a new one.
"""

from pipeline_assets.private_apis import private_imports

with private_imports("dagster", __name__):
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
]
