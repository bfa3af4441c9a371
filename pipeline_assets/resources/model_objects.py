"""Trained models as objects on the lake: their keys, their manifest and their files. Which model of a
strategy is current is in current_models.py; what a model file holds is in research/model_files.py.

`models/{strategy}/{model_id}/` holds `model.skops`, `card.html` and `manifest.json`. They are written once,
the manifest last: a model without a manifest does not exist, and a repeated run continues with what stands.
"""

import hashlib
import json
import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from pipeline_assets.errors import DataError, InputError
from pipeline_assets.market.candidates import UtcTime
from pipeline_assets.resources.document_versions import content_of
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.once_documents import read_once, write_once
from pipeline_assets.resources.s3_errors import DamagedObjectError
from pipeline_assets.resources.stored_objects import digest_of

PREFIX = "models/"
MANIFEST, FILE, CARD = "manifest.json", "model.skops", "card.html"
# A strategy's name is a part of the key, so it must not be able to name another one's models.
StrategyName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
_ID = r"[0-9]{8}-[0-9a-f]{12}"
ModelId = Annotated[str, Field(pattern=f"^{_ID}$")]


class UnknownModelError(InputError):
    """A strategy has no model of this id. The message names both."""


class DamagedModelError(DataError):
    """A model's manifest or file is not what was written, or is missing. The message names the key."""


class Training(BaseModel):
    """The description of a training: what went in, and how the model did on data that it had not seen.

    Attributes:
        strategy: the strategy whose candidates the model judges.
        strategy_version: that strategy's version: code, parameters and position rules.
        trained_from: the open time of the first candidate; UTC.
        trained_to: the time before which the last candidate lies; UTC.
        data_checksum: SHA-256 over candidates, features and labels.
        columns: the input columns, in the order of the matrix.
        facts: the plain data that makes a `CandidateModel` of the estimator, as JSON.
        metrics: figures out of sample, by name.
        baselines: the mean net return a candidate of each baseline, out of sample.
        passes: whether the model is better than every baseline after costs, and calibrated.
        failures: the tests that it failed, in words.
        code_version: the release, and a fingerprint of code and settings.
        libraries: the versions of the libraries that the model file depends on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: StrategyName
    strategy_version: str
    trained_from: UtcTime
    trained_to: UtcTime
    data_checksum: str
    columns: tuple[str, ...]
    facts: dict[str, Any]
    metrics: dict[str, FiniteFloat]
    baselines: dict[str, FiniteFloat]
    passes: bool
    failures: tuple[str, ...]
    code_version: str
    libraries: dict[str, str]

    def identity(self) -> str:
        """Return the model's id: the day of the training's end, and a digest of all attributes.

        A repeated training has the same id, so its files are written once.
        """
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        return f"{self.trained_to:%Y%m%d}-{digest[:12]}"


class Manifest(Training):
    """A stored model: its training, and its file.

    Attributes:
        model_id: what `Training.identity` returned.
        parent: the model that was current when this one was trained.
        sha256: of the model file.
        size: of the model file, in bytes.
        created_at: when it was stored; UTC.
    """

    model_id: ModelId
    parent: ModelId | None
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=1)
    created_at: UtcTime


def model_key(strategy: str, model_id: str, name: str) -> str:
    """Return the key of one of a model's three objects."""
    return f"{PREFIX}{strategy}/{model_id}/{name}"


def write_model(
    store: ObjectStore,
    training: Training,
    body: bytes,
    card: bytes,
    *,
    parent: str | None,
    created_at: datetime,
) -> Manifest:
    """Store a model; return the manifest that stands then, from whichever run. May be repeated.

    A run that died after the model file was written left it there. The repeated run keeps that file, whose
    estimator is the same: the id names data, code, parameters and results.

    Raises:
        ObjectStoreError: the store does not answer, or an object that stands is damaged.
        DamagedModelError: the manifest that stands cannot be read.
    """
    model_id = training.identity()
    held = write_once(store, model_key(training.strategy, model_id, FILE), body)
    write_once(store, model_key(training.strategy, model_id, CARD), card)
    manifest = Manifest(
        **dict(training),
        model_id=model_id,
        parent=parent,
        sha256=digest_of(held),
        size=len(held),
        created_at=created_at,
    )
    key = model_key(training.strategy, model_id, MANIFEST)
    return _decoded(store, key, write_once(store, key, manifest.model_dump_json().encode()))


