"""Which model of a strategy decides: `models/{strategy}/current.json`, with the history that `back` needs.
The models themselves are in model_objects.py.

The document changes only upon what was read, so of two promoters the later one sees the earlier one's model.
Which of them is current in the end does not depend on their order: the check never promotes a model that was
trained before the current one, nor one that a person went back from.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, PlainSerializer, TypeAdapter

from pipeline_assets.errors import InputError
from pipeline_assets.market.candidates import UtcTime
from pipeline_assets.resources.lake_documents import read_document, update_document
from pipeline_assets.resources.model_objects import (
    PREFIX,
    DamagedModelError,
    Manifest,
    ModelId,
)
from pipeline_assets.resources.object_store import ObjectStore

# Promotions and withdrawals that are kept. A strategy is trained once a week.
_KEPT = 200
_Time = Annotated[UtcTime, PlainSerializer(datetime.isoformat)]


class UnfitModelError(InputError):
    """A model did not pass its tests, so it is not promoted. The message names what it failed."""


class Promoter(StrEnum):
    """Who promotes: the asset check after a training, or a person by command."""

    CHECK = "check"
    PERSON = "person"


class Outcome(StrEnum):
    """The result of a promotion."""

    PROMOTED = "promoted"
    ALREADY = "already current"
    SUPERSEDED = "the current model was trained later"
    WITHDRAWN = "a person went back from this model"


class Promotion(BaseModel):
    """A model that became current; times are UTC."""

    model_config = ConfigDict(frozen=True)

    model_id: ModelId
    trained_to: _Time
    created_at: _Time
    promoted_at: _Time
    by: Promoter


class Withdrawal(BaseModel):
    """A model that a person went back from, at a UTC time."""

    model_config = ConfigDict(frozen=True)

    model_id: ModelId
    at: _Time


class CurrentModel(BaseModel):
    """The promotions of a strategy's models that still count, and the models that a person went back from.

    The last promotion is the current one.
    """

    model_config = ConfigDict(frozen=True)

    promotions: tuple[Promotion, ...] = ()
    withdrawn: tuple[Withdrawal, ...] = ()

    @property
    def current(self) -> Promotion | None:
        """The promotion of the model that decides, or None if there is none."""
        return self.promotions[-1] if self.promotions else None

    def is_withdrawn(self, model_id: str) -> bool:
        """Return whether a person went back from this model."""
        return any(each.model_id == model_id for each in self.withdrawn)


_DOCUMENT: TypeAdapter[CurrentModel] = TypeAdapter(CurrentModel)


def current_key(strategy: str) -> str:
    """Return the key of the document."""
    return f"{PREFIX}{strategy}/current.json"


def read_current(store: ObjectStore, strategy: str) -> CurrentModel:
    """Return which model is current, and the history; empty where none was promoted.

    Raises:
        DamagedModelError: the document is damaged, so which model is current is unknown.
        NewerVersionError: a newer release wrote it.
        ObjectStoreError: the store does not answer.
    """
    wrong: list[str] = []
    held = read_document(store, current_key(strategy), _DOCUMENT, left_out=wrong)
    if wrong:
        raise DamagedModelError(
            f"{store.address(current_key(strategy))} is damaged ({wrong[0]}), so no model of {strategy} is "
            f"current. Choose one: pipeline-assets inference models, then promote {strategy} MODEL."
        )
    return held or CurrentModel()


def require_fit(manifest: Manifest) -> None:
    """Refuse a model that did not pass its tests.

    Raises:
        UnfitModelError: it did not.
    """
    if not manifest.passes:
        raise UnfitModelError(
            f"{manifest.strategy} {manifest.model_id} is not promoted, for it did not pass. "
            f"{' '.join(manifest.failures) or 'No reason was recorded.'}"
        )


def promote(store: ObjectStore, manifest: Manifest, by: Promoter, at: datetime) -> Outcome:
    """Make a model current if it passed its tests; may be repeated, and run beside other promoters.

    A person may promote a model that is older than the current one, or was withdrawn. A damaged document is
    replaced by a person's promotion alone: the check would not know what was withdrawn.

    Args:
        store: the lake.
        manifest: the model. Its file was loaded before by the caller.
        by: who promotes.
        at: when; UTC.

    Raises:
        UnfitModelError: the model did not pass.
        DamagedModelError: the document is damaged, and the check promotes.
        ObjectStoreError: the store does not answer.
    """
    require_fit(manifest)
    if by is Promoter.CHECK:
        read_current(store, manifest.strategy)
    outcome = Outcome.PROMOTED

    def change(found: CurrentModel | None) -> CurrentModel | None:
        nonlocal outcome
        held = found or CurrentModel()
        outcome = _judged(held, manifest, by)
        return found if outcome is not Outcome.PROMOTED else _promoted(held, manifest, by, at)

    update_document(store, current_key(manifest.strategy), _DOCUMENT, change)
    return outcome


def go_back(store: ObjectStore, strategy: str, away_from: str, at: datetime) -> CurrentModel:
    """Make the model current that was so before; return what is current then.

    Nothing changes if another model than `away_from` is current: the command was repeated, or another person
    was faster. Before the first model there was none, and every candidate is declined again.

    Args:
        store: the lake.
        strategy: the strategy.
        away_from: the id of the model that the caller saw as current.
        at: when; UTC.

    Raises:
        DamagedModelError: the document is damaged.
        ObjectStoreError: the store does not answer.
    """
    read_current(store, strategy)

    def change(found: CurrentModel | None) -> CurrentModel | None:
        if found is None or found.current is None or found.current.model_id != away_from:
            return found
        withdrawn = (*found.withdrawn, Withdrawal(model_id=away_from, at=at))[-_KEPT:]
        earlier = tuple(each for each in found.promotions if each.model_id != away_from)
        return CurrentModel(promotions=earlier, withdrawn=withdrawn)

    return update_document(store, current_key(strategy), _DOCUMENT, change) or CurrentModel()


def _judged(held: CurrentModel, manifest: Manifest, by: Promoter) -> Outcome:
    current = held.current
    if current is not None and current.model_id == manifest.model_id:
        return Outcome.ALREADY
    if by is Promoter.PERSON:
        return Outcome.PROMOTED
    if held.is_withdrawn(manifest.model_id):
        return Outcome.WITHDRAWN
    newest = (manifest.trained_to, manifest.created_at)
    if current is not None and (current.trained_to, current.created_at) >= newest:
        return Outcome.SUPERSEDED
    return Outcome.PROMOTED


def _promoted(held: CurrentModel, manifest: Manifest, by: Promoter, at: datetime) -> CurrentModel:
    promotion = Promotion(
        model_id=manifest.model_id,
        trained_to=manifest.trained_to,
        created_at=manifest.created_at,
        promoted_at=at,
        by=by,
    )
    return CurrentModel(
        promotions=(*held.promotions, promotion)[-_KEPT:],
        withdrawn=tuple(each for each in held.withdrawn if each.model_id != manifest.model_id),
    )
