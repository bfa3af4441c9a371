"""The registry over a real S3 server: a model that judges, or the reason why there is none."""

import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from pipeline_assets.research.model_registry import (
    LoadedModel,
    ModelRegistry,
    NoModel,
    NotUsableError,
)
from pipeline_assets.resources.current_models import Outcome, Promoter, UnfitModelError, current_key
from pipeline_assets.resources.model_objects import (
    FILE,
    MANIFEST,
    DamagedModelError,
    Manifest,
    UnknownModelError,
    model_key,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.stored_objects import digest_of
from pipeline_assets_tests.fixtures.models import (
    COLUMNS,
    DAY,
    KINDS,
    NOON,
    STRATEGY,
    VERSION,
    estimator,
    examples,
    model_file,
    stored,
)
from pipeline_assets_tests.fixtures.s3 import S3Bucket

CHECK = Promoter.CHECK
CURRENT = current_key(STRATEGY)


@pytest.fixture
def store(s3_bucket: S3Bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


@pytest.fixture
def registry(store: ObjectStore) -> ModelRegistry:
    return ModelRegistry(store)


def reason(registry: ModelRegistry, version: str | None = None) -> tuple[str, str]:
    """Return why there is no model, and the explanation."""
    found = registry.current(STRATEGY, version)
    assert isinstance(found, NoModel)
    return found.reason, found.detail


@pytest.mark.parametrize("kind", KINDS)
def test_promoted_model_judges_as_trained(
    store: ObjectStore, registry: ModelRegistry, kind: str
) -> None:
    manifest = stored(store, kind)
    assert registry.promote(STRATEGY, manifest.model_id, CHECK, NOON) is Outcome.PROMOTED
    found = registry.current(STRATEGY, VERSION)
    assert isinstance(found, LoadedModel)
    assert found.manifest == manifest
    matrix, _ = examples()
    inputs = pl.DataFrame(matrix, schema=list(COLUMNS)).with_columns(id=pl.lit("candidate"))
    expected = estimator(kind).predict_proba(matrix)[:, 1]
    judged = [each.probability for each in found.model.judge(inputs)]
    assert np.array_equal(judged, expected)


def test_without_promotion_no_model(store: ObjectStore, registry: ModelRegistry) -> None:
    assert reason(registry)[0] == "no_model"
    stored(store)
    assert reason(registry)[0] == "no_model"


def test_unchanged_model_is_read_once(
    store: ObjectStore, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll costs one small read; another promotion is noticed by it."""
    older, newer = stored(store), stored(store, trained_to=NOON + DAY)
    registry.promote(STRATEGY, older.model_id, CHECK, NOON)
    first = registry.current(STRATEGY)
    read: list[str] = []
    find = ObjectStore.find
    monkeypatch.setattr(
        ObjectStore, "find", lambda self, key: (read.append(key), find(self, key))[1]
    )
    assert registry.current(STRATEGY) is first
    assert read == [CURRENT]
    ModelRegistry(store).promote(STRATEGY, newer.model_id, CHECK, NOON)
    found = registry.current(STRATEGY)
    assert isinstance(found, LoadedModel)
    assert found.manifest == newer


def replace_file(store: ObjectStore, manifest: Manifest, body: bytes) -> None:
    """Store another file with the manifest that fits."""
    store.put(model_key(STRATEGY, manifest.model_id, FILE), body)
    replace_manifest(store, manifest, sha256=digest_of(body), size=len(body))


def replace_manifest(store: ObjectStore, manifest: Manifest, **changes: object) -> None:
    held = manifest.model_dump(mode="json") | changes
    key = model_key(STRATEGY, manifest.model_id, MANIFEST)
    store.put(key, json.dumps(held).encode())


def unlisted_file() -> bytes:
    """Return a file of an estimator that is not listed; scikit-learn is imported when a test runs."""
    import skops.io

    from pipeline_assets_tests.research.unlisted_types import made

    return skops.io.dumps(made("estimator"))


DAMAGES: dict[str, Callable[[ObjectStore, Manifest], object]] = {
    "current": lambda store, _: store.put(CURRENT, b"{"),
    "newer current": lambda store, _: store.put(CURRENT, b'{"version": 9}'),
    "manifest": lambda store, held: store.put(
        model_key(STRATEGY, held.model_id, MANIFEST), b"no manifest"
    ),
    "newer manifest": lambda store, held: store.put(
        model_key(STRATEGY, held.model_id, MANIFEST), b'{"version": 9}'
    ),
    "no manifest": lambda store, held: store.delete([model_key(STRATEGY, held.model_id, MANIFEST)]),
    "file": lambda store, held: store.put(
        model_key(STRATEGY, held.model_id, FILE), b"a" * held.size
    ),
    "short file": lambda store, held: store.put(model_key(STRATEGY, held.model_id, FILE), b""),
    "truncated with manifest": lambda store, held: replace_file(store, held, model_file()[:2000]),
    "unlisted type with manifest": lambda store, held: replace_file(store, held, unlisted_file()),
    "no file": lambda store, held: store.delete([model_key(STRATEGY, held.model_id, FILE)]),
    "facts": lambda store, held: replace_manifest(store, held, facts={"columns": []}),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damaged_model_is_not_used(store: ObjectStore, registry: ModelRegistry, what: str) -> None:
    manifest = stored(store)
    registry.promote(STRATEGY, manifest.model_id, CHECK, NOON)
    DAMAGES[what](store, manifest)
    assert reason(ModelRegistry(store))[0] == "model_damaged"


def test_manifest_of_another_program_is_refused(
    store: ObjectStore, registry: ModelRegistry, s3_bucket: S3Bucket
) -> None:
    """A manifest that was edited by hand has no digest: it cannot be compared with what training wrote."""
    manifest = stored(store, passes=False, failures=["no better than chance"])
    key = model_key(STRATEGY, manifest.model_id, MANIFEST)
    edited = json.dumps(manifest.model_dump(mode="json") | {"passes": True, "failures": []})
    s3_bucket.client.put_object(Bucket=s3_bucket.name, Key=key, Body=edited.encode())
    with pytest.raises(DamagedModelError, match="SHA-256"):
        registry.promote(STRATEGY, manifest.model_id, CHECK, NOON)


UNFIT: dict[str, tuple[dict[str, object], str]] = {
    "failed": ({"passes": False, "failures": ["no better than chance"]}, "no better than chance"),
    "columns": ({"columns": [*COLUMNS[:-1], "f1h_gone"]}, f"{COLUMNS[-1]}, f1h_gone"),
    "order": ({"columns": COLUMNS[::-1]}, "their order"),
    "library": ({"libraries": {"scikit-learn": "1.2.0"}}, "scikit-learn 1.2.0, and"),
}


@pytest.mark.parametrize("what", UNFIT)
def test_unfit_model_is_not_used(store: ObjectStore, registry: ModelRegistry, what: str) -> None:
    """Renamed features, another release of scikit-learn, or a manifest that says that the model failed."""
    changes, named = UNFIT[what]
    manifest = stored(store)
    registry.promote(STRATEGY, manifest.model_id, CHECK, NOON)
    replace_manifest(store, manifest, **changes)
    why, detail = reason(ModelRegistry(store))
    assert why == "model_unfit"
    assert named in detail


def test_other_strategy_version_is_unfit(store: ObjectStore, registry: ModelRegistry) -> None:
    registry.promote(STRATEGY, stored(store).model_id, CHECK, NOON)
    why, detail = reason(registry, "2-abcdef01")
    assert why == "model_unfit"
    assert "2-abcdef01" in detail


def test_unusable_model_is_not_promoted(store: ObjectStore, registry: ModelRegistry) -> None:
    """A model that cannot be loaded or failed its tests never becomes current."""
    with pytest.raises(UnknownModelError, match="has no model"):
        registry.promote(STRATEGY, "20261122-0123456789ab", CHECK, NOON)
    failed = stored(store, passes=False, failures=("no better than chance",))
    with pytest.raises(UnfitModelError, match="no better than chance"):
        registry.promote(STRATEGY, failed.model_id, Promoter.PERSON, NOON)
    damaged = stored(store)
    store.put(model_key(STRATEGY, damaged.model_id, FILE), b"a" * damaged.size)
    with pytest.raises(NotUsableError, match="SHA-256"):
        registry.promote(STRATEGY, damaged.model_id, Promoter.PERSON, NOON)
    assert reason(registry)[0] == "no_model"


def test_damaged_manifest_hides_no_other(store: ObjectStore, registry: ModelRegistry) -> None:
    older, newer = stored(store), stored(store, trained_to=NOON + DAY)
    store.put(model_key(STRATEGY, older.model_id, MANIFEST), b"{")
    found, problems = registry.models(STRATEGY)
    assert found == [newer]
    assert [older.model_id in each for each in problems] == [True]
