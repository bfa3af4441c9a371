"""Models on a real S3 server: written once, promoted by conditional writes, whole after a crash."""

import json
from collections.abc import Callable
from datetime import datetime

import pytest

from pipeline_assets.resources.current_models import (
    Outcome,
    Promoter,
    UnfitModelError,
    current_key,
    go_back,
    promote,
    read_current,
)
from pipeline_assets.resources.document_versions import NewerVersionError
from pipeline_assets.resources.model_objects import (
    FILE,
    MANIFEST,
    DamagedModelError,
    Manifest,
    model_key,
    read_manifest,
    read_model_file,
    stored_models,
    write_model,
)
from pipeline_assets.resources.object_store import ObjectStore
from pipeline_assets.resources.stored_objects import FoundObject
from pipeline_assets_tests.fixtures.models import DAY, NOON, STRATEGY, training
from pipeline_assets_tests.fixtures.s3 import S3Bucket

CHECK, PERSON = Promoter.CHECK, Promoter.PERSON
LATER = NOON + 8 * DAY


class DiedError(Exception):
    """The process ends here."""


class DyingStore(ObjectStore):
    """A store whose process dies before or after its writes of these numbers."""

    def __init__(self, bucket: S3Bucket, number: int, *, written: bool) -> None:
        super().__init__(bucket.settings())
        self.left, self.written = number, written

    def put_if(self, key: str, body: bytes, expected_etag: str | None) -> str:
        self.left -= 1
        if self.left == -1 and not self.written:
            raise DiedError
        etag = super().put_if(key, body, expected_etag)
        if self.left == -1:
            raise DiedError
        return etag


class InterruptedStore(ObjectStore):
    """A store in which something else happens between a read and the first write that follows."""

    def __init__(self, bucket: S3Bucket, between: Callable[[], object]) -> None:
        super().__init__(bucket.settings())
        self.between: Callable[[], object] | None = between

    def put_if(self, key: str, body: bytes, expected_etag: str | None) -> str:
        between, self.between = self.between, None
        if between is not None:
            between()
        return super().put_if(key, body, expected_etag)


@pytest.fixture
def store(s3_bucket: S3Bucket) -> ObjectStore:
    return ObjectStore(s3_bucket.settings())


def write(
    store: ObjectStore,
    day: int = 0,
    body: bytes = b"file",
    at: datetime = NOON,
    passes: bool = True,
) -> Manifest:
    """Store a model whose training ended so many days after NOON."""
    failures = () if passes else ("worse than never trading",)
    made = training(trained_to=NOON + day * DAY, passes=passes, failures=failures)
    return write_model(store, made, body, b"<p>", parent=None, created_at=at)


def current(store: ObjectStore) -> str | None:
    held = read_current(store, STRATEGY).current
    return None if held is None else held.model_id


def keys(store: ObjectStore) -> list[str]:
    return [each.key for each in store.objects("models/")]


def test_repeated_training_writes_nothing(store: ObjectStore) -> None:
    """A repeat whose file has other bytes, as skops makes them, gets the model that stands."""
    first = write(store)
    assert write(store, body=b"other bytes", at=LATER) == first
    assert read_manifest(store, STRATEGY, first.model_id) == first
    assert read_model_file(store, first, 100) == b"file"
    assert stored_models(store, STRATEGY) == [first.model_id]
    assert len(keys(store)) == 3


def test_other_results_make_another_model() -> None:
    """Data, code, parameters and results are the identity."""
    others: list[dict[str, object]] = [
        {"metrics": {"net per candidate": 0.002}},
        {"data_checksum": "1" * 64},
        {"code_version": "0.2.0"},
        {"strategy_version": "2-abcdef01"},
        {"passes": False},
    ]
    made = {training().identity(), *(training(**each).identity() for each in others)}
    assert len(made) == len(others) + 1


