"""A fitted estimator as the bytes of a skops file, and back. Nothing is unpickled: a file that holds any type
but those listed here is refused before an object is made. The files' place is resources/model_objects.py's.

The list is closed and shorter than that of skops, which trusts every estimator of scikit-learn. A file of a
listed type can still hold wrong numbers, so the trees of gradient boosting, whose nodes scikit-learn follows
without a look at their bounds, are checked too.
"""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from pipeline_assets.errors import DataError
from pipeline_assets.outside_text import printable
from pipeline_assets.resources.stored_objects import digest_of

if TYPE_CHECKING:
    from pipeline_assets.research.candidate_model import Estimator

# A model of a year of candidates has less than two megabytes.
LARGEST = 32 * 2**20
_LARGEST_UNPACKED = 256 * 2**20
_MOST_PARTS = 20_000
# skops' number of the format that is read here; constraints.txt pins the release.
_PROTOCOL = 2
_SCHEMA = "schema.json"
_TREES = "sklearn.ensemble._hist_gradient_boosting"
# Each type that a file may hold, by the part of skops that makes it.
_ALLOWED: Mapping[str, frozenset[str]] = {
    "DictNode": frozenset({"builtins.dict"}),
    "ListNode": frozenset({"builtins.list"}),
    "TupleNode": frozenset({"builtins.tuple"}),
    "JsonNode": frozenset({"builtins.str"}),
    # The types of a dict's keys.
    "TypeNode": frozenset({"builtins.str"}),
    "NdArrayNode": frozenset(
        f"numpy.{name}" for name in ("ndarray", "bool", "float64", "int64", "uint64", "str_")
    ),
    "DTypeNode": frozenset({"numpy.dtype"}),
    "RandomGeneratorNode": frozenset({"numpy.random._generator.Generator"}),
    "SliceNode": frozenset({"builtins.slice"}),
    "LossNode": frozenset({"sklearn._loss._loss.CyHalfBinomialLoss"}),
    "ObjectNode": frozenset(
        {
            "sklearn._loss.link.Interval",
            "sklearn._loss.link.LogitLink",
            "sklearn._loss.loss.HalfBinomialLoss",
            "sklearn.calibration.CalibratedClassifierCV",
            "sklearn.calibration._CalibratedClassifier",
            "sklearn.calibration._SigmoidCalibration",
            "sklearn.compose._column_transformer.ColumnTransformer",
            f"{_TREES}.binning._BinMapper",
            f"{_TREES}.gradient_boosting.HistGradientBoostingClassifier",
            f"{_TREES}.predictor.TreePredictor",
            "sklearn.frozen._frozen.FrozenEstimator",
            "sklearn.impute._base.MissingIndicator",
            "sklearn.impute._base.SimpleImputer",
            "sklearn.isotonic.IsotonicRegression",
            "sklearn.linear_model._logistic.LogisticRegression",
            "sklearn.pipeline.Pipeline",
            "sklearn.preprocessing._data.StandardScaler",
            "sklearn.preprocessing._label.LabelEncoder",
            "sklearn.preprocessing._polynomial.PolynomialFeatures",
        }
    ),
}
# Errors of skops, NumPy and zipfile for a file that is not what they wrote.
_MALFORMED = (
    *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError),
    *(ImportError, EOFError, MemoryError, zipfile.BadZipFile),
)


class ModelFileError(DataError):
    """A model file is refused. The message says why, and names a type that is not listed."""


def libraries() -> dict[str, str]:
    """Return the versions of the libraries that a file of this process depends on."""
    return {name: version(name) for name in ("scikit-learn", "skops", "numpy")}


def dump(estimator: "Estimator") -> bytes:
    """Return a fitted estimator as a file; it is read again here, so that training fails and not inference.

    Raises:
        ModelFileError: the estimator holds a type that is not listed, or the file is too large.
    """
    import skops.io

    body = cast("bytes", skops.io.dumps(estimator, compression=zipfile.ZIP_DEFLATED))
    load(body, digest_of(body))
    return body


