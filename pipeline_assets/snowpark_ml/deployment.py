"""The deployment of a strategy's current model by the public registry of snowflake-ml-python. Answers for a
server without a registry are in recording.py.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline_assets.errors import InputError
from pipeline_assets.outside_text import printable
from pipeline_assets.research.model_registry import LoadedModel, ModelRegistry, NoModel
from pipeline_assets.resources.warehouse_connection import WarehouseError, WarehouseSessions
from pipeline_assets.snowpark_ml import names

if TYPE_CHECKING:
    from snowflake.ml.model import ModelVersion
    from snowflake.ml.registry import Registry


class NotDeployedError(InputError):
    """There is no current model to deploy. The message says why."""


@dataclass(frozen=True)
class Deployment:
    """A model in Snowflake's registry; `created` is False where an earlier deployment made the version."""

    model: str
    version: str
    created: bool


def current_model(registry: ModelRegistry, strategy: str) -> LoadedModel:
    """Return the model that decides for a strategy.

    Raises:
        NotDeployedError: there is none, or it cannot be used.
        ObjectStoreError: the store does not answer.
    """
    found = registry.current(strategy)
    if isinstance(found, NoModel):
        raise NotDeployedError(f"Nothing is deployed ({found.reason}). {found.detail}")
    return found


def deploy(sessions: WarehouseSessions, loaded: LoadedModel) -> Deployment:
    """Log a model as a version of Snowflake's model and make it the default; may be repeated.

    Args:
        sessions: the account.
        loaded: the model.

    Raises:
        WarehouseError: Snowflake cannot be reached or refuses.
    """
    from snowflake.ml.registry import Registry
    from snowflake.snowpark import Session
    from snowflake.snowpark.exceptions import SnowparkSQLException

    settings = sessions.settings
    with sessions.open("deploy the model") as connection:
        session = Session.builder.configs({"connection": connection}).create()
        try:
            registry = Registry(
                session,
                database_name=settings.database,
                schema_name=settings.schema_name,
                options={"enable_monitoring": False},
            )
            return _deployed(registry, loaded)
        except SnowparkSQLException as error:
            raise WarehouseError(
                f"{sessions.where()} could not deploy the model: {printable(error.message)} The role needs "
                "CREATE MODEL in the schema; the embedded server has no registry: use --dry-run there."
            ) from None


def _deployed(registry: "Registry", loaded: LoadedModel) -> Deployment:
    name = names.model_name(loaded.manifest.strategy)
    version = names.version_name(loaded.manifest)
    created = _existing(registry, name, version) is None
    if created:
        _log(registry, loaded, name, version)
    # A first version is the default by itself; a later one is not.
    registry.get_model(name).default = version
    return Deployment(name, version, created)


def _existing(registry: "Registry", name: str, version: str) -> "ModelVersion | None":
    try:
        return registry.get_model(name).version(version)
    # The registry says by it that there is no such model or version.
    except ValueError:
        return None


def _log(registry: "Registry", loaded: LoadedModel, name: str, version: str) -> None:
    manifest = loaded.manifest
    metrics: dict[str, Any] = dict(manifest.metrics)
    registry.log_model(
        loaded.model.estimator,
        model_name=name,
        version_name=version,
        comment=names.description(manifest),
        metrics=metrics,
        signatures={names.METHOD.lower(): _signature(manifest.columns)},
        target_platforms=["WAREHOUSE"],
        # Packages of the same minor release: which patches the channel of Snowflake has is not known.
        options={"enable_explainability": False, "relax_version": True},
    )


def _signature(columns: tuple[str, ...]) -> Any:
    """Return the columns of the method: numbers that are not nullable, so that NULL arrives as NaN.

    A nullable column arrives as `pandas.NA`, which scikit-learn does not take for a missing number.
    """
    from snowflake.ml.model.model_signature import DataType, FeatureSpec, ModelSignature

    def number(name: str) -> FeatureSpec:
        return FeatureSpec(dtype=DataType.DOUBLE, name=name, nullable=False)

    return ModelSignature(
        inputs=[number(name) for name in columns],
        outputs=[number(name) for name in (names.LOST, names.WON)],
    )