@pytest.mark.parametrize("number", [0, 1, 2, 3])
@pytest.mark.parametrize("written", [False, True])
def test_crash_repeats_to_the_same(s3_bucket: S3Bucket, number: int, written: bool) -> None:
    """After a death around any write, the repeated run ends with one whole, promoted model."""
    dying = DyingStore(s3_bucket, number, written=written)
    with pytest.raises(DiedError):
        promote(dying, write(dying), CHECK, LATER)
    store = ObjectStore(s3_bucket.settings())
    manifest = write(store, body=b"of the repeated run")
    promote(store, manifest, CHECK, LATER)
    expected = b"of the repeated run" if (number, written) == (0, False) else b"file"
    assert read_model_file(store, manifest, 100) == expected
    assert current(store) == manifest.model_id
    assert len(read_current(store, STRATEGY).promotions) == 1
    assert len(keys(store)) == 4


@pytest.mark.parametrize("late", [1, 2])
def test_race_ends_with_newer_model(s3_bucket: S3Bucket, late: int) -> None:
    """Two runs promote at once: the model that was trained later is current, whichever writes first."""
    store = ObjectStore(s3_bucket.settings())
    models = {day: write(store, day) for day in (1, 2)}
    promote(store, write(store, 0), CHECK, LATER)
    interrupted = InterruptedStore(
        s3_bucket, lambda: promote(store, models[3 - late], CHECK, LATER)
    )
    outcome = promote(interrupted, models[late], CHECK, LATER)
    assert outcome is (Outcome.PROMOTED if late == 2 else Outcome.SUPERSEDED)
    assert current(store) == models[2].model_id


def test_first_promoters_race(s3_bucket: S3Bucket) -> None:
    """Neither of two first promotions is lost."""
    store = ObjectStore(s3_bucket.settings())
    older, newer = write(store, 0), write(store, 1)
    interrupted = InterruptedStore(s3_bucket, lambda: promote(store, older, CHECK, LATER))
    promote(interrupted, newer, CHECK, LATER)
    assert current(store) == newer.model_id
    assert go_back(store, STRATEGY, newer.model_id, LATER).current.model_id == older.model_id


@pytest.mark.parametrize("by", list(Promoter))
def test_failed_model_is_never_promoted(store: ObjectStore, by: Promoter) -> None:
    failed = write(store, passes=False)
    with pytest.raises(UnfitModelError, match="worse than never trading"):
        promote(store, failed, by, LATER)
    assert current(store) is None


def test_back_restores_and_withdraws(store: ObjectStore) -> None:
    """The check does not promote again what a person went back from; a person may."""
    older, newer = write(store, 0), write(store, 1)
    for each in (older, newer):
        assert promote(store, each, CHECK, LATER) is Outcome.PROMOTED
    go_back(store, STRATEGY, newer.model_id, LATER)
    assert current(store) == older.model_id
    assert promote(store, newer, CHECK, LATER) is Outcome.WITHDRAWN
    assert promote(store, newer, PERSON, LATER) is Outcome.PROMOTED
    assert promote(store, newer, CHECK, LATER) is Outcome.ALREADY
    assert current(store) == newer.model_id


def test_back_counts_once(s3_bucket: S3Bucket) -> None:
    """Two persons go back from the same model at once, and one repeats: it is one step back."""
    store = ObjectStore(s3_bucket.settings())
    models = [write(store, day) for day in range(3)]
    for each in models:
        promote(store, each, CHECK, LATER)
    newest = models[2].model_id
    interrupted = InterruptedStore(s3_bucket, lambda: go_back(store, STRATEGY, newest, LATER))
    for _ in range(2):
        go_back(interrupted, STRATEGY, newest, LATER)
        assert current(store) == models[1].model_id


def test_back_before_first_is_none(store: ObjectStore) -> None:
    first = write(store)
    promote(store, first, CHECK, LATER)
    assert go_back(store, STRATEGY, first.model_id, LATER).current is None
    assert current(store) is None


