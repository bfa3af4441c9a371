"""The registry of candidate models: the current model of a strategy, ready to judge, or the reason why there
is none. Objects and their keys are in resources/model_objects.py, promotions in resources/current_models.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import ValidationError

from pipeline_assets.errors import InputError
from pipeline_assets.research import model_files
from pipeline_assets.research.candidate_model import CandidateModel, ModelFacts
from pipeline_assets.research.model_inputs import input_columns
from pipeline_assets.resources import current_models
from pipeline_assets.resources.current_models import CurrentModel, Outcome, Promoter
from pipeline_assets.resources.document_versions import NewerVersionError
from pipeline_assets.resources.model_objects import (
    DamagedModelError,
    Manifest,
    known_manifest,
    read_manifest,
    read_model_file,
    stored_models,
)
from pipeline_assets.resources.object_store import ObjectStore


class NoModelReason(StrEnum):
    """Why no model judges a strategy's candidates, as it stands in decisions."""

    NO_MODEL = "no_model"
    MODEL_DAMAGED = "model_damaged"
    MODEL_UNFIT = "model_unfit"


class NotUsableError(InputError):
    """A model cannot be promoted. The message says what is wrong with it."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to judge, and its manifest."""

    manifest: Manifest
    model: CandidateModel


@dataclass(frozen=True)
class NoModel:
    """The reason why no model judges a strategy's candidates, and what is wrong, in words."""

    reason: NoModelReason
    detail: str