def load(body: bytes, sha256: str) -> "Estimator":
    """Return the estimator of a file.

    Args:
        body: the file.
        sha256: the digest that its manifest names.

    Raises:
        ModelFileError: the file is too large, is not the one of the digest, is damaged, or holds a type that
            is not listed.
    """
    if len(body) > LARGEST:
        raise ModelFileError(f"The model file has {len(body)} bytes; {LARGEST} are allowed.")
    if digest_of(body) != sha256:
        raise ModelFileError(
            "The model file is not the one that was written: its SHA-256 is not the manifest's."
        )
    try:
        return _estimator(body)
    except _MALFORMED as error:
        raise ModelFileError(
            f"The model file is damaged: {type(error).__name__}: {printable(error)}"
        ) from None


def _estimator(body: bytes) -> "Estimator":
    import skops.io

    with zipfile.ZipFile(io.BytesIO(body)) as held:
        parts = held.infolist()
        size = sum(each.file_size for each in parts)
        if size > _LARGEST_UNPACKED or len(parts) > _MOST_PARTS:
            raise ModelFileError(
                f"The model file unpacks to {size} bytes in {len(parts)} parts; {_LARGEST_UNPACKED} bytes in "
                f"{_MOST_PARTS} parts are allowed."
            )
        _check_types(json.loads(held.read(_SCHEMA)))
    listed = sorted(name for names in _ALLOWED.values() for name in names)
    estimator = skops.io.loads(body, trusted=listed)
    if not callable(getattr(estimator, "predict_proba", None)):
        raise ModelFileError(
            f"The model file holds a {type(estimator).__name__}, which predicts no probability."
        )
    for each in _objects(estimator):
        if type(each).__name__ == "HistGradientBoostingClassifier":
            _check_trees(each)
    return cast("Estimator", estimator)


def _check_types(schema: Any) -> None:
    """Compare every type that a file names with the list; the file's own order of the parts is no matter.

    Raises:
        ModelFileError: a type is not listed, or the format is another one.
    """
    if schema["protocol"] != _PROTOCOL:
        raise ModelFileError(
            f"The model file has format {printable(schema['protocol'])} of skops; this release reads "
            f"{_PROTOCOL}. Train the model again."
        )
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            waiting += node.values()
            if "__class__" in node or "__loader__" in node:
                _check_type(node)


def _check_type(node: Mapping[str, Any]) -> None:
    maker, name = node.get("__loader__"), f"{node.get('__module__')}.{node.get('__class__')}"
    if name not in _ALLOWED.get(str(maker), ()):
        raise ModelFileError(
            f"The model file holds a type that is not allowed: {printable(name)} ({printable(maker)})."
        )


def _objects(top: Any) -> Iterator[Any]:
    """Yield the objects of scikit-learn that an estimator holds, and the estimator itself."""
    waiting, seen = [top], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, list | tuple):
            waiting += each
        elif isinstance(each, dict):
            waiting += each.values()
        elif type(each).__module__.startswith("sklearn.") and hasattr(each, "__dict__"):
            yield each
            waiting += vars(each).values()


def _check_trees(boosted: Any) -> None:
    """Refuse trees whose nodes lead out of the tree, back into it, or to a column that is not there.

    Raises:
        ModelFileError: a tree is such.
    """
    import numpy as np

    for trees in boosted._predictors:
        for tree in trees:
            nodes = tree.nodes
            inner = nodes[nodes["is_leaf"] == 0]
            places = np.flatnonzero(nodes["is_leaf"] == 0)
            forward = all(
                np.all((inner[side] > places) & (inner[side] < len(nodes)))
                for side in ("left", "right")
            )
            columns = inner["feature_idx"]
            known = np.all((columns >= 0) & (columns < boosted.n_features_in_))
            if not len(nodes) or not forward or not known or np.any(inner["is_categorical"]):
                raise ModelFileError(
                    "The model file holds a tree whose nodes lead to no place of it."
                )