def test_person_promotes_older_model(store: ObjectStore) -> None:
    older, newer = write(store, 0), write(store, 1)
    promote(store, newer, CHECK, LATER)
    assert promote(store, older, CHECK, LATER) is Outcome.SUPERSEDED
    assert promote(store, older, PERSON, LATER) is Outcome.PROMOTED
    assert current(store) == older.model_id


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"promotions": [{"model_id": "../x"}]}'])
def test_damaged_current_is_not_believed(store: ObjectStore, body: bytes) -> None:
    """The check would not know what was withdrawn; a person's promotion replaces it, after a copy."""
    manifest = write(store)
    store.put(current_key(STRATEGY), body)
    with pytest.raises(DamagedModelError, match="no model of macd_cross is current"):
        read_current(store, STRATEGY)
    for change in (
        lambda: promote(store, manifest, CHECK, LATER),
        lambda: go_back(store, STRATEGY, manifest.model_id, LATER),
    ):
        with pytest.raises(DamagedModelError):
            change()
    assert promote(store, manifest, PERSON, LATER) is Outcome.PROMOTED
    assert current(store) == manifest.model_id
    [kept] = store.objects("damaged/")
    assert store.get(kept.key) == body


def test_newer_current_is_left(store: ObjectStore) -> None:
    """A release does not change the document of a newer one."""
    manifest = write(store)
    store.put(current_key(STRATEGY), b'{"version": 2, "models": {}}')
    for by in Promoter:
        with pytest.raises(NewerVersionError):
            promote(store, manifest, by, LATER)


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 100_000, b"null", b'{"model_id": "x"}'])
def test_damaged_manifest_is_refused(store: ObjectStore, body: bytes) -> None:
    model_id = write(store).model_id
    store.put(model_key(STRATEGY, model_id, MANIFEST), body)
    with pytest.raises(DamagedModelError, match="no manifest"):
        read_manifest(store, STRATEGY, model_id)


def test_manifest_of_another_is_refused(store: ObjectStore) -> None:
    """A manifest that was copied to another model's place names the wrong file."""
    first, second = write(store, 0), write(store, 1)
    body = store.get(model_key(STRATEGY, first.model_id, MANIFEST))
    assert body is not None
    store.put(model_key(STRATEGY, second.model_id, MANIFEST), body)
    with pytest.raises(DamagedModelError, match=first.model_id):
        read_manifest(store, STRATEGY, second.model_id)


def test_newer_manifest_is_named(store: ObjectStore) -> None:
    model_id = write(store).model_id
    key = model_key(STRATEGY, model_id, MANIFEST)
    store.put(key, json.dumps({"version": 2, "model_id": model_id}).encode())
    with pytest.raises(NewerVersionError, match="update this installation"):
        read_manifest(store, STRATEGY, model_id)


def test_replaced_file_is_refused(store: ObjectStore) -> None:
    """The digest of the manifest decides, not that of the object's own metadata."""
    manifest = write(store)
    key = model_key(STRATEGY, manifest.model_id, FILE)
    store.put(key, b"elif")
    with pytest.raises(DamagedModelError, match="SHA-256"):
        read_model_file(store, manifest, 100)
    store.put(key, b"longer")
    with pytest.raises(DamagedModelError, match="has 6 bytes"):
        read_model_file(store, manifest, 100)
    store.delete([key])
    with pytest.raises(DamagedModelError, match="is missing"):
        read_model_file(store, manifest, 100)


def test_oversized_file_is_not_read(s3_bucket: S3Bucket) -> None:
    """The size is taken from the listing, so that a large file costs no memory."""

    class UnreadStore(ObjectStore):
        def find(self, key: str) -> FoundObject | None:
            raise AssertionError(f"{key} is read")

    manifest = write(ObjectStore(s3_bucket.settings()))
    with pytest.raises(DamagedModelError, match="3 are allowed"):
        read_model_file(UnreadStore(s3_bucket.settings()), manifest, 3)