class ModelRegistry:
    """The models on a lake. The model of each strategy loaded last is kept, for models never change."""

    def __init__(self, store: ObjectStore) -> None:
        """Open the registry of a lake; nothing is read yet."""
        self._store = store
        self._loaded: dict[str, LoadedModel] = {}

    def current(self, strategy: str, strategy_version: str | None = None) -> LoadedModel | NoModel:
        """Return the current model of a strategy, or the reason why there is none.

        One small object is read a call; the model's own objects are read when it changes.

        Args:
            strategy: the strategy's name.
            strategy_version: the version that found the candidates. A model of another version is unfit:
                other parameters or position rules make other candidates and other outcomes.

        Raises:
            ObjectStoreError: the store does not answer.
        """
        try:
            promotion = current_models.read_current(self._store, strategy).current
        except (DamagedModelError, NewerVersionError) as error:
            return NoModel(NoModelReason.MODEL_DAMAGED, str(error))
        if promotion is None:
            return NoModel(
                NoModelReason.NO_MODEL,
                f"No model of {strategy} is promoted. `pipeline-assets inference models` says why; "
                f"`pipeline-assets inference train {strategy}` trains one.",
            )
        return self.load(strategy, promotion.model_id, strategy_version)

    def load(
        self, strategy: str, model_id: str, strategy_version: str | None = None
    ) -> LoadedModel | NoModel:
        """Return one model of a strategy, promoted or not, or what is wrong with it; see `current`.

        Raises:
            ObjectStoreError: the store does not answer.
        """
        found = self._loaded.get(strategy)
        if found is None or found.manifest.model_id != model_id:
            read = self._read(strategy, model_id)
            if isinstance(read, NoModel):
                return read
            self._loaded[strategy] = found = read
        unfit = _unfit(found.manifest, strategy_version)
        return found if unfit is None else NoModel(NoModelReason.MODEL_UNFIT, unfit)

    def _read(self, strategy: str, model_id: str) -> LoadedModel | NoModel:
        try:
            manifest = read_manifest(self._store, strategy, model_id)
            if manifest is None:
                return NoModel(
                    NoModelReason.MODEL_DAMAGED,
                    f"The manifest of {strategy} {model_id} is missing. Promote another model, or go back.",
                )
            # Before the file is read: a file of other libraries may not be readable at all.
            unfit = _unfit(manifest, None)
            if unfit is not None:
                return NoModel(NoModelReason.MODEL_UNFIT, unfit)
            body = read_model_file(self._store, manifest, model_files.LARGEST)
            estimator = model_files.load(body, manifest.sha256)
            facts = ModelFacts.model_validate(manifest.facts)
        except (DamagedModelError, NewerVersionError, model_files.ModelFileError) as error:
            return NoModel(NoModelReason.MODEL_DAMAGED, str(error))
        except ValidationError:
            detail = f"The manifest of {strategy} {model_id} is damaged. Promote another model, or go back."
            return NoModel(NoModelReason.MODEL_DAMAGED, detail)
        return LoadedModel(manifest, CandidateModel(estimator, facts))

    def models(self, strategy: str) -> tuple[list[Manifest], list[str]]:
        """Return the manifests of a strategy's models, the training that ended first first, and what is wrong
        with those that cannot be read.

        Raises:
            ObjectStoreError: the store does not answer.
        """

        def read(model_id: str) -> Manifest | str | None:
            try:
                return read_manifest(self._store, strategy, model_id)
            except (DamagedModelError, NewerVersionError) as error:
                return str(error)

        found = self._store.each(read, stored_models(self._store, strategy))
        return (
            [each for each in found if isinstance(each, Manifest)],
            [each for each in found if isinstance(each, str)],
        )

    def history(self, strategy: str) -> CurrentModel:
        """Return the promotions of a strategy, the last of which is current, and the models withdrawn.

        Raises:
            DamagedModelError: the document of the current model is damaged.
            ObjectStoreError: the store does not answer.
        """
        return current_models.read_current(self._store, strategy)

    def promote(self, strategy: str, model_id: str, by: Promoter, at: datetime) -> Outcome:
        """Make a model current if it passed its tests and can be loaded; may be repeated.

        Args:
            strategy: the strategy.
            model_id: the model.
            by: who promotes; see `current_models.promote`.
            at: when; UTC.

        Raises:
            UnknownModelError: there is no such model.
            UnfitModelError: the model did not pass its tests.
            NotUsableError: the model cannot be used: damaged, or of other libraries or features.
            ObjectStoreError: the store does not answer.
        """
        manifest = known_manifest(self._store, strategy, model_id)
        current_models.require_fit(manifest)
        loaded = self.load(strategy, model_id)
        if isinstance(loaded, NoModel):
            raise NotUsableError(f"{strategy} {model_id} is not promoted. {loaded.detail}")
        return current_models.promote(self._store, manifest, by, at)

    def go_back(self, strategy: str, away_from: str, at: datetime) -> CurrentModel:
        """Make the model current that was so before; see `current_models.go_back`."""
        return current_models.go_back(self._store, strategy, away_from, at)


def _unfit(manifest: Manifest, strategy_version: str | None) -> str | None:
    """Return why a model does not fit this installation or a strategy; None if it does."""
    named = f"{manifest.strategy} {manifest.model_id}"
    if not manifest.passes:
        return f"{named} did not pass: {'; '.join(manifest.failures)}"
    if strategy_version is not None and manifest.strategy_version != strategy_version:
        return (
            f"{named} was trained for version {manifest.strategy_version} of the strategy, and the "
            f"candidate is of {strategy_version}. Train a model of this version."
        )
    columns = input_columns()
    if manifest.columns != columns:
        changed = sorted({*manifest.columns} ^ {*columns}) or ["their order"]
        return (
            f"{named} has other input columns than this release: {', '.join(changed)}. Train again."
        )
    other = _other_libraries(manifest.libraries)
    return f"{named} was stored with {other}. Train again." if other else None


def _other_libraries(stored: Mapping[str, str]) -> str:
    """Return which library has another minor release, in words; scikit-learn promises nothing then."""
    here = model_files.libraries()
    name = "scikit-learn"
    if stored.get(name, "").split(".")[:2] == here[name].split(".")[:2]:
        return ""
    return f"{name} {stored.get(name)}, and {here[name]} is installed"
