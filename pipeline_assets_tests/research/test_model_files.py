"""Model files: what they hold comes back, and anything else is refused by name before an object is made."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline_assets.research import model_files
from pipeline_assets.research.model_files import ModelFileError, dump, load
from pipeline_assets.resources.stored_objects import digest_of
from pipeline_assets_tests.fixtures.models import COLUMNS, KINDS, estimator, examples, model_file


def dumped(value: Any) -> bytes:
    """Return a file of anything. Workers without these tests do without skops, whose import takes seconds."""
    import skops.io

    return skops.io.dumps(value)


def read(body: bytes) -> Any:
    """Load a file by its own digest, as if the manifest had been changed with it."""
    return load(body, digest_of(body))


def changed(body: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return a file whose schema was changed."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as held, zipfile.ZipFile(made, "w") as written:
        for part in held.namelist():
            content = held.read(part)
            if part == "schema.json":
                schema = json.loads(content)
                change(schema)
                content = json.dumps(schema).encode()
            written.writestr(part, content)
    return made.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back(kind: str) -> None:
    matrix, _ = examples()
    found = read(model_file(kind)).predict_proba(matrix)
    assert np.array_equal(found, estimator(kind).predict_proba(matrix))


@pytest.mark.parametrize("cut", [0, 1, 100, 2000, -1])
def test_truncated_file_is_refused(cut: int) -> None:
    """The digest tells; with a digest of the truncated file, the format does."""
    body = model_file()
    with pytest.raises(ModelFileError, match="SHA-256"):
        load(body[:cut], digest_of(body))
    with pytest.raises(ModelFileError, match="damaged"):
        read(body[:cut])


def test_tampered_file_is_refused() -> None:
    body = bytearray(model_file())
    body[len(body) // 2] ^= 1
    with pytest.raises(ModelFileError, match="SHA-256"):
        load(bytes(body), digest_of(model_file()))


def test_pickle_is_refused() -> None:
    """A pickle that would run a command is no model file."""
    with pytest.raises(ModelFileError, match="damaged"):
        read(pickle.dumps(estimator()))


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        # skops trusts every estimator of scikit-learn by itself.
        ("estimator", "sklearn.neighbors._classification.KNeighborsClassifier"),
        ("function", "sklearn.preprocessing._function_transformer"),
        ("ufunc", "numpy.exp"),
        ("state", "numpy.random.mtrand.RandomState"),
        ("method", "MethodNode"),
    ],
)
def test_unlisted_type_is_refused(kind: str, named: str) -> None:
    from pipeline_assets_tests.research.unlisted_types import made

    with pytest.raises(ModelFileError, match="not allowed") as error:
        read(dumped(made(kind)))
    assert named in str(error.value)


def test_dump_refuses_unlisted_type() -> None:
    """A training whose estimator could not be read again fails."""
    from pipeline_assets_tests.research.unlisted_types import Unlisted

    with pytest.raises(ModelFileError, match="Unlisted"):
        dump(Unlisted())


def test_earlier_format_is_refused() -> None:
    """A file could choose the laxer readers of an earlier format."""
    with pytest.raises(ModelFileError, match="format 0 of skops"):
        read(changed(model_file(), lambda schema: schema.update(protocol=0)))


def test_changed_class_is_refused() -> None:
    with pytest.raises(ModelFileError, match=r"os\.system"):
        read(
            changed(model_file(), lambda schema: schema.update(__module__="os", __class__="system"))
        )


@pytest.mark.parametrize(
    "schema",
    ["[]", "{}", "null", '{"protocol": 2}', '{"protocol": 2, "__class__": 1}', "[" * 100_000],
)
def test_odd_schema_is_refused(schema: str) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as written:
        written.writestr("schema.json", schema)
    with pytest.raises(ModelFileError):
        read(made.getvalue())


def test_oversized_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the file and what it unpacks to have a limit."""
    monkeypatch.setattr(model_files, "_LARGEST_UNPACKED", 10_000)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("schema.json", b" " * 10_001)
    assert len(made.getvalue()) < 1_000
    with pytest.raises(ModelFileError, match="unpacks to 10001"):
        read(made.getvalue())
    monkeypatch.setattr(model_files, "LARGEST", 100)
    with pytest.raises(ModelFileError, match="100 are allowed"):
        read(model_file())


def test_file_without_predictor_is_refused() -> None:
    with pytest.raises(ModelFileError, match="predicts no probability"):
        read(dumped({"a": [1.5]}))


@pytest.mark.parametrize(
    ("column", "value"),
    [("left", 0), ("right", 1_000_000), ("feature_idx", len(COLUMNS)), ("feature_idx", -1)],
)
def test_wild_tree_is_refused(column: str, value: int) -> None:
    """scikit-learn would read outside of the matrix, or never end."""
    import skops.io

    made = skops.io.loads(model_file(), trusted=skops.io.get_untrusted_types(data=model_file()))
    tree = made.calibrated_classifiers_[0].estimator.estimator._predictors[0][0]
    tree.nodes[column][0] = value
    with pytest.raises(ModelFileError, match="no place"):
        read(dumped(made))
