"""Objects that no model file may hold. Tests import this module when they run: scikit-learn takes seconds."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import FunctionTransformer


class Unlisted(BaseEstimator):
    """An estimator of another library."""


def made(kind: str) -> Any:
    """Return an object of a type that is not listed."""
    return {
        "estimator": KNeighborsClassifier(),
        "function": FunctionTransformer(np.exp),
        "ufunc": np.exp,
        "state": {"seed": np.random.RandomState(1)},
        "method": KNeighborsClassifier().fit,
    }[kind]