def read_manifest(store: ObjectStore, strategy: str, model_id: str) -> Manifest | None:
    """Return a model's manifest, or None if there is no such model.

    Raises:
        DamagedModelError: the manifest cannot be read, is another model's, or has no digest: somebody may
            have edited it.
        NewerVersionError: a newer release wrote it.
        ObjectStoreError: the store does not answer.
    """
    if not re.fullmatch(_ID, model_id):
        return None
    key = model_key(strategy, model_id, MANIFEST)
    found = store.find(key)
    if found is None:
        return None
    if found.digest is None:
        raise DamagedModelError(
            f"{store.address(key)} has no SHA-256 in its metadata: another program wrote it, or copied it "
            "without metadata. Restore the object with its metadata, or train again."
        )
    try:
        body = store.verified(key, found)
    except DamagedObjectError as error:
        raise DamagedModelError(str(error)) from None
    manifest = _decoded(store, key, body)
    if (manifest.strategy, manifest.model_id) != (strategy, model_id):
        raise DamagedModelError(
            f"{store.address(key)} is the manifest of {manifest.strategy} {manifest.model_id}."
        )
    return manifest


def known_manifest(store: ObjectStore, strategy: str, model_id: str) -> Manifest:
    """Return the manifest of a model that exists.

    Raises:
        UnknownModelError: there is no such model.
        DamagedModelError: see `read_manifest`, also for further errors.
    """
    manifest = read_manifest(store, strategy, model_id)
    if manifest is None:
        raise UnknownModelError(
            f"{strategy} has no model {model_id}. `pipeline-assets inference models` lists them."
        )
    return manifest


def read_model_file(store: ObjectStore, manifest: Manifest, largest: int) -> bytes:
    """Return the bytes of a model's file, compared with the manifest.

    Args:
        store: the lake.
        manifest: the model.
        largest: a larger file is refused and not read.

    Raises:
        DamagedModelError: the file is missing, larger or not the one of the manifest.
        ObjectStoreError: the store does not answer.
    """
    key = model_key(manifest.strategy, manifest.model_id, FILE)
    address = store.address(key)
    sizes = [each.size for each in store.objects(key.removesuffix(FILE)) if each.key == key]
    if not sizes:
        raise DamagedModelError(f"{address} is missing, and its manifest is there.")
    if sizes[0] != manifest.size or sizes[0] > largest:
        raise DamagedModelError(
            f"{address} has {sizes[0]} bytes; its manifest says {manifest.size}, and {largest} are allowed."
        )
    found = store.find(key)
    # The digest of the manifest decides: who changes the file can change its own metadata, too.
    if found is None or digest_of(found.body) != manifest.sha256:
        raise DamagedModelError(f"{address} is not the file whose SHA-256 is in its manifest.")
    return found.body


def read_card(store: ObjectStore, strategy: str, model_id: str) -> bytes:
    """Return the model card of a stored model, an HTML page.

    Raises:
        UnknownModelError: there is no such model.
        DamagedModelError: the manifest or the card cannot be read, or the card is missing.
        ObjectStoreError: the store does not answer.
    """
    known_manifest(store, strategy, model_id)
    key = model_key(strategy, model_id, CARD)
    try:
        card = read_once(store, key)
    except DamagedObjectError as error:
        raise DamagedModelError(str(error)) from None
    if card is None:
        raise DamagedModelError(f"{store.address(key)} is missing, and its manifest is there.")
    return card


def stored_models(store: ObjectStore, strategy: str) -> list[str]:
    """Return the ids of a strategy's models, the training that ended first first."""
    prefix = f"{PREFIX}{strategy}/"
    named = re.compile(f"{re.escape(prefix)}({_ID})/{re.escape(MANIFEST)}")
    found = (named.fullmatch(each.key) for each in store.objects(prefix))
    return sorted(each[1] for each in found if each)


def _decoded(store: ObjectStore, key: str, body: bytes) -> Manifest:
    try:
        content, _ = content_of(json.loads(body), store.address(key))
        return Manifest.model_validate_json(json.dumps(content))
    # Both pydantic's and JSON's errors are ValueErrors; JSON that is nested too deeply is the other.
    except (ValueError, RecursionError) as error:
        raise DamagedModelError(
            f"{store.address(key)} is damaged: it is no manifest ({type(error).__name__}). "
            "docs/operations.md (Damaged objects) says what to do."
        ) from None
